"""What a training run measured of its held-out rows, as OUT/results.json and, before training, OUT/before/results.json.

write_held_out(run, task, items)                     # of the model that was trained
write_held_out(run, task, items, is_trained=False)   # of what training started from
"""

from pathlib import Path

from ftkit.evaluation.results import BEFORE, Item, Results, TaskResult, write_run
from ftkit.training.method import Run


def write_held_out(
    run: Run, task: TaskResult, items: list[Item], *, is_trained: bool = True, facts: dict | None = None,
    folder: str = BEFORE,
    name: str = "",
) -> Path:  # fmt: skip
    """Write results.json with one task; return its path. facts: what else its settings name. folder: inside OUT, of
    what was not trained. name: of what is no language model."""
    model = run.settings.model
    named = {"name": model.model_name_or_path or "random weights", "dtype": run.decided.dtype}
    if model.adapter:
        named |= {"adapter": model.adapter}
    if is_trained:
        named |= {"adapter": run.output_dir} if model.use_peft else {"name": run.output_dir}
    if name:
        named = {"name": name}
    facts = {"dataset_name": run.settings.data.dataset_name, **(facts or {})}
    path = Path(run.output_dir) / ("" if is_trained else folder)
    return write_run(path, Results(named, {task.name: task}, facts, seed=run.config.seed), {task.name: items})
