"""What a run reports while it goes: metrics.jsonl, and sample answers at each evaluation."""

import math
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from tqdm.auto import tqdm
from transformers import EarlyStoppingCallback, TrainerCallback

from ftkit.config.jsonl import append_jsonl, read_log, write_jsonl

TRAINING_METRICS = ("loss", "perplexity", "bits_per_byte", "learning_rate", "grad_norm", "mean_token_accuracy")
PREFERENCE_METRICS = (
    "rewards/chosen", "rewards/rejected", "rewards/accuracies", "rewards/margins", "logps/chosen", "logps/rejected",
    "kl", "lengths/chosen", "lengths/rejected", "nll_loss", "log_odds_ratio",
)  # fmt: skip
REWARD_METRICS = ("accuracy", "margin", "min_reward", "mean_reward", "max_reward")
SAMPLING_METRICS = (
    "reward", "reward_std", "groups_with_spread", "completions/mean_length", "completions/clipped_ratio", "entropy",
    "kl", "sampling/sampling_logp_difference/mean", "sampling/sampling_logp_difference/max",
    "reward_after_kl", "kl_per_answer", "kl_coef", "clip_ratio", "policy_loss", "value_loss", "explained_variance",
    "sampled_tokens_per_second",
)  # fmt: skip
SAMPLED_METRICS = ("reward", "reward_low", "reward_high", "share_cut", "mean_length")
CLASSIFICATION_METRICS = (
    "accuracy", "precision", "recall", "f1", "matthews_correlation", "roc_auc", "brier", "expected_calibration_error"
)  # fmt: skip
RETRIEVAL_METRICS = ("candidates",)  # passages that a question's own is held against, itself among them
DISTILLATION_METRICS = ("divergence", "answer_loss", "completions/mean_length", "completions/clipped_ratio")
LANGUAGE_METRICS = ("mean_token_accuracy", "perplexity", "bits_per_byte")
EVALUATION_METRICS = tuple(
    f"eval_{name}"
    for name in (
        "loss",
        *LANGUAGE_METRICS,
        *PREFERENCE_METRICS,
        *REWARD_METRICS,
        *CLASSIFICATION_METRICS,
        *SAMPLED_METRICS,
        *DISTILLATION_METRICS,
        *RETRIEVAL_METRICS,
    )  # fmt: skip
)


