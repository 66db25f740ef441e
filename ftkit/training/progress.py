"""How far a training run is: a bar on a terminal, a line per logging step in a log file."""

import sys
import time

from transformers import TrainerCallback
from transformers.trainer_callback import ProgressCallback

from ftkit.config.terminal import time_text
from ftkit.training.callbacks import MetricsCallback, tell

STEPS_BEFORE_ESTIMATE = 3  # the first steps are slower; the estimate waits for them
SILENT_SECONDS = 60.0  # a log file gets a line after them, even where no step is logged


def progress_callback(metrics: MetricsCallback) -> TrainerCallback:
    """The bar where stderr is a terminal, else the lines."""
    return ProgressBar(metrics) if sys.stderr.isatty() else ProgressLines(metrics)


def measure(logs: dict) -> str:
    """How training goes: the reward of sampled answers, where there are such, as their loss says nothing of it."""
    name = "reward" if "reward" in logs else "loss"
    return f"{name} {logs[name]:.4g}"


def evaluation_line(step: int, logs: dict) -> str:
    """What an evaluation measured."""
    if "eval_reward" in logs:
        low, high = logs["eval_reward_low"], logs["eval_reward_high"]
        return f"step {step}: held-out reward {logs['eval_reward']:.4g} ({low:.4g} to {high:.4g})"
    preferred, bits = logs.get("eval_rewards/accuracies"), logs.get("eval_bits_per_byte")
    found = [f"step {step}: evaluation loss {logs['eval_loss']:.4f}"]
    if preferred is not None:
        found.append(f"{preferred:.1%} of the pairs in the right order")
    if "eval_f1" in logs:
        found += [f"accuracy {logs['eval_accuracy']:.1%}", f"F1 {logs['eval_f1']:.3f}"]
    if bits is not None:
        found += [f"perplexity {logs['eval_perplexity']:.2f}", f"{bits:.4f} bits per byte"]
    return ", ".join(found)


class ProgressLines(TrainerCallback):
    """step 20/80  loss 1.234  lr 1e-04  430 tokens/s  0:35 left"""

    def __init__(self, metrics: MetricsCallback):
        self.metrics = metrics
        self.first_step = 0
        self.last_line = time.monotonic()

    def on_train_begin(self, args, state, control, **kwargs):
        self.first_step, self.last_line = state.global_step, time.monotonic()

    def on_step_end(self, args, state, control, **kwargs):
        if time.monotonic() - self.last_line >= SILENT_SECONDS:
            self.write(state, [])

    def on_log(self, args, state, control, logs=None, **kwargs):
        if not state.is_world_process_zero or not logs:
            return
        if "eval_loss" in logs or "eval_reward" in logs:
            self.last_line = time.monotonic()
            tell(evaluation_line(state.global_step, logs))
        elif "loss" in logs:
            rate = (self.metrics.last_record or {}).get("useful_tokens_per_second", 0.0)
            learning_rate = [f"lr {logs['learning_rate']:.3g}"] if "learning_rate" in logs else []
            self.write(state, [measure(logs), *learning_rate, f"{rate:,.0f} tokens/s"])

    def write(self, state, parts: list[str]) -> None:
        """Print a line: where the run is, what was measured, and the time that is left, evaluation aside."""
        if not state.is_world_process_zero:
            return
        self.last_line = time.monotonic()
        done, left = state.global_step - self.first_step, state.max_steps - state.global_step
        if done >= STEPS_BEFORE_ESTIMATE and left:
            parts = [*parts, f"{time_text(self.metrics.training_seconds / done * left)} left"]
        tell("  ".join([f"step {state.global_step}/{state.max_steps}", *parts]))

    def close(self) -> None:
        """Every line is whole already."""


class ProgressBar(ProgressCallback):
    """transformers' progress bar followed by loss and tokens/s, and an estimate in minutes after the first steps."""

    def __init__(self, metrics: MetricsCallback):
        super().__init__()
        self.metrics = metrics

    def on_train_begin(self, args, state, control, **kwargs):
        super().on_train_begin(args, state, control, **kwargs)
        self.first_step = state.global_step

    def on_step_end(self, args, state, control, **kwargs):
        super().on_step_end(args, state, control, **kwargs)
        done = state.global_step - self.first_step
        if state.is_world_process_zero and done == STEPS_BEFORE_ESTIMATE < state.max_steps - self.first_step:
            seconds = self.metrics.training_seconds / done
            left = time_text(seconds * (state.max_steps - state.global_step))
            tell(f"{seconds:.1f} s per update; {left} left, evaluation aside")

    def on_log(self, args, state, control, logs=None, **kwargs):
        if self.training_bar is None or not logs:
            return
        if "eval_loss" in logs or "eval_reward" in logs:
            tell(evaluation_line(state.global_step, logs))
        elif "loss" in logs:
            rate = (self.metrics.last_record or {}).get("useful_tokens_per_second", 0.0)
            self.training_bar.set_postfix_str(f"{measure(logs)}, {rate:,.0f} tokens/s")

    def close(self) -> None:
        """Leave the bars as they are, on lines of their own."""
        for bar in (self.prediction_bar, self.training_bar):
            if bar is not None:
                bar.close()
