"""The settings of `ftkit sft` beside TRL's."""

from dataclasses import dataclass

from trl import SFTConfig

from ftkit.config.errors import UserError
from ftkit.config.settings.common import DataArguments, ModelArguments, TrainerArguments, setting
from ftkit.config.settings.needs import Need, Needs, never
from ftkit.config.settings.rates import SFT_RATES
from ftkit.config.settings.ternary import TernaryArguments
from ftkit.config.versions import has_fused_head


@dataclass
class SFTArguments(TernaryArguments, TrainerArguments, SFTConfig):
    """TRL's SFTConfig with defaults for the hardware at hand."""

    packing: bool | None = setting(None, "Put several rows into one sequence. Default: on where rows stay isolated.")
    learning_rate: float | None = setting(
        None, "Peak learning rate. Default: 2e-5, with PEFT 2e-4; below 50 M parameters 5e-4, 2e-3."
    )
    max_length: int | None = setting(
        1024, "Longest row in tokens; a longer one loses its end. Blocks of packed rows have a length of their own."
    )
    before_after: bool | None = setting(
        None, "Answer held-out rows before and after training. Default: where it costs under a tenth of the run."
    )

    learning_rates = SFT_RATES

    def __post_init__(self):
        super().__post_init__()
        if self.label_smoothing_factor and not has_fused_head():
            raise UserError("--label_smoothing_factor needs TRL 1.16 or newer (Python 3.11); upgrade, or drop it")

    needs = Needs([
        Need(("assistant_only_loss", "completion_only_loss"), never,
             "has no effect: ftkit always trains the answers and their end token only; drop it"),
        Need(("chat_template_path",), never,
             "is TRL's; use --template NAME|FILE|auto"),
        Need(("dataset_text_field", "dataset_kwargs", "dataset_num_proc", "truncation_mode"), never,
             "is for TRL's own reading of rows; ftkit has read and cut them already; drop it"),
        Need(("model_init_kwargs",), never,
             "is TRL's; ftkit loads the model by flags of its own; drop it"),
        Need(("packing_strategy", "eval_packing"), lambda asked: asked.training.packing is not False,
             "without --packing: rows stay apart; drop one of them"),
        Need(("packing_strategy",), lambda asked: asked.training.packing_strategy != "wrapped",
             "wrapped lets rows see each other; use bfd or bfd_split"),
    ])  # fmt: skip


SETTINGS = (DataArguments, ModelArguments, SFTArguments)
