"""What values settings may have, beside their type: looked at before a library is imported, which would refuse them
late, with a traceback, or take them and train nothing.

check_ranges({"lora_r": 0}) raises "--lora_r is 0; give 1 or more".
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ftkit.config.errors import UserError

LOG_LEVELS = ("debug", "detail", "info", "warning", "error", "critical", "passive")


class Range(NamedTuple):
    """Settings, whether a value is one of theirs, and what is said of any other."""

    names: tuple[str, ...]
    holds: Callable[[Any], bool]
    fix: str


RANGES = (
    Range(
        ("lora_r", "num_virtual_tokens", "per_device_train_batch_size", "per_device_eval_batch_size", "max_length",
         "gradient_accumulation_steps", "save_total_limit", "eval_accumulation_steps", "sample_max_new_tokens",
         "benchmark_limit", "torch_empty_cache_steps", "dataloader_prefetch_factor", "hidden_size",
         "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "intermediate_size", "ref_model_sync_steps",
         "precompute_ref_batch_size", "dataset_num_proc", "num_mini_batches", "num_ppo_epochs",
         "max_completion_length", "mini_batch_size"),
        lambda value: value >= 1, "give 1 or more",
    ),
    Range(
        ("learning_rate", "weight_decay", "adam_epsilon", "max_grad_norm", "warmup_steps", "num_samples", "beta",
         "num_frozen_layers", "num_trained_layers", "eval_delay", "neftune_noise_alpha",
         "value_learning_rate", "vf_coef", "kl_coef", "missing_eos_penalty", "mine_negatives",
         "ternary_warmup"),
        lambda value: value >= 0, "give 0 or more",
    ),
    Range(
        ("num_train_epochs", "lora_alpha", "save_steps", "eval_steps", "logging_steps", "cliprange",
         "cliprange_value", "kl_target", "scale", "triplet_margin"),
        lambda value: value > 0, "give more than 0",
    ),
    Range(("lora_dropout", "dropout", "adam_beta1", "adam_beta2", "negative_margin"),
          lambda value: 0 <= value < 1, "give 0 to below 1"),
    Range(("label_smoothing", "label_smoothing_factor", "gamma", "lam"), lambda value: 0 <= value <= 1,
          "give a share from 0 to 1"),
    Range(("save_steps", "eval_steps", "logging_steps"), lambda value: value < 1 or value == int(value),
          "give a whole number of updates, or a share of the run below 1"),
    Range(("max_steps",), lambda value: value == -1 or value >= 1, "give 1 or more; without it epochs are counted"),
    Range(("seed", "data_seed"), lambda value: 0 <= value < 2**32, "give a number from 0 to 4294967295"),
    Range(("dataloader_num_workers",), lambda value: 0 <= value <= 256, "give 0 to 256 processes"),
    Range(("pad_to_multiple_of",), lambda value: value == "auto" or isinstance(value, int) and value >= 1,
          "give auto, or 1 or more"),
    Range(("log_level", "log_level_replica"), lambda value: value in LOG_LEVELS,
          f"give one of {', '.join(LOG_LEVELS)}"),
    Range(("optim_args",), lambda value: re.fullmatch(r"\w+=[^,=]+(,\s*\w+=[^,=]+)*", value) is not None,
          "give NAME=VALUE,NAME=VALUE"),
)  # fmt: skip
OBJECTS = (
    "lr_scheduler_kwargs", "gradient_checkpointing_kwargs", "activation_checkpointing_kwargs", "model_init_kwargs",
)  # fmt: skip  # of which a text is no file, as it is of --deepspeed


def check_ranges(values: Mapping[str, Any]) -> None:
    """Raise UserError for a value that its setting can't have. values: of the settings that were given, typed."""
    for row in RANGES:
        for name in row.names:
            value = values.get(name)
            if value is not None and value == value and not row.holds(value):  # NaN has a check of its own
                shown = f"{value:g}" if isinstance(value, float) else value
                raise UserError(f"--{name} is {shown}; {row.fix}")
    for name in OBJECTS:
        if isinstance(values.get(name), str):
            raise UserError(f"--{name} is {values[name]}; give a JSON object in quotes, such as '{{\"key\": 1}}'")
