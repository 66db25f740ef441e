"""The settings of `ftkit ppo`. Imports TRL, as `ftkit.config.settings.common` does."""

from dataclasses import dataclass

from trl.trainer.base_config import _BaseConfig

from ftkit.config.errors import UserError
from ftkit.config.settings.common import ModelArguments, TrainerArguments, setting
from ftkit.config.settings.grpo import PromptArguments
from ftkit.config.settings.needs import Need, Needs, never
from ftkit.config.settings.rates import PPO_RATES

NOT_USED = "Not used: PPO scores its answers itself."


@dataclass
class PPOModelArguments(ModelArguments):
    """Which weights of the policy are trained."""

    peft_method: str = setting("lora", "What --use_peft trains.", choices=["lora"])

    needs = Needs([
        Need(("lora_dropout",), never, "would train another policy than the one that answers; drop it"),
    ])  # fmt: skip


@dataclass
class PPOArguments(TrainerArguments, _BaseConfig):
    """transformers' TrainingArguments with defaults for the hardware at hand and for PPO."""

    rewards: list[str] | None = setting(
        None, "What an answer is rewarded for: exact_answer, final_number, token_f1, constraints, json, "
        "format:PATTERN, length:20-60, json_schema:FILE, reward_model:FOLDER, judge:MODEL@URL, judge:FOLDER, or "
        "FILE.py:FUNCTION of your own.",
    )  # fmt: skip
    reward_weights: list[float] | None = setting(None, "Weights of several rewards. Default: 1 each.")
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
    receipt_prompts: int = setting(16, "Prompts that are answered before the first step: can anything be learned?")
    start_anyway: bool = setting(False, "Start though the learning receipt says that nothing can be learned.")
    before_after: bool = setting(True, "Reward held-out answers before and after training.")
    whiten_advantages: bool = setting(True, "Give the advantages of a rollout mean 0 and variance 1.")
    compact_loss_head: bool | None = setting(False, NOT_USED)
    loss_head_kernel: str = setting("auto", NOT_USED, choices=["auto", "compact", "trl"])
    trust_remote_code: bool = setting(False, "Run Python code that comes with the model.")

    learning_rates = PPO_RATES

    num_generations = 4  # answers to each prompt of the learning receipt; of a rollout one
    precompute_ref_log_probs = False  # the reference is held in memory

    needs = Needs([
        Need(("compact_loss_head", "loss_head_kernel"), never, "has no effect: PPO scores its answers itself; drop it"),
        Need(("label_smoothing_factor", "neftune_noise_alpha"), never,
             "would train another policy than the one that answers; drop it"),
        Need(("dataloader_num_workers", "dataloader_drop_last", "remove_unused_columns"), never,
             "has no effect: answers are sampled when they are due; drop it"),
    ])  # fmt: skip

    def __post_init__(self):
        super().__post_init__()
        if not self.rewards:
            raise UserError("--rewards is missing; name what an answer is rewarded for, such as --rewards exact_answer")
        self.rewards = [self.rewards] if isinstance(self.rewards, str) else self.rewards
        if self.temperature <= 0:
            raise UserError(
                f"--temperature is {self.temperature:g}, so that all answers are the same; give more than 0"
            )
        if self.fsdp:
            raise UserError("--fsdp splits the weights, and each process samples by itself; drop it")

    def rollout_size(self, num_devices: int) -> int:
        """Answers of a rollout, of all devices together."""
        return self.per_device_train_batch_size * self.gradient_accumulation_steps * self.num_mini_batches * num_devices

    def updates_per_pass(self, num_rows: int, rows_per_batch: int, accumulation: int) -> int:
        """Updates of a pass over the prompts; those that fill no rollout are left for the next pass."""
        rollouts = num_rows // (rows_per_batch * accumulation * self.num_mini_batches)
        return rollouts * self.num_mini_batches * self.num_ppo_epochs


SETTINGS = (PromptArguments, PPOModelArguments, PPOArguments)
