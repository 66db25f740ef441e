"""The settings of `ftkit grpo` beside TRL's: GRPO and its family, and RLOO."""

from dataclasses import dataclass

from trl import GRPOConfig

from ftkit.config.errors import UserError, did_you_mean
from ftkit.config.settings.common import DataArguments, ModelArguments, TrainerArguments, setting
from ftkit.config.settings.needs import Need, Needs, never
from ftkit.config.settings.rates import GRPO_RATES

LOSSES = ("dapo", "dr_grpo", "grpo", "bnpo", "cispo", "sapo", "luspo", "vespo")
SUM, EACH = "sum_then_normalize", "normalize_then_sum"  # of several rewards: TRL's names
BETA, NUM_GENERATIONS = {"grpo": 0.0, "rloo": 0.05}, {"grpo": 8, "rloo": 4}  # a group of two has seldom a spread
OF_GRPO = (
    "loss_type", "importance_sampling_level", "scale_rewards", "multi_objective_aggregation", "delta",
    "top_entropy_quantile", "entropy_coef", "use_adaptive_entropy", "off_policy_mask_threshold",
    "use_bias_correction_kl", "cast_lm_head_to_fp32", "sapo_temperature_neg", "sapo_temperature_pos", "vespo_k_pos",
    "vespo_lambda_pos", "vespo_k_neg", "vespo_lambda_neg",
)  # fmt: skip
OTHER_DISTRIBUTION = ("top_p", "top_k", "min_p", "repetition_penalty", "generation_kwargs")
OF_VLLM = (
    "vllm_mode", "vllm_model_impl", "vllm_enable_sleep_mode", "vllm_structured_outputs_regex", "vllm_server_base_url",
    "vllm_server_host", "vllm_server_port", "vllm_server_timeout", "vllm_group_port", "vllm_gpu_memory_utilization",
    "vllm_max_model_length", "vllm_tensor_parallel_size", "vllm_importance_sampling_correction",
    "vllm_importance_sampling_mode", "vllm_importance_sampling_clip_max", "vllm_importance_sampling_clip_min",
)  # fmt: skip


def is_grpo(asked) -> bool:
    """Whether the algorithm is GRPO's."""
    return asked.training.algorithm == "grpo"


@dataclass
class PromptArguments(DataArguments):
    """Rows with a prompt, and what a reward needs of them."""

    dataset_format: str = setting(
        "auto", "Row format.", choices=["auto", "prompt", "question", "alpaca", "sharegpt", "messages"]
    )
    untrained_rows: str = setting(
        "refuse", "Prompts that leave an answer no room in the model's context.", choices=["refuse", "drop"]
    )

    needs = Needs([
        Need(("allow_empty_mask", "allow_untrained_end_of_turn", "max_truncated_share"), never,
             "has no effect: answers are sampled, and no prompt is cut; drop it"),
        Need(("dataset_streaming",), never, "reads rows as they come, and groups are drawn from all of them; drop it"),
        Need(("add_template_tokens",), never,
             "adds tokens that the model can't say yet; teach it the template first: ftkit sft"),
    ])  # fmt: skip


