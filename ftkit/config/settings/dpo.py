"""The settings of `ftkit dpo` beside TRL's."""

from dataclasses import dataclass

from trl import DPOConfig

from ftkit.config.errors import UserError
from ftkit.config.settings.common import DataArguments, ModelArguments, TrainerArguments, setting


@dataclass
class PreferenceDataArguments(DataArguments):
    """Rows with a chosen and a rejected answer."""

    dataset_format: str = setting("auto", "Row format.", choices=["auto", "alpaca", "prompt", "messages"])


@dataclass
class DPOArguments(TrainerArguments, DPOConfig):
    """TRL's DPOConfig with defaults for the hardware at hand."""

    learning_rate: float | None = setting(None, "Peak learning rate. Default: 1e-6 for all weights, 1e-5 with PEFT.")

    default_learning_rates = (1e-6, 1e-5)  # all weights (TRL's default), PEFT

    def __post_init__(self):
        if self.truncation_mode != "keep_start":
            raise UserError(f"--truncation_mode {self.truncation_mode} would cut the prompt; use keep_start")
        super().__post_init__()


SETTINGS = (PreferenceDataArguments, ModelArguments, DPOArguments)
