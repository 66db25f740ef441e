"""A trainer of pairs or labelled answers on a tiny model, built as a run builds it, and not trained."""

import json
from pathlib import Path

from transformers import set_seed

from ftkit.runs.lifecycle import decide_run
from ftkit.runs.opening import begin
from ftkit.runs.recipe import found
from ftkit.runs.recipes import load_recipe

WORDS = ["bal", "com dun", "fep", "gir hos jat", "kuv", "lom", "nap ros", "tiv"]
PAIRS = [{"prompt": f"Say {one}", "chosen": one.upper(), "rejected": f"it is {one}"} for one in WORDS]
LABELLED = [
    {"prompt": f"Say {one}", "completion": one.upper() if number % 2 else one, "label": number % 2 == 1}
    for number, one in enumerate(WORDS)
]
FLAGS = [
    "--template", "plain", "--max_steps", "3", "--logging_steps", "1", "--disable_tqdm", "--bf16", "false", "--dtype",
    "float32", "--save_strategy", "no", "--per_device_train_batch_size", "4",
]  # fmt: skip


def built(command: str, model, out: Path, *flags: str, rows: list[dict] | None = None):
    """The trainer."""
    out.mkdir(parents=True, exist_ok=True)
    rows = (PAIRS if command == "dpo" else LABELLED) if rows is None else rows
    (out / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = load_recipe(command)
    named = ["--model_name_or_path", str(model), "--dataset_name", str(out / "rows.jsonl")]
    settings = recipe.parse([*named, "--output_dir", str(out / "run"), *FLAGS, *flags])
    method = found(recipe.method)
    data = method.prepare(settings)
    run = decide_run(command, method, settings, data, begin(command, settings, data))
    set_seed(settings.training.seed)
    return method.build_trainer(run, method.load(run))
