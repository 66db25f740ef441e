"""A benchmark run as the Hub reads it: EvalResult in the card's metadata, and .eval_results/ftkit.yaml.

Read from FOLDER/benchmark/after, where --benchmark_tasks of a training command leaves it, else from FOLDER/benchmark,
for `ftkit bench --output_dir FOLDER/benchmark`. Only tasks whose rows are a dataset of the Hub are listed, as the Hub
wants a dataset's id, and only bundled tasks, whose questions are known; a run with --limit makes no entry for a
leaderboard.
"""

from pathlib import Path

from ftkit.evaluation.results import Results, TaskResult, find_results

FOLDERS = ("benchmark/after", "benchmark")
ENTRIES_FILE = ".eval_results/ftkit.yaml"
TASK_TYPE = "text-generation"


def benchmark_of(folder: Path) -> Results | None:
    """The benchmark in a model's folder; None for none, or one without a schema. Raises UserError for a broken one."""
    return next(filter(None, (find_results(folder / name) for name in FOLDERS)), None)


def hub_tasks(results: Results | None) -> list[TaskResult]:
    """The tasks whose rows are a dataset of the Hub, with their main score."""
    tasks = results.tasks.values() if results else ()
    return [task for task in tasks if task.data and task.main_metric in task.scores]


def config_of(task: TaskResult) -> str | None:
    """The part of the dataset that was asked: the subject, or the configuration that the task names."""
    from ftkit.evaluation.bench.task_file import bundled_tasks, load_task

    name, _, subject = task.name.partition("/")
    return subject or (load_task(name).config if name in bundled_tasks() else None)


def benchmark_results(folder: Path) -> list:
    """huggingface_hub.EvalResult of each task's main metric."""
    from huggingface_hub import EvalResult

    results = benchmark_of(folder)
    return [
        EvalResult(
            TASK_TYPE,
            task.data,
            f"{task.name}, {task.num_fewshot}-shot, {task.num_items} items",
            task.main_metric,
            task.scores[task.main_metric].value,
            dataset_config=config_of(task),
            metric_name=task.main_metric,
        )
        for task in hub_tasks(results)
    ]


def with_benchmark(text: str, folder: Path) -> str:
    """A card with the benchmark's results in its metadata, in place of earlier ones of the same datasets."""
    from huggingface_hub import ModelCard

    found = benchmark_results(folder)
    if not found:
        return text
    card = ModelCard(text, ignore_metadata_errors=True)
    new = set(map(measured, found))  # with different examples or items, too
    kept = [one for one in card.data.eval_results or [] if measured(one) not in new]
    card.data.eval_results = [*kept, *found]
    card.data.model_name = card.data.model_name or folder.resolve().name
    return str(card)


def measured(result) -> tuple:
    """What an EvalResult is about, whatever came out."""
    return result.task_type, result.dataset_type, result.dataset_config, result.metric_type


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
            dataset_id=task.data,
            task_id=task.name.partition("/")[2] or task.name,
            value=task.scores[task.main_metric].value,
            notes=f"{task.main_metric}, {task.num_fewshot}-shot, {task.num_items} items, ftkit {version}".rstrip(),
        )
        for task in hub_tasks(results)
    ]
    return yaml.safe_dump(eval_result_entries_to_yaml(entries), sort_keys=False) if entries else ""
