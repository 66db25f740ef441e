"""What a bare word of a command line names - rows, a model, an adapter, settings - and the command that takes it.

command_for("rows.jsonl") is "ftkit try rows.jsonl".
"""

import re
from pathlib import Path

from ftkit.config.assets import MODEL_NAMES, list_assets
from ftkit.config.paste import command

KINDS = {"rows": "rows", "model": "a model", "adapter": "an adapter", "settings": "settings", "weights": "weights"}
ROWS = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".xlsx", ".txt", ".md", ".arrow")
HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")
# What people call a command, in other tools.
COMMAND_WORDS = {
    "sft": "train finetune fine-tune fine_tune tune lora qlora instruct",
    "try": "demo start quickstart init hello tutorial",
    "generate": "ask answer run infer inference complete completion prompt sample",
    "chat": "talk serve interactive repl",
    "bakeoff": "bake-off bake_off shootout rag",
    "bench": "eval evaluate benchmark test measure lm_eval lm-eval",
    "compare": "diff verdict results",
    "classify": "predict classifier",
    "embed": "embedding embeddings sentence-transformers encoder retriever biencoder",
    "dpo": "preferences align rlhf orpo cpo simpo",
    "kto": "feedback thumbs",
    "reward": "reward-model reward_model rm score",
    "grpo": "rl rloo reinforce reward-training",
    "ppo": "value-head actor-critic gae",
    "distill": "distil distillation kd teacher student",
    "data check": "check-data validate lint rows",
    "data show": "show preview inspect",
    "data split": "split",
    "data convert": "convert format",
    "data dedup": "dedup deduplicate",
    "data stats": "stats describe",
    "adapters merge": "merge merge-lora",
    "adapters list": "list ls runs models",
    "export": "gguf ollama quantize quantise save",
    "push": "upload publish hub share",
    "tokenizer": "tokenize tokenise bpe",
    "pretrain": "pretraining pre-train scratch",
    "help": "usage man info commands",
}


def kind_of(word: str) -> str | None:
    """What a word names: "rows", "model", "adapter", "settings" or "weights"; None where nothing shows it."""
    path = Path(word).expanduser()
    suffix = path.suffix.lower()
    if path.is_dir():
        if (path / "adapter_config.json").is_file():
            return "adapter"
        return "model" if (path / "config.json").is_file() else "rows"
    if suffix in (".yaml", ".yml"):
        return "settings"
    if suffix in (".pt", ".pth", ".bin", ".safetensors"):
        return "weights"
    if suffix in ROWS or path.is_file() and suffix != ".gguf" or word in list_assets("datasets"):
        return "rows"
    return "model" if suffix == ".gguf" or word in MODEL_NAMES or HUB_ID.fullmatch(word) else None


def command_for(word: str) -> str | None:
    """A command that takes what a bare word names, to paste; None where nothing shows what it names."""
    kind = kind_of(word)
    if kind == "settings":
        return command(trainer_of(Path(word).expanduser()), "--config", word)
    if kind == "weights":
        return command("import", word, "--from", "book", "--output_dir", "OUT")
    words = {"rows": ("try", word), "model": ("chat", "--model", word), "adapter": ("chat", "--adapter", word)}
    return command(*words[kind]) if kind else None


def trainer_of(path: Path) -> str:
    """The command that a YAML file is for: as a run's file has it, else sft."""
    try:
        found = re.search(r"^(?:command: |# ftkit )(\w+)", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    except (OSError, UnicodeDecodeError):
        found = None
    return found[1] if found else "sft"


def command_meant(word: str) -> str | None:
    """The command that people mean by a word of other tools."""
    return next((name for name, words in COMMAND_WORDS.items() if word.lower() in words.split()), None)
