"""What a run is called by its report and its card: what was done, to which model, on which data."""

import re
from pathlib import Path

from ftkit.model.loading import public_name_of

CACHED_ID = re.compile(r"models--([\w.-]+?)--([\w.-]+)[/\\]snapshots[/\\]")  # how huggingface_hub's cache names a model
# Commands whose titles say more than the method of tuning.
KINDS = {
    "dpo": "DPO", "kto": "KTO", "grpo": "GRPO", "ppo": "PPO", "reward": "Reward model", "distill": "Distilled",
    "classify": "Classifier", "embed": "Embedding model",
}  # fmt: skip


def method_name(settings: dict, command: str) -> str:
    """How the weights were trained, in words."""
    if command == "pretrain" and not settings.get("use_peft"):
        done = "Continued pretraining" if settings.get("model_name_or_path") else "Pretrained from random weights"
        return f"{done}, 1.58 bits" if settings.get("ternary") else done
    if not settings.get("use_peft"):
        frozen = settings.get("num_frozen_layers")
        bits = " to 1.58 bits" if settings.get("ternary") else ""
        return f"Full fine-tune (first {frozen} layers frozen)" if frozen else f"Full fine-tune{bits}"
    if settings.get("peft_method") == "prompt_tuning":
        return "Soft prompt (prompt tuning)"
    name = "DoRA" if settings.get("use_dora") else "rsLoRA" if settings.get("use_rslora") else "LoRA"
    return f"Q{name} adapter" if settings.get("load_in_4bit") else f"{name} adapter"


def public_name(name: str) -> str:
    """A Hub id or bundled name as it is, also of a path into the Hub's cache; a local path without its folders."""
    if match := CACHED_ID.search(name):
        return f"{match[1]}/{match[2]}"
    local = name.startswith(("/", "~", ".")) or "\\" in name or Path(name).exists()
    return re.split(r"[/\\]", name.rstrip("/\\"))[-1] if local else name


def run_title(settings: dict, command: str | None) -> str:
    """LoRA of SmolLM2-135M-Instruct on rows.jsonl; "" where the settings name neither model nor data."""
    model, data = settings.get("model_name_or_path") or settings.get("adapter"), settings.get("dataset_name")
    if not model and not data:
        return ""
    done = method_name(settings, command or "sft").removesuffix(" adapter")
    if command in KINDS:
        done = f"{KINDS[command]}, {done.replace('Full', 'full').replace('Soft', 'soft')}"
    of = f" of {public_name(public_name_of(str(model))).rpartition('/')[2]}" if model else ""
    on = f" on {public_name(str(data)).rpartition('/')[2]}" if data else ""
    return done + of + on
