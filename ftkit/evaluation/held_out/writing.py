"""What a training run measured of its held-out rows, as OUT/results.json and, before training, OUT/before/results.json.

write_held_out(run, task, items)                     # of the model that was trained
write_held_out(run, task, items, is_trained=False)   # of what training started from
"""

from pathlib import Path

from ftkit.evaluation.results import BEFORE, Item, Results, TaskResult, write_run
from ftkit.training.method import Run


def write_held_out(
    run: Run, task: TaskResult, items: list[Item], *, is_trained: bool = True, facts: dict | None = None
) -> Path:
    """Write results.json with one task; return its path. facts: what else its settings name."""
    model = run.settings.model
    name = {"name": model.model_name_or_path or "random weights", "dtype": run.decided.dtype}
    if model.adapter:
        name |= {"adapter": model.adapter}
    if is_trained:
        name |= {"adapter": run.output_dir} if model.use_peft else {"name": run.output_dir}
    facts = {"dataset_name": run.settings.data.dataset_name, **(facts or {})}
    folder = Path(run.output_dir) / ("" if is_trained else BEFORE)
    return write_run(folder, Results(name, {task.name: task}, facts, seed=run.config.seed), {task.name: items})
