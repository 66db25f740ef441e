"""The settings of `ftkit ppo`. Imports TRL, as `ftkit.config.settings.common` does."""

from dataclasses import dataclass

from trl.trainer.base_config import _BaseConfig

from ftkit.config.errors import UserError
from ftkit.config.settings.common import DataArguments, ModelArguments, TrainerArguments, setting
from ftkit.config.settings.needs import Need, Needs, never
from ftkit.config.settings.rates import PPO_RATES

NOT_USED = "Not used: PPO scores its answers itself."


@dataclass
class PPOArguments(TrainerArguments, _BaseConfig):
    """transformers' TrainingArguments with defaults for the hardware at hand and for PPO."""

    learning_rate: float | None = setting(
        None, "Peak learning rate of the policy. Default: 3e-6, with PEFT 3e-5; below 50 M parameters 1e-4, 1e-3."
    )
    value_learning_rate: float = setting(
        1e-3, "Peak learning rate of the value head, a linear map that starts at 0; its trunk has the policy's."
    )
    value_trunk: str = setting(
        "shared", "Layers under the value head: the policy's, or a copy of their own.", choices=["shared", "separate"]
    )
    max_completion_length: int = setting(128, "Longest sampled answer, in tokens.")
    temperature: float = setting(1.0, "Temperature of sampling, and of the probabilities that are learned.")
    num_mini_batches: int = setting(4, "Updates in a pass over the answers of a rollout.")
    num_ppo_epochs: int = setting(4, "Passes over the answers of a rollout.")
    gamma: float = setting(1.0, "Discount of later rewards, per token.")
    lam: float = setting(0.95, "Lambda of the advantages: 1 trusts the rewards alone, 0 the values.")
    cliprange: float = setting(0.2, "How far the probability of a token may move in a rollout, as a ratio to 1.")
    cliprange_value: float = setting(0.2, "How far a value may move in a rollout.")
    vf_coef: float = setting(0.1, "Weight of the value loss.")
    kl_coef: float = setting(0.05, "Weight of the KL divergence from the starting model in the reward of each token.")
    kl_target: float | None = setting(
        None, "KL divergence, in nats per answer, that --kl_coef is adapted to. Default: it stays as it is."
    )
    missing_eos_penalty: float | None = setting(None, "Taken off the score of an answer without its end token.")
    whiten_advantages: bool = setting(True, "Give the advantages of a rollout mean 0 and variance 1.")
    compact_loss_head: bool | None = setting(False, NOT_USED)
    loss_head_kernel: str = setting("auto", NOT_USED, choices=["auto", "compact", "trl"])
    trust_remote_code: bool = setting(False, "Run Python code that comes with the model.")

    learning_rates = PPO_RATES

    needs = Needs([
        Need(("compact_loss_head", "loss_head_kernel"), never, "has no effect: PPO scores its answers itself; drop it"),
        Need(("label_smoothing_factor",), never, "has no effect on sampled answers; drop it"),
    ])  # fmt: skip

    def __post_init__(self):
        super().__post_init__()
        if self.fsdp or self.deepspeed:
            raise UserError("--fsdp and --deepspeed shard the weights, and each process samples by itself; drop it")

    def updates_per_pass(self, num_rows: int, rows_per_batch: int, accumulation: int) -> int:
        """Updates of a pass over the prompts; those that fill no rollout are left for the next pass."""
        rollouts = num_rows // (rows_per_batch * accumulation * self.num_mini_batches)
        return rollouts * self.num_mini_batches * self.num_ppo_epochs


SETTINGS = (DataArguments, ModelArguments, PPOArguments)
