"""What a benchmark found, as files that can be compared: results.json and one items/TASK.jsonl a task.

results = read_results("runs/before/results.json")
items = read_items("runs/before/results.json", results.tasks["mmlu"])
"""

import dataclasses
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from types import UnionType
from typing import get_args, get_origin

from ftkit.config.errors import UserError
from ftkit.config.files import write_json
from ftkit.config.jsonl import read_jsonl

SCHEMA = "ftkit.results/1"


@dataclass
class Score:
    """One metric of one task. low, high: its 95 % interval, None where there is none. A share lies between 0 and 1."""

    value: float
    low: float | None = None
    high: float | None = None
    higher_is_better: bool = True


@dataclass
class TaskResult:
    """One task. task_hash: of its settings and items, so that only equal tasks are compared. items_file: beside
    results.json. main_metric: the one a verdict is about. scores: by the metric's name. num_cut: items that the model's
    context does not hold whole. examples_hash: of the examples before the questions; "" for none, or from an earlier
    ftkit. data: the Hub dataset whose rows a bundled task asked; "" for any other rows and tasks."""

    name: str
    version: int
    task_hash: str
    num_items: int
    num_fewshot: int
    main_metric: str
    scores: dict[str, Score]
    items_file: str
    seconds: float = 0.0
    num_cut: int = 0
    examples_hash: str = ""
    data: str = ""


@dataclass
class Results:
    """One benchmark run. model: name, adapter, dtype, template, weights_hash, as far as known. settings: of the run."""

    model: dict
    tasks: dict[str, TaskResult]
    settings: dict = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    seed: int = 0
    schema: str = SCHEMA


@dataclass
class Item:
    """One answered item. item_id: a hash of its content, the same in every run. scores: by metric, {"acc": 1.0}."""

    item_id: str
    scores: dict[str, float]
    prompt: str = ""
    prediction: str = ""
    reference: str = ""
    weight: float = 1.0
    extra: dict = field(default_factory=dict)


def write_results(path: Path, results: Results) -> None:
    """Write results.json, whole or not at all. NaN and infinities are an error, as they are no JSON."""
    write_json(path, dataclasses.asdict(results))


def read_results(path: str | Path) -> Results:
    """Read results.json. Raises UserError for a missing file, one of another kind, and one of another version."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file; give the results.json of a benchmark run")
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise UserError(f"{path}:{error.lineno}: {error.msg}; give the results.json of a benchmark run") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: no JSON ({error}); give the results.json of a benchmark run") from error
    if not isinstance(raw, dict) or raw.get("schema") != SCHEMA:
        raise UserError(f"{path}: is no benchmark result of the form {SCHEMA}; make one with ftkit bench")
    try:
        tasks = {
            name: checked(
                TaskResult,
                {**task, "scores": {metric: checked(Score, score) for metric, score in task["scores"].items()}},
            )
            for name, task in raw["tasks"].items()
        }
        return checked(Results, {**raw, "tasks": tasks})
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: not a whole benchmark result ({error}); make it again with ftkit bench") from error


def read_items(results_path: str | Path, task: TaskResult) -> list[Item]:
    """The items of one task, in the order of the task. Raises UserError for a missing or broken file."""
    path = Path(results_path).parent / task.items_file
    if not path.is_file():
        raise UserError(f"{path}: no such file; it belongs to {results_path}, keep them together")
    return read_jsonl(path, item_of, what="item of a benchmark", fix="run ftkit bench again")


def item_of(values: dict) -> Item:
    """The item of a line. Raises ValueError or TypeError for values that are none."""
    item = checked(Item, values)
    if not item.scores or item.weight <= 0:
        raise ValueError(f"scores are {item.scores}, weight is {item.weight}")
    return item


def checked(form: type, values: dict):
    """A dataclass with values from JSON. Raises TypeError for names that it lacks, and for values of other types."""
    found = form(**values)
    for field_ in dataclasses.fields(form):
        value = getattr(found, field_.name)
        if not fits(value, field_.type):
            raise TypeError(f"{field_.name} is {str(value)[:60]!r}")
    return found


def fits(value, type_) -> bool:
    """Whether a value from JSON is of a type as fields name them; a float may be a whole number, but not NaN."""
    base, parts = get_origin(type_) or type_, get_args(type_)
    if base is UnionType:
        return any(fits(value, part) for part in parts)
    if base is dict and parts:
        return isinstance(value, dict) and all(fits(one, parts[1]) for one in value.values())
    if base is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf
    return isinstance(value, base) and (base is bool or not isinstance(value, bool))
