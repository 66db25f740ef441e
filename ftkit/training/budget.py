"""How long a pretraining run is, how its learning rate moves, and what it costs, settled before the first step."""

import math

from transformers import TrainerCallback

from ftkit.config.errors import UserError
from ftkit.training.callbacks import MetricsCallback, tell

CHINCHILLA_TOKENS_PER_PARAMETER = 20  # arXiv:2203.15556, table 3
STEPS_MEASURED = 5  # updates whose speed gives the hours
STEPS_SKIPPED = 2  # the first are slower


def tokens_per_update(training, block_size: int) -> int:
    """Tokens of all blocks of one update, over all processes."""
    blocks = training.per_device_train_batch_size * training.gradient_accumulation_steps * training.world_size
    return blocks * block_size


def settle_length(training, block_size: int, num_blocks: int | None) -> int:
    """Turn --max_tokens into max_steps and return the number of updates. num_blocks: None for a stream.

    Raises UserError where the blocks fill no update, or a stream has no end.
    """
    each = tokens_per_update(training, block_size)
    if training.max_tokens:
        training.max_steps = max(1, round(training.max_tokens / each))
    if training.max_steps > 0:
        updates = training.max_steps
    elif num_blocks is None:
        raise UserError("--dataset_streaming needs --max_tokens or --max_steps: how much text there is is not known")
    else:
        batches = num_blocks // (training.per_device_train_batch_size * training.world_size)
        updates = math.ceil(
            training.num_train_epochs * max(1, math.ceil(batches / training.gradient_accumulation_steps))
        )
    if num_blocks is not None and num_blocks < training.per_device_train_batch_size * training.world_size:
        raise UserError(
            f"{num_blocks} blocks of {block_size} tokens do not fill one batch; "
            "give more text, or lower --per_device_train_batch_size or --block_size"
        )
    return updates


def settle_schedule(training, updates: int) -> None:
    """Fill in what the schedules need to know: decay steps, and where the learning rate ends."""
    kind = str(getattr(training.lr_scheduler_type, "value", training.lr_scheduler_type))
    if training.lr_scheduler_kwargs:
        return
    if kind == "warmup_stable_decay":
        decay = max(1, round(training.decay_share * updates))
        training.lr_scheduler_kwargs = {
            "num_decay_steps": decay, "decay_type": "1-sqrt", "min_lr_ratio": training.min_learning_rate_share,
        }  # fmt: skip
    elif kind == "cosine":
        training.lr_scheduler_type = type(training.lr_scheduler_type)("cosine_with_min_lr")
        training.lr_scheduler_kwargs = {"min_lr_rate": training.min_learning_rate_share}


def training_flops(num_parameters: int, num_tokens: float) -> float:
    """6ND: two operations for each weight forward, four backward (arXiv:2001.08361). Attention is not counted."""
    return 6.0 * num_parameters * num_tokens


def budget_lines(num_parameters: int, num_tokens: int, corpus_tokens: int | None) -> list[str]:
    """What a run costs and how it compares with Chinchilla's ratio."""
    ratio = num_tokens / num_parameters
    lines = [
        f"compute    6ND = 6 x {num_parameters / 1e6:.2f} M parameters x {num_tokens / 1e6:.2f} M tokens = "
        f"{training_flops(num_parameters, num_tokens):.2e} operations",
        f"ratio      {ratio:.1f} tokens per parameter; Chinchilla's optimum is about {CHINCHILLA_TOKENS_PER_PARAMETER}",
    ]
    if corpus_tokens:
        lines.append(f"passes     {num_tokens / corpus_tokens:.2f} over {corpus_tokens / 1e6:.2f} M tokens of text")
    return lines


class SpeedCallback(TrainerCallback):
    """Tells once, from measured updates, how many tokens a second go through and how many hours are left."""

    def __init__(self, metrics: MetricsCallback, num_parameters: int, tokens_per_update: int):
        self.metrics, self.num_parameters, self.tokens_per_update = metrics, num_parameters, tokens_per_update
        self.started = None

    def on_train_begin(self, args, state, control, **kwargs):
        self.first_step = state.global_step

    def on_step_end(self, args, state, control, **kwargs):
        done = state.global_step - self.first_step
        if done == STEPS_SKIPPED:
            self.started = self.metrics.training_seconds
        if done != STEPS_SKIPPED + STEPS_MEASURED or not state.is_world_process_zero:
            return
        rate = STEPS_MEASURED * self.tokens_per_update / (self.metrics.training_seconds - self.started)
        left = (state.max_steps - state.global_step) * self.tokens_per_update
        gflops = training_flops(self.num_parameters, rate) / 1e9
        tell(f"measured {rate:,.0f} tokens/s ({gflops:.1f} GFLOP/s by 6ND); {left / rate / 3600:.2f} hours to go")
