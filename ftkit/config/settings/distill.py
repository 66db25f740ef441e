"""The settings of `ftkit distill` beside TRL's."""

from dataclasses import dataclass

from trl import DistillationConfig

from ftkit.config.errors import UserError
from ftkit.config.settings.common import DataArguments, ModelArguments, TrainerArguments, setting
from ftkit.config.settings.needs import Need, Needs, never
from ftkit.config.settings.rates import SFT_RATES, Rates

ROWS, STUDENT, TEACHER = "rows", "student", "teacher"  # whose answers are trained on
OWN_RATES: Rates = {name: tuple((size, rate / 2) for size, rate in steps) for name, steps in SFT_RATES.items()}


def is_of_rows(asked) -> bool:
    """Whether the student is held to the teacher on the rows' own answers."""
    return asked.training.answers == ROWS


def samples(asked) -> bool:
    """Whether the student answers."""
    return asked.training.answers == STUDENT


@dataclass
class DistillDataArguments(DataArguments):
    """Rows with answers, which are trained on or replaced by the student's or the teacher's."""

    needs = Needs([
        Need(("dataset_streaming",), never, "reads rows as they come, and a teacher is asked about all; drop it"),
        Need(("add_template_tokens",), lambda asked: asked.training.answers == TEACHER,
             "makes tokens that the teacher does not have; drop it, or give --answers teacher"),
    ])  # fmt: skip


@dataclass
class DistillArguments(TrainerArguments, DistillationConfig):
    """TRL's DistillationConfig with defaults for the hardware at hand, and what is kept of a teacher."""

    teacher_model_name_or_path: str | None = setting(
        None, "The teacher: a Hub id, a folder, a bundled name, or an adapter's folder; --teacher for short."
    )
    teacher_dtype: str | None = setting(
        None,
        "Precision of the teacher's weights. Default: bfloat16 where it is fast, else float32.",
        choices=["bfloat16", "float16", "float32"],
    )
    answers: str = setting(
        "rows",
        "Whose answers are trained on: those of the rows, the student's own samples, or answers that the teacher "
        "writes, as a text, for any two tokenizers.",
        choices=["rows", "student", "teacher"],
    )
    teacher_top_k: int = setting(
        64, "Tokens of the teacher's distribution that are kept at each place, all others as one; 0: the whole of it, "
        "with the teacher in memory while the student trains."
    )  # fmt: skip
    hard_label_weight: float = setting(
        0.0, "Share of the rows' own answers in the loss, as labels; the rest is the divergence from the teacher."
    )
    beta: float | None = setting(
        None, "0: forward KL, 0.5: JSD, 1: reverse KL. Default: 0, of own answers 1."
    )  # fmt: skip
    temperature: float = setting(
        1.0, "Softens both distributions, whose loss is then times its square; with --answers student as TRL does, "
        "which samples at it too and does not multiply."
    )  # fmt: skip
    learning_rate: float | None = setting(
        None, "Peak learning rate. Default: as of sft, for own answers half of it."
    )  # fmt: skip
    max_length: int | None = setting(1024, "Longest row in tokens; a longer one loses its end.")
    max_completion_length: int = setting(256, "Longest answer of the student or the teacher, in tokens.")
    loss_head_kernel: str = setting(
        "auto", "Not used: both heads are read in chunks.", choices=["auto", "compact", "trl"]
    )

    learning_rates = SFT_RATES  # by what is trained; lower where answers are the student's own, with its mistakes

    needs = Needs([
        Need(("teacher_top_k", "hard_label_weight"), is_of_rows, "belongs to --answers rows; drop one of them"),
        Need(("beta", "temperature"), lambda asked: asked.training.answers != TEACHER,
             "has no effect on answers that the teacher wrote, which are labels; drop it"),
        Need(("max_completion_length",), lambda asked: asked.training.answers != ROWS,
             "is of answers that are written, and those of the rows are there; drop it"),
        Need(("compact_loss_head",), lambda asked: not samples(asked),
             "has no effect with --answers student: TRL reads both heads in chunks; drop it"),
        Need(("top_p", "top_k", "min_p", "repetition_penalty", "generation_kwargs", "cache_implementation"), never,
             "has no effect: a student samples its own distribution, at --temperature; drop it"),
        Need(("use_vllm", "log_completions"), samples,
             "is about the student's samples; add --answers student, or drop it"),
        Need(("label_smoothing_factor",), never, "has no effect on a teacher's probabilities; drop it"),
        Need(("loss_head_kernel",), never, "has no effect: both heads are read in chunks; drop it"),
        Need(("train_sampling_strategy",), lambda asked: not samples(asked),
             "has no effect with --answers student: TRL mixes prompts itself; drop it"),
        Need(("model_init_kwargs", "teacher_model_init_kwargs", "teacher_model_revision", "chat_template_kwargs",
              "max_tool_calling_iterations", "ds3_gather_for_generation", "shuffle_dataset", "remove_unused_columns"),
             never, "has no effect: ftkit reads rows and models itself; drop it"),
    ])  # fmt: skip

    def __post_init__(self):
        super().__post_init__()
        if not self.teacher_model_name_or_path:
            raise UserError("--teacher is missing; name the model that the student learns from")
        if self.beta is not None and not 0 <= self.beta <= 1:
            raise UserError(f"--beta is {self.beta:g}; give 0 (forward KL) to 1 (reverse KL)")
        if not 0 <= self.hard_label_weight <= 1:
            raise UserError(f"--hard_label_weight is {self.hard_label_weight:g}; give a share from 0 to 1")
        if self.temperature <= 0:
            raise UserError(f"--temperature is {self.temperature:g}; give more than 0")
        if self.teacher_top_k < 0:
            raise UserError(f"--teacher_top_k is {self.teacher_top_k}; give 1 or more, or 0 for the whole distribution")
        if self.answers == STUDENT:
            self.learning_rates = OWN_RATES

    @property
    def chosen_beta(self) -> float:
        """beta, where nobody chose it forward KL; of the student's own answers reverse KL, as of TRL."""
        return (1.0 if self.answers == STUDENT else 0.0) if self.beta is None else self.beta

    def configured(self, decided: dict):
        """As of every trainer; TRL compares beta with numbers."""
        return super().configured({"beta": self.chosen_beta, **decided})

    def own_decisions(self, facts, reasons: dict) -> dict:
        """beta, and the teacher's precision, where nobody chose them."""
        dtype = self.teacher_dtype or ("bfloat16" if facts.hardware.bf16 else "float32")
        return {"beta": self.chosen_beta, "teacher_dtype": dtype}


SETTINGS = (DistillDataArguments, ModelArguments, DistillArguments)
