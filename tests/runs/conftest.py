"""Small rows for every trainer, and one call that runs one: `files.run("dpo", out, "--max_steps", "2")`."""

import json
from pathlib import Path

import pytest

from ftkit.runs.recipes import load_recipe

WORDS = [f"{first}{second}" for first in ("ba", "co", "du", "fe") for second in "lmnp"]
QUIET = ("--disable_tqdm", "--bf16", "false", "--num_samples", "0")

SAMPLED = (  # a few short answers of a random model, which are never right
    "--rewards", "length:-1", "--max_completion_length", "6", "--num_generations", "2", "--receipt_prompts", "2",
    "--start_anyway", "--per_device_train_batch_size", "4", "--gradient_accumulation_steps", "1",
)  # fmt: skip
ROLLOUTS = (
    "--rewards", "length:-1", "--max_completion_length", "6", "--receipt_prompts", "2", "--start_anyway",
    "--per_device_train_batch_size", "2", "--num_mini_batches", "2", "--num_ppo_epochs", "1",
)  # fmt: skip


class Files:
    """The rows that each trainer takes, and the flags that name them and a tiny model."""

    def __init__(self, folder: Path, model: Path, teacher: Path):
        self.folder, self.model, self.teacher = folder, model, teacher
        words = [*WORDS, "bal com dun"]  # one row is longer than the others
        upper = [{"instruction": "Write in upper case.", "input": word, "output": word.upper()} for word in words]
        pairs = [{"prompt": word, "chosen": word.upper(), "rejected": word} for word in words]
        marked = [
            {"prompt": word, "completion": word.upper() if number % 3 else word, "label": number % 3 > 0}
            for number, word in enumerate(words)
        ]
        labels = [{"text": f"{word} {word}", "label": ("ham", "spam")[number % 2]} for number, word in enumerate(WORDS)]
        asked = [{"prompt": word, "answer": word.upper()} for word in words]
        texts = [{"text": f"{word} {word.upper()} " * 12} for word in WORDS]
        all_rows = {
            "sft": upper,
            "dpo": pairs,
            "reward": pairs,
            "kto": marked,
            "grpo": asked,
            "ppo": asked,
            "distill": upper,
            "classify": labels,
            "embed": [{"question": word, "passage": word.upper()} for word in words],
        }
        all_rows["pretrain"] = texts
        for name, rows in all_rows.items():
            self.path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))

    def path(self, command: str) -> Path:
        """The rows of a trainer."""
        return self.folder / f"{command}.jsonl"

    def flags(self, command: str, out) -> list[str]:
        """Flags that a run can't do without; a pretraining is that of a new model."""
        model = ("--model_name_or_path", str(self.model))
        if command == "pretrain":
            sizes = ("--hidden_size", "16", "--num_hidden_layers", "1", "--num_attention_heads", "2")
            model = ("--tokenizer", str(self.model), *sizes, "--block_size", "32")
        template = ("--template", "alpaca") if command not in ("classify", "embed", "pretrain") else ()
        own = {"grpo": SAMPLED, "ppo": ROLLOUTS, "distill": ("--teacher", str(self.teacher))}.get(command, ())
        return [*model, "--dataset_name", str(self.path(command)), "--output_dir", str(out), *template, *QUIET, *own]

    def parse(self, command: str, out, *more: str):
        """The settings of one run."""
        return load_recipe(command).parse([*self.flags(command, out), *more])

    def run(self, command: str, out, *more: str):
        """One run; its trainer."""
        return load_recipe(command).train(self.parse(command, out, *more))


@pytest.fixture(scope="session")
def files(tmp_path_factory, tiny_folder, tiny_teacher) -> Files:
    """Rows for every trainer."""
    return Files(tmp_path_factory.mktemp("rows_of_trainers"), tiny_folder, tiny_teacher)