@dataclass
class GRPOArguments(TrainerArguments, GRPOConfig):
    """TRL's GRPOConfig with defaults for the hardware at hand, and the settings of RLOO beside it."""

    rewards: list[str] | None = setting(
        None, "What an answer is rewarded for: exact_answer, final_number, token_f1, constraints, json, "
        "format:PATTERN, length:20-60, json_schema:FILE, reward_model:FOLDER, judge:MODEL@URL, judge:FOLDER, or "
        "your own FILE.py:FUNCTION."
    )  # fmt: skip
    algorithm: str = setting("grpo", "GRPO and its family, or RLOO.", choices=["grpo", "rloo"])
    learning_rate: float | None = setting(
        None, "Peak learning rate. Default: 1e-6, with PEFT 1e-5; below 50 M parameters 2e-5, 2e-4."
    )
    beta: float | None = setting(None, "Weight of the KL to where training started. Default: 0, of rloo 0.05.")
    num_generations: int | None = setting(None, "Answers to each prompt. Default: 8, of rloo 4.")
    gradient_accumulation_steps: int = setting(4, "Batches per update.")
    max_completion_length: int = setting(256, "Longest sampled answer, in tokens.")
    multi_objective_aggregation: str | None = setting(
        None, "Several rewards: normalise each in its group, then sum (normalize_then_sum), or TRL's sum. "
        "Default: the first.", choices=[EACH, SUM],
    )  # fmt: skip
    disable_dropout: bool = setting(True, "Train without dropout, as answers are sampled.")
    skip_equal_groups: bool = setting(
        True, "Leave groups whose rewards are all equal out of the loss's denominator, as they teach nothing."
    )
    receipt_prompts: int = setting(16, "Prompts that are answered before the first step: can anything be learned?")
    start_anyway: bool = setting(False, "Start though the learning receipt says that nothing can be learned.")
    max_logp_difference: float | None = setting(
        None, "Stop where a sampled token's log-probability differs by more, on average, in training. "
        "Default: 0.001 in float32, else 0.1."
    )  # fmt: skip
    normalize_advantages: bool = setting(False, "RLOO: scale advantages to mean 0 and deviation 1 over the batch.")
    reward_clip_range: list[float] | None = setting(None, "RLOO: clip the summed rewards to these two numbers.")
    before_after: bool = setting(True, "Reward held-out answers before and after training.")

    learning_rates = GRPO_RATES

    needs = Needs([
        Need(OTHER_DISTRIBUTION, never,
             "samples from another distribution than the one that is trained; drop it, and use --temperature"),
        Need(OF_GRPO, is_grpo, "belongs to --algorithm grpo; drop one of them"),
        Need(("normalize_advantages", "reward_clip_range"), lambda asked: not is_grpo(asked),
             "belongs to --algorithm rloo; drop one of them"),
        Need(OF_VLLM, lambda asked: asked.training.use_vllm, "needs --use_vllm; add it, or drop this"),
        Need(("entropy_coef_min", "entropy_coef_max", "entropy_coef_delta", "entropy_target"),
             lambda asked: asked.training.use_adaptive_entropy, "needs --use_adaptive_entropy; add it, or drop this"),
        Need(("ref_model_mixup_alpha", "ref_model_sync_steps"), lambda asked: asked.training.sync_ref_model,
             "needs --sync_ref_model; add it, or drop this"),
        Need(("sync_ref_model",), lambda asked: asked.training.beta and not asked.model.use_peft,
             "needs a --beta above 0 and all weights trained; drop it"),
        Need(("num_completions_to_print", "log_unique_prompts", "log_completions_hub_repo"),
             lambda asked: asked.training.log_completions, "needs --log_completions; add it, or drop this"),
        Need(("data_seed",), never, "has no effect: prompts are mixed by --seed; drop it"),
        Need(("label_smoothing_factor",), never, "has no effect on rewards; drop it"),
        Need(("model_init_kwargs", "num_generations_eval", "remove_unused_columns", "chat_template_kwargs",
              "max_tool_calling_iterations", "cache_implementation", "use_transformers_continuous_batching",
              "transformers_continuous_batching_config", "use_transformers_paged", "log_multimodal",
              "vllm_importance_sampling_cap"), never,
             "has no effect: ftkit reads rows and model, and samples the answers itself; drop it"),
    ])  # fmt: skip

    def __post_init__(self):
        super().__post_init__()
        self.loss_type = self.loss_type[0] if isinstance(self.loss_type, list) else self.loss_type
        if not self.rewards:
            raise UserError("--rewards is missing; name what an answer is rewarded for, such as --rewards exact_answer")
        if self.loss_type not in LOSSES:
            hint = did_you_mean(self.loss_type, LOSSES)
            hint = (
                "; that is --loss_type grpo --importance_sampling_level sequence" if self.loss_type == "gspo" else hint
            )
            raise UserError(f'unknown --loss_type "{self.loss_type}"{hint}; allowed: {", ".join(LOSSES)}')
        if self.importance_sampling_level == "sequence" and self.loss_type not in ("grpo", "luspo"):
            raise UserError(
                f"--importance_sampling_level sequence with --loss_type {self.loss_type} weights answers by their "
                "length; give --loss_type grpo, as GSPO does"
            )
        if self.temperature <= 0:
            raise UserError(f"--temperature is {self.temperature:g}, which makes all answers the same; give more")
        if self.reward_clip_range is not None and len(self.reward_clip_range) != 2:
            raise UserError("--reward_clip_range takes two numbers, the lower one first")
        self.check_batch()

    def check_batch(self) -> None:
        """Raise UserError for a batch that does not hold whole groups."""
        group = self.answers_per_prompt
        if group < 2:
            raise UserError(f"--num_generations is {group}, and answers are compared with each other; give 2 or more")
        if self.receipt_prompts < 1:
            raise UserError(f"--receipt_prompts is {self.receipt_prompts}; give 1 or more")

    def configured(self, decided: dict):
        """As TrainerArguments.configured, which looks at the size of a group."""
        return super().configured({"num_generations": self.answers_per_prompt} | decided)

    @property
    def answers_per_prompt(self) -> int:
        """As many as are sampled."""
        return NUM_GENERATIONS[self.algorithm] if self.num_generations is None else self.num_generations

    def answers_per_batch(self, num_devices: int) -> int:
        """Answers that are sampled at once by all devices together. Raises UserError where they are no whole groups."""
        steps = self.steps_per_generation or self.gradient_accumulation_steps
        size = self.generation_batch_size or self.per_device_train_batch_size * num_devices * steps
        if size % self.answers_per_prompt:
            raise UserError(
                f"{size} answers are sampled at once (batch {self.per_device_train_batch_size}, {num_devices} devices, "
                f"{steps} batches), and that is no multiple of --num_generations {self.answers_per_prompt}; change one"
            )
        return size

    def own_decisions(self, facts, reasons: dict) -> dict:
        """What was left open."""
        several = len(self.rewards or ()) > 1
        aggregation = self.multi_objective_aggregation or (EACH if several else SUM)
        if several and self.multi_objective_aggregation is None:
            reasons["multi_objective_aggregation"] = "each reward has its own scale (GDPO, arXiv:2601.05242)"
        bound = self.max_logp_difference
        is_float32 = not self.fp16 and not (facts.hardware.bf16 if self.bf16 is None else self.bf16)
        return {
            "beta": BETA[self.algorithm] if self.beta is None else self.beta,
            "num_generations": self.answers_per_prompt,
            "num_generations_eval": 1,
            "multi_objective_aggregation": aggregation,
            "max_logp_difference": (0.001 if is_float32 else 0.1) if bound is None else bound,
        }


SETTINGS = (PromptArguments, ModelArguments, GRPOArguments)
