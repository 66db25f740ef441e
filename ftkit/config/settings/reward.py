"""The settings of `ftkit reward` beside TRL's."""

from dataclasses import dataclass

from trl import RewardConfig

from ftkit.config.errors import UserError
from ftkit.config.settings.classify import ClassifierModelArguments
from ftkit.config.settings.common import DataArguments, TrainerArguments, setting
from ftkit.config.settings.needs import Need, Needs, never
from ftkit.config.settings.rates import HEAD, REWARD_RATES

NOT_USED = "Not used: a reward model has no LM head."
NO_CUT = "has no effect: no pair is cut, as a score is read at the end token; use --untrained_rows drop, or drop it"


@dataclass
class RewardDataArguments(DataArguments):
    """Rows with a chosen and a rejected answer."""

    dataset_format: str = setting("auto", "Row format.", choices=["auto", "alpaca", "prompt", "messages"])
    untrained_rows: str = setting(
        "refuse",
        "Pairs longer than --max_length, which are never cut: refuse or drop them.",
        choices=["refuse", "drop"],
    )

    needs = Needs([
        Need(("max_truncated_share", "allow_untrained_end_of_turn", "allow_empty_mask"), never, NO_CUT),
        Need(("add_template_tokens",), never, "has no effect: a reward model writes no token; drop it"),
    ])  # fmt: skip


@dataclass
class RewardArguments(TrainerArguments, RewardConfig):
    """TRL's RewardConfig with defaults for the hardware at hand."""

    learning_rate: float | None = setting(
        None, "Peak learning rate. Default: 1e-5, with PEFT 1e-4, head alone 1e-3; below 50 M parameters 1e-4, 1e-3."
    )
    center_rewards_coefficient: float | None = setting(
        0.01, "Weight of (chosen + rejected)^2 in the loss: keeps scores near 0 (arXiv:2312.09244); 0 for none."
    )
    num_samples: int = setting(3, "Held-out pairs whose two scores are shown at each evaluation.")
    compact_loss_head: bool | None = setting(False, NOT_USED)
    loss_head_kernel: str = setting("auto", NOT_USED, choices=["auto", "compact", "trl"])
    sample_max_new_tokens: int = setting(0, NOT_USED)

    learning_rates = REWARD_RATES
    sequences_per_row = 2

    needs = Needs([
        Need(("compact_loss_head", "loss_head_kernel", "sample_max_new_tokens"), never,
             "has no effect: a reward model has no LM head; drop it"),
        Need(("label_smoothing_factor",), never, "has no effect on pairs; drop it"),
        Need(("eos_token", "pad_token", "chat_template_path"), never,
             "has no effect: the template closes an answer, see --template; drop it"),
        Need(("dataset_num_proc", "model_init_kwargs"), never,
             "has no effect: ftkit reads rows and model itself; drop it"),
    ])  # fmt: skip

    def __post_init__(self):
        if self.benchmark_tasks:
            raise UserError("--benchmark_tasks asks a language model; a reward model is measured on its test rows")
        super().__post_init__()

    def trained_part(self, model) -> str:
        """All weights, an adapter, or the head alone."""
        return HEAD if model.num_trained_layers == 0 else super().trained_part(model)


SETTINGS = (RewardDataArguments, ClassifierModelArguments, RewardArguments)
