"""The settings of `ftkit classify` beside transformers' own. Imports TRL, as `ftkit.config.settings.common` does."""

from dataclasses import dataclass, field

from trl.trainer.base_config import _BaseConfig

from ftkit.config.errors import UserError, did_you_mean
from ftkit.config.settings.common import DataArguments, FileArguments, ModelArguments, TrainerArguments, setting
from ftkit.config.settings.needs import Need, Needs, never
from ftkit.config.settings.rates import CLASSIFY_RATES, HEAD

MEASURES = ("loss", "accuracy", "precision", "recall", "f1", "matthews_correlation", "roc_auc", "brier")
LOWER_IS_BETTER = ("loss", "brier")
NOT_USED = "Not used: a classifier has no LM head."


@dataclass
class ClassificationDataArguments(FileArguments):
    """Where the labelled rows come from."""

    needs = DataArguments.needs

    test_size: float | None = setting(
        None, "Share or number of rows held out as test rows where there is no test split."
    )
    validation_size: float | None = setting(
        None,
        "Share or number of training rows held out to choose the best weights where no validation split is there.",
    )
    class_names: list[str] | None = field(
        default=None,
        metadata={"help": "The classes in order. Default: the names found, sorted."},
    )
    positive_label: str | None = setting(None, "Of two classes, the one that F1 is about. Default: the second.")
    class_weights: list[str] = field(
        default_factory=lambda: ["none"],
        metadata={"help": "Weight of a class in the loss: none, balanced (by rarity), or NAME=2.5 for some."},
    )

    def __post_init__(self):
        if not self.dataset_name:
            raise UserError("--dataset_name is missing; give a file, a folder, a bundled name or a Hub id")
        if self.dataset_streaming:
            raise UserError("--dataset_streaming: classes are counted before training, so all rows are read; drop it")
        for name in ("test_size", "validation_size"):
            size = getattr(self, name)
            if size is not None and size <= 0:
                raise UserError(f"--{name} is {size}; give a share such as 0.1 or a number of rows")
        for name in ("class_names", "class_weights"):  # TRL unpacks lists of one
            value = getattr(self, name)
            setattr(self, name, [value] if isinstance(value, str) else value)
        if self.class_names and len(set(self.class_names)) < max(2, len(self.class_names)):
            raise UserError(f"--class_names {' '.join(self.class_names)}: give at least two names, each once")


@dataclass
class ClassifierModelArguments(ModelArguments):
    """Which weights of a classifier are trained."""

    peft_method: str = setting("lora", "What --use_peft trains.", choices=["lora"])
    num_trained_layers: int | None = setting(
        None, "Train the head and this many last layers only; 0 trains the head alone. Default: all weights."
    )

    def __post_init__(self):
        super().__post_init__()
        if self.adapter:
            raise UserError(
                "--adapter: a head starts a new adapter; merge the old one (ftkit adapters merge) and give the result"
            )
        if self.num_trained_layers is not None and self.use_peft:
            raise UserError("--num_trained_layers with --use_peft: PEFT freezes the base already; drop one of them")
        if self.num_frozen_layers:
            raise UserError("--num_frozen_layers: for a classifier give --num_trained_layers, counted from the head")


@dataclass
class ClassificationArguments(TrainerArguments, _BaseConfig):
    """transformers' TrainingArguments with defaults for the hardware at hand and for classifiers."""

    max_length: int | None = setting(512, "Longest text in tokens; a longer one loses its end.")
    learning_rate: float | None = setting(
        None, "Peak learning rate. Default: 2e-5, with PEFT 2e-4, head alone 1e-3; below 50 M parameters 3e-4, 2e-3."
    )
    early_stopping_patience: int | None = setting(
        None, "Stop after this many evaluations without a better --metric_for_best_model, and keep the best weights."
    )
    metric_for_best_model: str | None = setting(None, "What the best weights are chosen by.", choices=list(MEASURES))
    trust_remote_code: bool = setting(False, "Run Python code that comes with the model.")
    num_samples: int = setting(3, "Held-out texts whose predicted class is shown at each evaluation.")
    compact_loss_head: bool | None = setting(False, NOT_USED)
    loss_head_kernel: str = setting("auto", NOT_USED, choices=["auto", "compact", "trl"])
    sample_max_new_tokens: int = setting(0, NOT_USED)

    needs = Needs([
        Need(("compact_loss_head", "loss_head_kernel", "sample_max_new_tokens"), never,
             "has no effect: a classifier has no LM head; drop it"),
        Need(("save_strategy",), lambda asked: not asked.training.early_stopping_patience,
             "with --early_stopping_patience: weights are saved at each evaluation; drop it"),
        Need(("save_steps",), lambda asked: not asked.training.early_stopping_patience,
             "with --early_stopping_patience: weights are saved at each evaluation; see --eval_steps"),
        Need(("greater_is_better",), lambda asked: not asked.training.early_stopping_patience,
             "with --early_stopping_patience follows from --metric_for_best_model; drop it"),
    ])  # fmt: skip
    learning_rates = CLASSIFY_RATES

    def __post_init__(self):
        if self.early_stopping_patience is not None and self.early_stopping_patience < 1:
            raise UserError(f"--early_stopping_patience is {self.early_stopping_patience}; give 1 or more evaluations")
        if self.benchmark_tasks:
            raise UserError("--benchmark_tasks asks a language model; a classifier is measured on its test rows")
        if self.metric_for_best_model and self.best_metric not in MEASURES:
            hint = did_you_mean(self.best_metric, MEASURES)
            raise UserError(f"--metric_for_best_model {self.best_metric}{hint}; known are {', '.join(MEASURES)}")
        super().__post_init__()

    def configured(self, decided: dict):
        """As for every trainer; tokens are counted without padding."""
        return super().configured({**decided, "include_num_input_tokens_seen": "non_padding"})

    def trained_part(self, model) -> str:
        """All weights, an adapter, or the head alone."""
        return HEAD if model.num_trained_layers == 0 else super().trained_part(model)

    @property
    def looks_for_best(self) -> bool:
        """As for every trainer, and where training stops early."""
        return bool(super().looks_for_best or self.early_stopping_patience)

    @property
    def chooses_best(self) -> bool:
        """Whether held-out rows decide which weights are kept."""
        return bool(self.load_best_model_at_end or self.early_stopping_patience)

    @property
    def best_metric(self) -> str:
        """The measure that the best weights are chosen by."""
        return (self.metric_for_best_model or "f1").removeprefix("eval_")

    def higher_is_better(self, metric: str) -> bool:
        """Whether a larger value of a measure is better."""
        return metric not in LOWER_IS_BETTER


SETTINGS = (ClassificationDataArguments, ClassifierModelArguments, ClassificationArguments)
