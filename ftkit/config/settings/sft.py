"""The settings of `ftkit sft` beside TRL's."""

from dataclasses import dataclass

from trl import SFTConfig

from ftkit.config.errors import UserError
from ftkit.config.settings.common import DataArguments, ModelArguments, TrainerArguments, setting


@dataclass
class SFTArguments(TrainerArguments, SFTConfig):
    """TRL's SFTConfig with defaults for the hardware at hand."""

    packing: bool | None = setting(None, "Put several rows into one sequence. Default: on where rows stay isolated.")
    learning_rate: float | None = setting(None, "Peak learning rate. Default: 2e-5 for all weights, 2e-4 with PEFT.")
    max_length: int | None = setting(
        1024, "Longest row in tokens; a longer one loses its end. Blocks of packed rows have a length of their own."
    )

    default_learning_rates = (2e-5, 2e-4)  # all weights, PEFT

    def __post_init__(self):
        if self.assistant_only_loss or self.completion_only_loss is not None:
            raise UserError(
                "ftkit always trains the answers and their end token only; drop --assistant_only_loss "
                "and --completion_only_loss"
            )
        if self.chat_template_path:
            raise UserError("--chat_template_path is TRL's; use --template NAME|FILE|auto")
        if self.packing and self.packing_strategy == "wrapped":
            raise UserError("--packing_strategy wrapped lets rows see each other; use bfd or bfd_split")
        super().__post_init__()


SETTINGS = (DataArguments, ModelArguments, SFTArguments)
