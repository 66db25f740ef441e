"""A contestant of a bake-off trained by `ftkit sft`, within the budget: OUT/NAME/run, and what it took in made.json."""

import time
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec

from ftkit.config.files import write_json
from ftkit.config.json_object import read_object
from ftkit.evaluation.bakeoff.contest import Contestant
from ftkit.runs.bakeoff.asked import Asked
from ftkit.runs.bakeoff.budget import epochs_within
from ftkit.runs.bakeoff.setup import Setup, read_setup

MADE = "made.json"
PEFT = {
    "soft_prompt": ("--use_peft", "--peft_method", "prompt_tuning"),
    "lora": ("--use_peft",),
    "qlora": ("--use_peft", "--load_in_4bit"),
    "full": (),
    "raft": ("--use_peft",),
}
ALIKE = ("--per_device_train_batch_size", "4", "--packing", "false", "--eval_strategy", "no", "--save_strategy", "no")
SHORT_RUN = ("--lr_scheduler_type", "cosine", "--warmup_steps", "5")
LORA = ("--lora_r", "8", "--lora_alpha", "16", "--lora_dropout", "0")
# Peak learning rates of models from 50 M to 1 B parameters, as a budget is mostly short: `ftkit try` chose that of LoRA
# on the bundled rows. Others have the rates of `ftkit sft`.
RATES, SIZES = {"lora": "1e-3", "qlora": "1e-3", "raft": "1e-3", "full": "1e-4"}, (50e6, 1e9)


@dataclass(frozen=True)
class Made:
    """What making took. epochs: passes over the rows."""

    minutes: float
    memory_gib: float
    epochs: float


def read_made(asked: Asked, contestant: Contestant) -> Made:
    """What OUT/NAME/made.json holds."""
    path = asked.of(contestant) / MADE
    return msgspec.convert(read_object(path, "delete it, and give the same command again"), Made)


def make(asked: Asked, contestant: Contestant) -> None:
    """Train a contestant.

    Raises UserError as `ftkit sft` does, and where too few passages hold the answers that it is to quote.
    """
    from ftkit.runs.recipes import load_recipe
    from ftkit.training.callbacks import peak_memory_gib

    rows, recipe = rows_for(asked, contestant), load_recipe("sft")
    argv = sft_flags(asked, read_setup(asked), contestant, rows)
    epochs = epochs_within(asked, recipe, argv, asked.of(contestant) / "trial")
    start, out = time.perf_counter(), asked.run(contestant)
    recipe.train(recipe.parse([*argv, "--output_dir", str(out), "--num_train_epochs", f"{epochs:.6g}"]))
    made = Made((time.perf_counter() - start) / 60, peak_memory_gib(), epochs)
    write_json(asked.of(contestant) / MADE, asdict(made))


def rows_for(asked: Asked, contestant: Contestant) -> Path:
    """The file of a contestant's training rows; those that teach to quote are written first."""
    if not contestant.searches:
        return asked.data / "train.jsonl"
    from ftkit.runs.bakeoff.passages import Passages

    return Passages(asked).write_rows(asked.of(contestant) / "train.jsonl")


def sft_flags(asked: Asked, setup: Setup, contestant: Contestant, rows: Path) -> list[str]:
    """The command line of `ftkit sft`, all but the length of the run and its folder."""
    name, config = contestant.name, asked.sft_configs.get(contestant.name)
    flags = [*(("--config", config) if config else chosen_flags(setup, name)), *PEFT[name], *ALIKE]
    where = {"model_name_or_path": asked.model, "dataset_name": rows, "template": setup.template, "seed": asked.seed}
    return [*flags, *(str(part) for key, value in where.items() for part in (f"--{key}", value))]


def chosen_flags(setup: Setup, name: str) -> list[str]:
    """The settings of a contestant that has no file of its own."""
    flags = [*SHORT_RUN, *(LORA if name in ("lora", "qlora", "raft") else ())]
    if name in RATES and SIZES[0] <= setup.num_parameters < SIZES[1]:
        flags += ["--learning_rate", RATES[name]]
    return flags