def peak_memory_gib() -> float:
    """Most memory so far, in GiB: of the GPU where this process uses one, else resident memory."""
    if torch.cuda.is_available() and (allocated := torch.cuda.max_memory_allocated()):
        return allocated / 2**30
    status = Path("/proc/self/status")
    if status.is_file():  # ru_maxrss may start from the value of the process that started this one
        line = next(line for line in status.read_text().split("\n") if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 2**20
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes on macOS, in KiB on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


class MetricsCallback(TrainerCallback):
    """Appends one line per log step to OUT/metrics.jsonl.

    Trainer logs `num_tokens`, the tokens seen without padding; their rate is `useful_tokens_per_second`. Time spent in
    evaluation and saving does not count.
    """

    def __init__(self, output_dir: str, num_tokens_seen: Callable[[], int] = int):
        self.path = Path(output_dir) / "metrics.jsonl"
        self.num_tokens_seen = num_tokens_seen
        self.training_seconds = 0.0
        self.last_seconds = 0.0
        self.last_tokens = None
        self.last_record = None

    def on_train_begin(self, args, state, control, **kwargs):
        if state.is_world_process_zero:
            roll_back(self.path, state.global_step)

    def on_step_begin(self, args, state, control, **kwargs):
        if self.last_tokens is None:  # those of a resumed run were trained on before
            self.last_tokens = self.num_tokens_seen()
        self.step_start = time.perf_counter()

    def on_step_end(self, args, state, control, **kwargs):
        self.training_seconds += time.perf_counter() - self.step_start

    def on_log(self, args, state, control, logs=None, **kwargs):
        if not state.is_world_process_zero or not logs:
            return
        record = {"step": state.global_step}
        if "loss" in logs:
            record |= self.training_record(logs)
            self.last_record = record
        elif "eval_loss" in logs or "eval_reward" in logs:
            record |= {key: logs[key] for key in EVALUATION_METRICS if key in logs}
        else:
            return
        # in fp16 an update is skipped for a gradient norm that is not finite, and no JSON either
        append_jsonl(self.path, [{key: value if math.isfinite(value) else None for key, value in record.items()}])

    def training_record(self, logs: dict) -> dict:
        """What metrics.jsonl keeps of a training step, with speed and memory."""
        tokens = int(logs.get("num_tokens", 0))
        seconds = self.training_seconds - self.last_seconds
        rate = (tokens - (self.last_tokens or 0)) / seconds if seconds > 0 else 0.0
        self.last_seconds, self.last_tokens = self.training_seconds, tokens
        known = (
            *TRAINING_METRICS, *PREFERENCE_METRICS, *REWARD_METRICS, *DISTILLATION_METRICS, *RETRIEVAL_METRICS
        )  # fmt: skip
        if "reward" in logs:
            each = tuple(key for key in logs if key.startswith("rewards/") and key.endswith("/mean"))
            known = (*TRAINING_METRICS, *SAMPLING_METRICS, *each)
        kept = {key: logs[key] for key in known if key in logs}
        memory = {"tokens": tokens, "useful_tokens_per_second": round(rate, 1), "peak_memory_gib": peak_memory_gib()}
        return kept | memory


class SampleCallback(TrainerCallback):
    """Answers the same held-out questions at each evaluation; prints them and appends them to OUT/samples.jsonl.

    questions: dicts with "prompt" and "reference". answer: called with the model, returns one answer per question.
    in_all_processes: whether the weights are sharded, so that all have to take part; else the first answers alone.
    """

    def __init__(self, output_dir: str, questions: list[dict], answer: Callable, *, in_all_processes: bool = False):
        self.path = Path(output_dir) / "samples.jsonl"
        self.questions = questions
        self.answer = answer
        self.in_all_processes = in_all_processes

    def on_train_begin(self, args, state, control, **kwargs):
        if state.is_world_process_zero:
            roll_back(self.path, state.global_step)

    def on_evaluate(self, args, state, control, model=None, **kwargs):
        if not (state.is_world_process_zero or self.in_all_processes):
            return
        answers = self.answer(model)
        if not state.is_world_process_zero:
            return
        pairs = list(zip(self.questions, answers, strict=True))
        append_jsonl(
            self.path, ({"step": state.global_step, **question, "answer": answer} for question, answer in pairs)
        )
        for question, answer in pairs:
            tell(f"  {one_line(question['prompt'], 70)}\n    -> {one_line(answer, 90) or '(empty answer)'}")


class EarlyStopping(EarlyStoppingCallback):
    """transformers' early stopping, with which a resumed run goes on: it counts from its checkpoint, or stays ended."""

    def on_train_begin(self, args, state, control, **kwargs):
        super().on_train_begin(args, state, control, **kwargs)
        kept = state.stateful_callbacks.get(type(self).__name__, {}).get("attributes", {})
        self.early_stopping_patience_counter = kept.get("early_stopping_patience_counter", 0)
        if self.early_stopping_patience_counter >= self.early_stopping_patience:
            control.should_training_stop = True


def roll_back(path: Path, step: int) -> None:
    """Leave the records of a file up to a checkpoint's step: a resumed run writes the later ones again.

    A cut last line, or one that is no record, goes too. A run that starts has none.
    """
    if path.is_file():
        records = read_log(path)
        write_jsonl(path, [record for record in records if step and record.get("step", 0) <= step])


def tell(text: str) -> None:
    """Print to stderr without tearing the progress bars."""
    tqdm.write(text, file=sys.stderr)


def one_line(text: str, limit: int) -> str:
    """`text` on one line, cut to `limit` characters."""
    flat = " ".join(text.split())
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"
