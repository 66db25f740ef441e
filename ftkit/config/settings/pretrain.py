"""The settings of `ftkit pretrain`: raw text, a model from scratch or from weights, and a budget of tokens.

Import this only after the flags were checked (`ftkit.config.parser`): it imports TRL.
"""

from dataclasses import dataclass

from trl.trainer.base_config import _BaseConfig

from ftkit.config.errors import UserError
from ftkit.config.settings.common import DataArguments, FileArguments, ModelArguments, TrainerArguments, plain, setting
from ftkit.config.settings.needs import Need, Needs, never
from ftkit.config.settings.rates import NEW_MODEL, PRETRAIN_RATES
from ftkit.config.settings.ternary import TernaryArguments

FROM_SCRATCH = (
    "preset", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "intermediate_size",
    "dropout",
)  # fmt: skip
WITH_MINIMUM = ("cosine", "warmup_stable_decay")  # schedules that end at a share of the peak


@dataclass
class PretrainDataArguments(FileArguments):
    """Where the text comes from and how it becomes blocks."""

    needs = Needs([
        *DataArguments.needs,
        Need(("document_separator",), lambda asked: not asked.data.dataset_streaming,
             "has no effect with --dataset_streaming: each row or line is a document; drop it"),
    ])  # fmt: skip

    dataset_test_split: str = setting("validation", "Split that is held out; `test` where there is no `validation`.")
    test_size: float | None = setting(
        None,
        "Share (below 1) or number of documents held out when the data has no such split; 0 for none. "
        "Default: none, of a single text its last tenth.",
    )
    document_separator: str | None = setting(None, "Text that ends a document within a text file.")
    block_size: int = setting(512, "Tokens of a block: documents are joined, an end token after each, and cut here.")
    isolate_documents: bool = setting(False, "Let a document see nothing of the documents in front of it in its block.")

    def __post_init__(self):
        if not self.dataset_name:
            raise UserError("--dataset_name is missing; give text files, a folder, a bundled name or a Hub id")
        if self.test_size is not None and self.test_size < 0:
            raise UserError(f"--test_size is {self.test_size}; give a share such as 0.01 or a number of documents")
        if self.block_size < 2:
            raise UserError(f"--block_size is {self.block_size}; a block needs at least 2 tokens")


@dataclass
class PretrainModelArguments(ModelArguments):
    """a model from scratch, by its sizes, or weights to train on."""

    preset: str = setting("llama", "Shape of a new FTGPT.", choices=["llama", "gpt2"])
    tokenizer: str | None = setting(None, "Tokenizer of a new model: a folder that `ftkit tokenizer` saved, or any.")
    hidden_size: int = setting(256, "Hidden size of a new model.")
    num_hidden_layers: int = setting(6, "Layers of a new model.")
    num_attention_heads: int = setting(4, "Attention heads of a new model.")
    num_key_value_heads: int | None = setting(None, "Key/value heads of a new model; as many as heads if not given.")
    intermediate_size: int | None = setting(None, "Width of the MLP of a new model; by the preset if not given.")
    dropout: float = setting(0.0, "Dropout of a new model.")  # one or two passes over the text do not overfit

    model_is_required = False
    needs = Needs([
        Need(FROM_SCRATCH, lambda asked: asked.model.is_new,
             "is of a new model, and weights are given; drop one of them"),
        Need(("ftgpt",), lambda asked: not asked.model.is_new, "has no effect: a new model is an FTGPT; drop it"),
        Need(("dtype",), lambda asked: not asked.model.is_new or asked.model.dtype in ("auto", "float32"),
             "of a new model is float32; see --bf16 and --save_dtype"),
    ])  # fmt: skip

    def __post_init__(self):
        super().__post_init__()
        if self.num_frozen_layers and self.is_new:
            raise UserError("--num_frozen_layers needs trained weights; give --model_name_or_path, or drop it")
        if self.is_new and (self.use_peft or self.load_in_4bit or self.load_in_8bit):
            raise UserError("--use_peft and --load_in_*bit need trained weights; give --model_name_or_path")
        if self.is_new and not self.tokenizer:
            raise UserError(
                "a new model needs --tokenizer FOLDER (ftkit tokenizer makes one); weights need --model_name_or_path"
            )

    @property
    def is_new(self) -> bool:
        """Whether the model starts from random weights."""
        return not self.model_name_or_path and not self.adapter


@dataclass
class PretrainArguments(TernaryArguments, TrainerArguments, _BaseConfig):
    """Transformers' TrainingArguments with what pretraining wants, and a budget."""

    learning_rate: float | None = setting(
        None, "Peak learning rate. Default: a new model 1e-3, from 50 M parameters 6e-4 to 2e-4; weights 1e-4."
    )
    max_tokens: float | None = setting(None, "Budget of tokens, such as 1.5e7; ends the run like --max_steps.")
    decay_share: float = setting(0.2, "Part of the run in which warmup_stable_decay lowers the learning rate.")
    min_learning_rate_share: float = setting(0.1, "Where cosine and warmup_stable_decay end, as a share of the peak.")
    save_dtype: str = setting(
        "float32", "Precision of the weights that are saved at the end.", choices=["float32", "bfloat16"]
    )
    trust_remote_code: bool = setting(False, "Run the code that a model's folder or repository brings.")
    lr_scheduler_type: str = setting("cosine", "Schedule: cosine, warmup_stable_decay, or another of transformers'.")
    warmup_steps: float = setting(0.02, "Steps, or share of the run below 1, in which the learning rate rises.")
    weight_decay: float = setting(0.1, "Decoupled weight decay, of matrices only.")  # GPT-3, appendix B
    adam_beta2: float = setting(0.95, "Decay of Adam's second moment.")  # GPT-3, appendix B
    dataloader_drop_last: bool = setting(True, "Leave out the last, smaller batch of a pass.")
    remove_unused_columns: bool = setting(False, "Leave out columns that the model does not take.")

    needs = Needs([
        Need(("decay_share",), lambda asked: plain(asked.training.lr_scheduler_type) == "warmup_stable_decay",
             "belongs to --lr_scheduler_type warmup_stable_decay; drop one of them"),
        Need(("min_learning_rate_share",), lambda asked: plain(asked.training.lr_scheduler_type) in WITH_MINIMUM,
             f"belongs to the schedules {' and '.join(WITH_MINIMUM)}; drop it"),
        Need(("decay_share", "min_learning_rate_share"), lambda asked: not asked.training.lr_scheduler_kwargs,
             "with --lr_scheduler_kwargs: both describe the schedule; drop one of them"),
        Need(("remove_unused_columns",), never, "has no effect: blocks hold what is needed alone; drop it"),
        Need(("num_train_epochs",), lambda asked: not asked.training.max_tokens, "--max_tokens ends the run", False),
    ])  # fmt: skip
    learning_rates = PRETRAIN_RATES
    loss_type = "nll"  # the loss is a mean over tokens, which the compact head makes use of

    def trained_part(self, model) -> str:
        """A new model from random weights, or trained ones."""
        return NEW_MODEL if model.is_new else super().trained_part(model)

    def __post_init__(self):
        if self.max_tokens is not None and self.max_tokens < 1:
            raise UserError(f"--max_tokens is {self.max_tokens:g}; give a number of tokens such as 1.5e7")
        if self.max_tokens and self.max_steps > 0:
            raise UserError("--max_tokens and --max_steps both end the run; give one of them")
        for name in ("decay_share", "min_learning_rate_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"--{name} is {getattr(self, name):g}; give a share from 0 to 1")
        super().__post_init__()


SETTINGS = (PretrainDataArguments, PretrainModelArguments, PretrainArguments)
