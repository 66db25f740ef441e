"""A benchmark run as the Hub reads it: EvalResult in the card's metadata, and .eval_results/ftkit.yaml.

Read from FOLDER/benchmark/after, where --benchmark_tasks of a training command leaves it, else from FOLDER/benchmark,
for `ftkit bench --output_dir FOLDER/benchmark`. Only tasks whose rows are a dataset of the Hub are told, as the Hub
wants a dataset's id; a run with --limit makes no entry for a leaderboard.
"""

import json
from pathlib import Path

from ftkit.config.errors import UserError
from ftkit.evaluation.results import SCHEMA, Results, read_results

RESULTS_FILES = ("benchmark/after/results.json", "benchmark/results.json")
ENTRIES_FILE = ".eval_results/ftkit.yaml"
TASK_TYPE = "text-generation"


def benchmark_of(folder: Path) -> Results | None:
    """The benchmark in a model's folder; None where there is none of this form."""
    for path in (folder / name for name in RESULTS_FILES):
        if path.is_file() and json.loads(path.read_text(encoding="utf-8")).get("schema") == SCHEMA:
            return read_results(path)
    return None


def hub_dataset(task: str, results: Results) -> str | None:
    """The Hub id of a task's rows; None for rows of a file, or where the task is not known here."""
    from ftkit.evaluation.task_file import load_task
    from ftkit.publish.model_card import is_hub_id

    base = task.partition("/")[0]
    given = (results.settings.get("task_data") or {}).get(base)
    try:
        data = given or load_task(base).data
    except UserError:  # a task of the person's own
        return None
    return data if data and is_hub_id(data) else None


def benchmark_results(folder: Path) -> list:
    """huggingface_hub.EvalResult of each task's main metric."""
    from huggingface_hub import EvalResult

    results = benchmark_of(folder)
    return [
        EvalResult(
            TASK_TYPE,
            dataset,
            f"{task.name}, {task.num_fewshot}-shot, {task.num_items} items",
            task.main_metric,
            task.scores[task.main_metric].value,
            metric_name=task.main_metric,
        )
        for task in (results.tasks.values() if results else ())
        if (dataset := hub_dataset(task.name, results))
    ]


def with_benchmark(text: str, folder: Path) -> str:
    """A card with the benchmark's results in its metadata, in place of earlier ones of the same datasets."""
    from huggingface_hub import ModelCard

    found = benchmark_results(folder)
    if not found:
        return text
    card = ModelCard(text, ignore_metadata_errors=True)
    told = {one.dataset_name for one in found}
    kept = [one for one in card.data.eval_results or [] if one.dataset_name not in told]
    card.data.eval_results = [*kept, *found]
    card.data.model_name = card.data.model_name or folder.resolve().name
    return str(card)


def entries_yaml(folder: Path) -> str:
    """The text of .eval_results/ftkit.yaml; "" where the folder has no whole benchmark of a Hub dataset."""
    import yaml
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

    results = benchmark_of(folder)
    if results is None or results.settings.get("limit") is not None:
        return ""
    version = results.versions.get("ftkit", "")
    entries = [
        EvalResultEntry(
            dataset_id=dataset,
            task_id=task.name.partition("/")[2] or task.name,
            value=task.scores[task.main_metric].value,
            notes=f"{task.main_metric}, {task.num_fewshot}-shot, {task.num_items} items, ftkit {version}".rstrip(),
        )
        for task in results.tasks.values()
        if (dataset := hub_dataset(task.name, results))
    ]
    return yaml.safe_dump(eval_result_entries_to_yaml(entries), sort_keys=False) if entries else ""
