"""The settings of `ftkit embed` beside transformers' own; sentence-transformers is not imported for them."""

from dataclasses import dataclass, field
from types import MappingProxyType

from trl.trainer.base_config import _BaseConfig

from ftkit.config.errors import UserError
from ftkit.config.settings.common import DataArguments, FileArguments, ModelArguments, TrainerArguments, setting
from ftkit.config.settings.needs import Need, Needs, never
from ftkit.config.settings.rates import EMBED_RATES

NOT_USED = "Not used: an embedding model has no LM head."
RANKING, TRIPLET = "ranking", "triplet"  # of --loss_type


@dataclass
class EmbedDataArguments(FileArguments):
    """Where the pairs come from, and what is held against them."""

    needs = Needs([
        *DataArguments.needs,
        Need(("negatives_from", "negative_margin"), lambda asked: asked.data.mine_negatives,
             "is about negatives that are mined; add --mine_negatives, or drop it"),
        Need(("negative_margin",), lambda asked: not asked.data.negatives_from,
             "is one of similarities, and an index ranks by words too; drop one of them"),
    ])  # fmt: skip

    dataset_format: str = setting("auto", "Row format.", choices=["auto", "passages", "triplets", "pairs"])
    test_size: float | None = setting(
        None, "Share (below 1) or number of pairs held out, whose passages are searched before and after."
    )
    mine_negatives: int = setting(0, "Passages mined for each question that are near it and not its own; 0 for none.")
    negatives_from: str | None = setting(
        None, "Index (ftkit index) to mine them from. Default: the rows' passages, by the model as it starts."
    )
    negative_margin: float = setting(
        0.05, "A mined passage is to be less similar than the question's own, by this share (arXiv:2407.15831)."
    )

    def __post_init__(self):
        if not self.dataset_name:
            raise UserError("--dataset_name is missing; give a file, a folder, a bundled name or a Hub id")
        if self.dataset_streaming:
            raise UserError("--dataset_streaming: equal texts are kept apart, so all rows are read; drop it")
        if self.test_size is not None and self.test_size <= 0:
            raise UserError(f"--test_size is {self.test_size}; give a share such as 0.1 or a number of rows")


@dataclass
class EmbedModelArguments(ModelArguments):
    """Which encoder is trained, and how it makes one vector of a text."""

    peft_method: str = setting("lora", "What --use_peft trains.", choices=["lora"])
    pooling: str | None = setting(
        None, "The vector is the mean of the tokens' states, or the first's (cls). Default: the model's own, or mean.",
        choices=["mean", "cls"],
    )  # fmt: skip

    def __post_init__(self):
        super().__post_init__()
        if self.adapter:
            raise UserError("--adapter: LoRA of an encoder is merged at the end of its run; give its folder as --model")
        if self.num_frozen_layers:
            raise UserError("--num_frozen_layers is of language models; for an encoder give --use_peft")
        if self.load_in_4bit or self.load_in_8bit:
            raise UserError(
                "--load_in_4bit and --load_in_8bit: LoRA of an encoder is merged at the end, which quantised weights "
                "would not stand; drop it"
            )


@dataclass
class EmbedArguments(TrainerArguments, _BaseConfig):
    """transformers' TrainingArguments with defaults for the hardware at hand and for embedding models."""

    max_length: int | None = setting(
        None, "Longest text in tokens; a longer one loses its end. Default: what the encoder reads, at most 512."
    )
    learning_rate: float | None = setting(
        None, "Peak learning rate. Default: 2e-5, with PEFT 2e-4; below 50 M parameters 5e-5, 5e-4."
    )
    per_device_train_batch_size: int = setting(32, "Pairs at once: each has the others' passages as negatives.")
    per_device_eval_batch_size: int = setting(32, "Held-out pairs at once.")
    loss_type: str = setting(
        "ranking", "ranking: each question's own passage before those of the batch; triplet: before its negative.",
        choices=["ranking", "triplet"],
    )  # fmt: skip
    scale: float = setting(20.0, "What similarities are multiplied by in the ranking loss: 1 / temperature.")
    mini_batch_size: int | None = setting(
        None, "Pairs in memory at once, so that a batch may be larger than memory holds (arXiv:2101.06983)."
    )
    triplet_margin: float = setting(0.2, "By how much less similar the triplet loss wants the negative.")
    matryoshka_dims: list[int] | None = field(
        default=None,
        metadata={"help": "Lengths that a vector may be cut to, such as 384 128 64: the loss is of each."},
    )
    trust_remote_code: bool = setting(False, "Run Python code that comes with the model.")
    num_samples: int = setting(3, "Held-out questions whose nearest passage is shown at each evaluation.")
    compact_loss_head: bool | None = setting(False, NOT_USED)
    loss_head_kernel: str = setting("auto", NOT_USED, choices=["auto", "compact", "trl"])
    sample_max_new_tokens: int = setting(0, NOT_USED)

    needs = Needs([
        Need(("compact_loss_head", "loss_head_kernel", "sample_max_new_tokens"), never,
             "has no effect: an embedding model has no LM head; drop it"),
        Need(("scale", "mini_batch_size"), lambda asked: asked.training.loss_type == RANKING,
             "belongs to --loss_type ranking; drop it"),
        Need(("triplet_margin",), lambda asked: asked.training.loss_type == TRIPLET,
             "belongs to --loss_type triplet; drop it"),
        Need(("label_smoothing_factor", "neftune_noise_alpha", "train_sampling_strategy"), never,
             "has no effect on pairs of texts; drop it"),
    ])  # fmt: skip
    learning_rates = EMBED_RATES
    sequences_per_row = 2
    # What sentence-transformers' trainer reads of its own arguments, and ftkit decides in another place.
    prompts = router_mapping = None
    learning_rate_mapping = MappingProxyType[str, float]({})

    def __post_init__(self):
        if self.benchmark_tasks:
            raise UserError("--benchmark_tasks asks a language model; an embedding model is measured on its test rows")
        if isinstance(self.matryoshka_dims, int):  # TRL unpacks lists of one
            self.matryoshka_dims = [self.matryoshka_dims]
        if self.matryoshka_dims and min(self.matryoshka_dims) < 1:
            raise UserError(f"--matryoshka_dims {min(self.matryoshka_dims)}: give lengths of 1 or more")
        super().__post_init__()

    def configured(self, decided: dict):
        """As for every trainer; an evaluation gives a loss alone."""
        return super().configured({**decided, "prediction_loss_only": True, "ddp_broadcast_buffers": False})


SETTINGS = (EmbedDataArguments, EmbedModelArguments, EmbedArguments)
