"""What a pretraining run costs, and how fast it goes."""

from transformers import TrainerCallback

from ftkit.training.callbacks import MetricsCallback, tell

CHINCHILLA_TOKENS_PER_PARAMETER = 20  # arXiv:2203.15556, table 3
STEPS_MEASURED = 5  # updates whose speed gives the hours
STEPS_SKIPPED = 2  # the first are slower


def tokens_per_update(training, block_size: int) -> int:
    """Tokens of all blocks of one update, over all processes."""
    blocks = training.per_device_train_batch_size * training.gradient_accumulation_steps * training.world_size
    return blocks * block_size


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
    """Shows once, from measured updates, how many tokens per second go through and how many hours are left."""

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
