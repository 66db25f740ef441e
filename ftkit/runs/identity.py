"""What makes a run that run: its fingerprint, by name, and how it differs from the one that a folder holds."""

import dataclasses
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ftkit.config.errors import UserError, did_you_mean
from ftkit.config.launch import world_size
from ftkit.model.adapters.files import adapter_fingerprint, base_fingerprint

# Settings that change no weight: where and how often a run reports, saves and measures, and how one start of it goes.
HARMLESS = {
    "output_dir", "overwrite", "allow_changes", "resume_from_checkpoint", "plan", "hardware", "trust_remote_code",
    "logging_strategy", "logging_steps", "logging_first_step", "logging_nan_inf_filter", "log_level",
    "log_level_replica", "log_on_each_node", "report_to", "run_name", "project", "trackio_space_id", "disable_tqdm",
    "push_to_hub", "hub_model_id", "hub_token", "hub_private_repo", "hub_revision", "save_strategy", "save_steps",
    "save_total_limit", "save_on_each_node", "eval_steps", "eval_on_start", "eval_delay", "eval_accumulation_steps",
    "per_device_eval_batch_size", "num_samples", "sample_max_new_tokens", "benchmark_tasks", "benchmark_data",
    "benchmark_limit", "dataloader_num_workers", "dataloader_pin_memory", "dataloader_persistent_workers",
    "dataloader_prefetch_factor", "ddp_timeout", "skip_memory_metrics", "activation_checkpointing",
    "gradient_checkpointing", "max_truncated_share", "allow_untrained_end_of_turn", "allow_empty_mask",
    "dataset_num_proc", "torch_empty_cache_steps", "use_cpu", "eval_strategy",
    "before_after",
}  # fmt: skip
WHERE_BEST = {  # settings that matter where an evaluation chooses weights or ends the run
    "eval_strategy", "eval_steps", "eval_delay", "save_strategy", "save_steps", "per_device_eval_batch_size",
}  # fmt: skip
OF_STREAMS = {"dataloader_num_workers"}  # settings that matter where rows are a stream
# Settings that are compared by what they lead to: rows, base, adapter, tokenizer and template.
BY_CONTENT = {
    "dataset_name", "dataset_config", "dataset_train_split", "dataset_test_split", "dataset_format", "test_size",
    "validation_size", "document_separator", "model_name_or_path", "model_revision", "adapter", "tokenizer", "template",
    "teacher_model_name_or_path",
}  # fmt: skip
CONTENT = ("rows", "held_out_rows", "base", "adapter", "teacher", "tokenizer", "template", "num_processes", "tokens")


def fingerprint(command: str, settings, data, lock: dict) -> dict[str, Any]:
    """What the weights of a run rest on, by name: settings the person gave, and hashes of what was read.

    data: as the method prepared it. lock: of its tokenizer and template.
    """
    harmless = harmless_settings(settings)
    asked = {name: value for name, value in settings.asked().items() if name not in harmless}
    training_rows, held_out_rows = hashes_of_rows(data)
    return {
        "command": command,
        "settings": json.loads(json.dumps(asked, default=str)),
        "rows": training_rows,
        "held_out_rows": held_out_rows,
        "base": hash_of_base(data.folder) if data.folder else None,
        "adapter": adapter_fingerprint(settings.model.adapter) if settings.model.adapter else None,
        "teacher": data.teacher.digest() if hasattr(data, "teacher") else None,
        "tokenizer": lock["tokenizer"]["sha256"],
        "template": lock["template"]["sha256"],
        "num_processes": world_size(),
        "tokens": hash_of_rows(data.train.rows) if hasattr(data.train, "rows") else training_rows,
    }


def harmless_settings(settings) -> set[str]:
    """The settings of a run that may change while it goes on."""
    training = settings.training
    harmless = HARMLESS | BY_CONTENT
    if training.looks_for_best or hasattr(training, "early_stopping_patience"):
        harmless -= WHERE_BEST
    return harmless - OF_STREAMS if getattr(settings.data, "dataset_streaming", False) else harmless


def hashes_of_rows(data) -> tuple[str, str | None]:
    """SHA-256 of what is trained on and of what is held out, in their order; of a stream, of its first rows."""
    if rows := getattr(data, "rows", None):
        parts = (rows.train, [*(getattr(rows, "validation", None) or []), *(rows.test or [])])
        training, held_out = (hash_of_rows(part) if part else None for part in parts)
        return training or "", held_out
    return data.receipt["sha256"], data.receipt["held_out_sha256"]


def hash_of_rows(rows: Iterable[dict]) -> str:
    """SHA-256 of rows; where they lay in which file does not count."""
    digest = hashlib.sha256()
    for row in rows:
        content = {name: value for name, value in row.items() if name != "source"}
        digest.update(json.dumps(content, sort_keys=True, default=str).encode() + b"\n")
    return digest.hexdigest()


def hash_of_base(folder: str | Path) -> str:
    """SHA-256 of a model's weights and configuration; who saved it where does not count."""
    config = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
    config = {name: config[name] for name in sorted(config) if name not in ("_name_or_path", "transformers_version")}
    return hashlib.sha256((base_fingerprint(folder) + json.dumps(config)).encode()).hexdigest()


def defaults(settings) -> dict[str, Any]:
    """What each setting is where nobody gives it."""
    found = {}
    for item in (item for part in settings[:3] for item in dataclasses.fields(part)):
        value = item.default_factory() if item.default_factory is not dataclasses.MISSING else item.default
        found[item.name] = getattr(value, "value", value)
    return json.loads(json.dumps(found, default=str))


def differences(before: dict, now: dict, decided: dict, default: dict) -> dict[str, str]:
    """What of a run's fingerprint is no longer as it was: name to a few words.

    decided: by the run for what nobody gave, so that giving it is no change. default: of each setting.
    """
    found = {}
    if before["command"] != now["command"]:
        found["command"] = f"ftkit {before['command']} then, ftkit {now['command']} now"
    then, settings = before["settings"], now["settings"]
    for name in sorted(then.keys() | settings.keys()):
        is_open = default.get(name) is None
        old = then.get(name, decided.get(name) if is_open else default.get(name))
        new = settings.get(name, default.get(name))
        if old != new:
            found[name] = f"{shown(old)} then, {shown(new)} now"
    changed = {name: "changed" for name in CONTENT if before.get(name) != now.get(name)}
    if found or len(changed) > 1:
        changed.pop("tokens", None)  # what the rows became follows from the rest
    if "num_processes" in changed:
        changed["num_processes"] = f"{before['num_processes']} then, {now['num_processes']} now"
    return found | changed


def shown(value) -> str:
    """A setting's value, short; None is what nobody gave."""
    text = "not given" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:59] + "…"


def allowed_changes(text: str | None, names: set[str]) -> set[str]:
    """The names in --allow_changes NAME,... Raises UserError for one that is none."""
    allowed = {name.strip().removeprefix("--") for name in (text or "").split(",")} - {""}
    known = names | set(CONTENT)
    for name in sorted(allowed - known):
        hint = did_you_mean(name, known) or f"; beside settings there are {', '.join(CONTENT)}"
        raise UserError(f'--allow_changes: "{name}" is nothing a run rests on{hint}')
    return allowed
