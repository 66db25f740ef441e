"""Benchmark runs as `ftkit bench` leaves them, made up for the tests of what reads them."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from ftkit.evaluation.bench.scores import SHARES
from ftkit.evaluation.results import Item, Results, Score, TaskResult, items_file, write_results
from ftkit.evaluation.verdict.pairing import read_run
from ftkit.evaluation.verdict.verdict import compare_runs
from ftkit.metrics.intervals import bootstrap_interval


def write_run(folder: Path, tasks: dict[str, Sequence[float]], *, metric: str = "acc", **settings) -> Path:
    """Write results.json and the items of `tasks`: {name: score of each item}; return the path of results.json.

    settings: of `write_task`, and `model`.
    """
    (folder / "items").mkdir(parents=True, exist_ok=True)
    model = settings.pop("model", {"name": folder.name})
    written = {name: write_task(folder, name, scores, metric=metric, **settings) for name, scores in tasks.items()}
    path = folder / "results.json"
    write_results(path, Results(model=model, tasks=written, versions={"ftkit": "0"}))
    return path


def write_task(
    folder: Path, name: str, scores: Sequence[float], *, metric: str = "acc", version: int = 1, task_hash: str = "",
    weights: Sequence[float] | None = None, higher_is_better: bool = True, num_fewshot: int = 0, prompts=None,
) -> TaskResult:  # fmt: skip
    weights = weights if weights is not None else [1.0] * len(scores)
    items = [
        Item(
            f"{name}-{number}", {metric: float(score)}, prompt=prompts[number] if prompts else f"question {number}",
            prediction="right" if score else "wrong", reference="right", weight=float(weight),
        )
        for number, (score, weight) in enumerate(zip(scores, weights, strict=True))
    ]  # fmt: skip
    lines = [json.dumps(dataclasses.asdict(item), ensure_ascii=False) for item in items]
    (folder / items_file(name)).write_text("\n".join(lines) + "\n", encoding="utf-8")
    mean = sum(s * w for s, w in zip(scores, weights, strict=True)) / sum(weights)
    interval = bootstrap_interval([s * w for s, w in zip(scores, weights, strict=True)], weights=weights)
    return TaskResult(
        name, version, task_hash or f"hash-of-{name}", len(items), num_fewshot, metric,
        {metric: Score(mean, *interval, higher_is_better, metric in SHARES)}, items_file(name),
    )  # fmt: skip


def scores(n: int, *, right: int) -> list[float]:
    return [1.0] * right + [0.0] * (n - right)


def compare(tmp_path, before: dict, after: dict, **settings):
    """The verdict on two runs made of scores."""
    options = {
        key: settings.pop(key) for key in ("metric", "weights", "higher_is_better", "prompts") if key in settings
    }
    paths = [write_run(tmp_path / name, tasks, **options) for name, tasks in (("before", before), ("after", after))]
    return compare_runs([read_run(paths[0])], read_run(paths[1]), **settings)
