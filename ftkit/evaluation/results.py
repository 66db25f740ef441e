"""What was measured of a model, in the one form that every command writes and `ftkit compare` reads: results.json with
its scores, and items/TASK.jsonl with the answered items of each task.

    OUT/results.json           the model that a run made, or the model that a benchmark asked
    OUT/before*/results.json   what it is compared with: the same items before training, and baselines

results = read_results("runs/mine/results.json")
items = read_items("runs/mine/results.json", results.tasks["mmlu"])
"""

import dataclasses
import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from ftkit.config.errors import UserError
from ftkit.config.files import write_json
from ftkit.config.jsonl import read_jsonl, write_jsonl
from ftkit.data.rows.thoughts import THOUGHT
from ftkit.metrics.intervals import bootstrap_interval, wilson_interval

SCHEMA = "ftkit.results/2"
FIRST_SCHEMA = "ftkit.results/1"  # its scores did not say whether they are shares
NO_SHARES = (
    "bleu", "chrf", "bits_per_byte", "perplexity", "matthews_correlation", "brier", "expected_calibration_error"
)  # fmt: skip
METRIC_NAMES = {  # of metrics whose name is not what a reader calls them
    "pair_accuracy": "pairs in the right order",
    "reward_accuracy": "pairs in the right order by implicit reward",
    "margin": "chosen score - rejected score",
    "pair_loss": "loss of a pair, nats",
    "chosen_logps": "log-probability of chosen, nats",
    "rejected_logps": "log-probability of rejected, nats",
    "signed_logps": "log-probability per token, of unwanted answers with a minus",
    "wanted_logps": "log-probability of wanted, nats",
    "unwanted_logps": "log-probability of unwanted, nats",
    "moved_rightly": "answers moved the way of their label",
    "answer_loss": "answer loss, nats per token",
    "answer_length": "answer length, tokens",
    "acc_norm": "acc, length-normalised",
    "contains": "answers that hold the reference",
    "final_answer": "right after the quotation",
    "quoted": "quotations word for word in their source",
    "token_f1": "token F1",
    "chrf": "chrF",
    "bleu": "BLEU",
    "rouge1": "ROUGE-1",
    "rouge2": "ROUGE-2",
    "rougeL": "ROUGE-L",
    "rougeLsum": "ROUGE-Lsum",
    "loss": "loss, nats per token",
    "roc_auc": "ROC AUC",
    "f1": "F1",
    "brier": "Brier score",
    "matthews_correlation": "Matthews correlation",
}
FILE = "results.json"
BEFORE = "before"  # folders of what a run is compared with begin so
AFTER = "after"
ID_LENGTH = 16  # hexadecimal digits of an item's id


@dataclass
class Score:
    """One metric of one task. low, high: its 95 % interval, None where there is none. is_share: it lies between 0 and 1
    and is shown in percent."""

    value: float
    low: float | None = None
    high: float | None = None
    higher_is_better: bool = True
    is_share: bool = False


@dataclass
class SampleCurve:
    """What k samples of an answer are worth. sizes: each k. ways: by the way to choose one of k (any: the best there
    is), the score of each k. tokens: written for an item by k samples, and read by what scores them; None where the
    server counts none."""

    sizes: list[int]
    ways: dict[str, list[Score]]
    tokens: list[float] | None = None


@dataclass
class TaskResult:
    """One task. task_hash: of its settings and items, so that only equal tasks are compared. items_file: beside
    results.json. main_metric: the one a verdict is about. scores: by the metric's name, METRIC/GROUP for a group of the
    items. num_cut: items longer than the model's context. examples_hash: of the examples before the questions; "" for
    none, or from an earlier ftkit. data: the Hub dataset whose rows a bundled task asked; "" for any other rows and
    tasks. is_sample: whether another run may have answered more or fewer of the same rows. num_thoughts: answers that
    began with a thought, which is not scored; num_thoughts_alone: of which no answer followed, which count as empty.
    samples: where each item was answered several times."""

    name: str
    version: int
    task_hash: str
    num_items: int
    num_fewshot: int
    main_metric: str
    scores: dict[str, Score]
    items_file: str
    num_cut: int = 0
    examples_hash: str = ""
    data: str = ""
    is_sample: bool = False
    num_thoughts: int = 0
    num_thoughts_alone: int = 0
    samples: SampleCurve | None = None


@dataclass
class Results:
    """What one model was asked. model: name, adapter, dtype, template, weights_hash, as far as known. settings: of the
    run."""

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


def content_id(*parts) -> str:
    """The id of an item by its content: JSON values."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:ID_LENGTH]


def mean_score(
    values: Sequence[float],
    weights: Sequence[float] | None = None,
    *,
    higher_is_better: bool = True,
    is_share: bool = True,
) -> Score:
    """The weighted mean with its 95 % interval: Wilson's where each value is 0 or 1 and counts the same, else the
    bootstrap's; none where all values are the same, as every draw is then. Raises ValueError for no values."""
    weights = weights if weights is not None else [1.0] * len(values)
    if is_share and set(values) <= {0.0, 1.0} and len(set(weights)) == 1:
        interval = wilson_interval(int(sum(values)), len(values))
        return Score(math.fsum(values) / len(values), *interval, higher_is_better, is_share)
    products = [value * weight for value, weight in zip(values, weights, strict=True)]
    interval = bootstrap_interval(products, weights=weights) if len(set(values)) > 1 else (None, None)
    return Score(math.fsum(products) / math.fsum(weights), *interval, higher_is_better, is_share)


def items_file(task_name: str) -> str:
    """The file of a task's items, beside results.json."""
    return f"items/{task_name.replace('/', '-')}.jsonl"


def task_of(
    name: str, items: list[Item], scores: dict[str, Score], *, settings=None, is_sample: bool = False
) -> TaskResult:
    """A task that was asked of held-out rows or answers. scores: the main metric first, one that every item has.

    settings: JSON values that make it another task, beside its items, unless these are a sample of the task's.
    """
    ids = None if is_sample else sorted(item.item_id for item in items)
    identity = json.dumps([settings, ids], sort_keys=True)
    task_hash = hashlib.sha256(identity.encode()).hexdigest()
    return TaskResult(
        name, 1, task_hash, len(items), 0, next(iter(scores)), scores, items_file(name), is_sample=is_sample,
        **thought_counts(items),
    )  # fmt: skip


def thought_counts(items: Sequence[Item]) -> dict[str, int]:
    """How many answers began with a thought, and how many of these ended with it, as fields of a TaskResult."""
    thought = [item for item in items if THOUGHT in item.extra]
    return {"num_thoughts": len(thought), "num_thoughts_alone": sum(not item.prediction for item in thought)}


def thoughts_text(task: TaskResult) -> str:
    """What a reader must know of thoughts before the answers; "" where there were none."""
    if not task.num_thoughts:
        return ""
    text = f"{task.num_thoughts:,} of {task.num_items:,} answers think first, and the thoughts are not scored"
    return text + (f"; without an answer after it: {task.num_thoughts_alone:,}" if task.num_thoughts_alone else "")


def write_run(folder: str | Path, results: Results, items: dict[str, list[Item]]) -> Path:
    """Write FOLDER/results.json after the items of its tasks, each file whole or not at all; return its path."""
    path = Path(folder) / FILE
    for name, task in results.tasks.items():
        write_jsonl(path.parent / task.items_file, map(dataclasses.asdict, items[name]))
    write_results(path, results)
    return path


def write_results(path: Path, results: Results) -> None:
    """Write results.json, whole or not at all. NaN and infinities are an error, as they are no JSON."""
    write_json(path, dataclasses.asdict(results))


def read_results(path: str | Path) -> Results:
    """Read results.json. Raises UserError for a missing file, one of another kind, and one of a form without items."""
    path, raw = Path(path), read_json(Path(path))
    schema = raw.get("schema")
    if schema is None and isinstance(raw.get("rows"), list):
        raise UserError(f"{path}: is of an earlier ftkit and holds no items to compare; run the same command again")
    if schema not in (SCHEMA, FIRST_SCHEMA):
        raise UserError(f"{path}: is not a result of the form {SCHEMA}; make one with ftkit bench")
    try:
        results = msgspec.convert(raw, Results)
    except msgspec.ValidationError as error:
        raise UserError(f"{path}: not a complete result ({error}); make it again with ftkit bench") from error
    if schema == FIRST_SCHEMA:
        results.schema = SCHEMA
        for metric, score in ((name, score) for task in results.tasks.values() for name, score in task.scores.items()):
            score.is_share = metric.partition("/")[0] not in NO_SHARES
    return results


def read_json(path: Path) -> dict:
    """What a results.json holds; {} for anything but an object. Raises UserError for no file, and for no JSON."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; give the results.json of a benchmark or of a training run")
    try:
        raw = msgspec.json.decode(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not JSON ({error}); give a results.json that ftkit wrote") from error
    return raw if isinstance(raw, dict) else {}


def find_results(folder: str | Path) -> Results | None:
    """FOLDER/results.json; None where there is none, or one without a schema. Raises UserError as `read_results`."""
    path = Path(folder) / FILE
    return read_results(path) if path.is_file() and "schema" in read_json(path) else None


def befores_of(folder: str | Path) -> list[Path]:
    """The results.json files that FOLDER's own is compared with, "before" first."""
    return sorted(Path(folder).glob(f"{BEFORE}*/{FILE}"))


def measured_runs(folder: str | Path) -> dict[str, Results]:
    """What a run measured, by name: "before" and others like it, then "after"; {} where FOLDER holds no results."""
    after = find_results(folder)
    if after is None:
        return {}
    befores = {
        path.parent.name.replace("-", ", ", 1).replace("-", " "): read_results(path) for path in befores_of(folder)
    }
    return {**befores, AFTER: after}


def compared_scores(runs: dict[str, Results]) -> dict[str, dict[str, dict[str, Score]]]:
    """What `measured_runs` gave as a table for each task: by what a reader calls a metric, the scores by run; the main
    metric of each group of the items last."""
    tables: dict[str, dict[str, dict[str, Score]]] = {}
    for when, run in runs.items():
        for name, task in run.tasks.items():
            whole, groups = grouped_scores(task)
            labelled = {metric_text(metric): score for metric, score in whole.items()}
            labelled |= {f"{metric_text(task.main_metric)}: {group}": score for group, score in groups.items()}
            for label, score in labelled.items():
                tables.setdefault(name, {}).setdefault(label, {})[when] = score
    return tables


def score_text(score: Score) -> str:
    """A score as people read it: 71.5 % of a share."""
    return f"{100 * score.value:.1f} %" if score.is_share else f"{score.value:.4g}"


def interval_text(score: Score) -> str:
    """Its 95 % interval; "" where there is none."""
    if score.low is None or score.high is None:
        return ""
    if score.is_share:
        return f"{100 * score.low:.1f} to {100 * score.high:.1f}"
    return f"{score.low:.4g} to {score.high:.4g}"


def cell_text(score: Score | None) -> str:
    """A score with its interval, as far as there is one; a dash for none."""
    if score is None:
        return "-"
    return score_text(score) + (f" ({interval})" if (interval := interval_text(score)) else "")


def metric_text(metric: str) -> str:
    """What a reader calls a metric."""
    return METRIC_NAMES.get(metric, metric.replace("_", " "))


def grouped_scores(task: TaskResult) -> tuple[dict[str, Score], dict[str, Score]]:
    """The scores of the whole task, the main one first, and the main one of each of its groups."""
    whole: dict[str, Score] = {}
    groups: dict[str, dict[str, Score]] = defaultdict(dict)
    for name, score in task.scores.items():
        metric, _, group = name.partition("/")
        (groups[group] if group else whole)[metric] = score
    whole = {task.main_metric: whole[task.main_metric], **whole} if task.main_metric in whole else whole
    return whole, {group: found[task.main_metric] for group, found in groups.items() if task.main_metric in found}


def read_items(results_path: str | Path, task: TaskResult) -> list[Item]:
    """The items of one task, in the order of the task. Raises UserError for a missing or broken file."""
    path = Path(results_path).parent / task.items_file
    if not path.is_file():
        raise UserError(f"{path}: no such file; it belongs to {results_path}, keep them together")
    return read_jsonl(path, item_of, what="item of a result", fix="run the same command again")


def item_of(values: dict) -> Item:
    """The item of a line. Raises ValueError for values that are none."""
    item = msgspec.convert(values, Item)
    if not item.scores or not item.weight > 0 or not all(map(math.isfinite, item.scores.values())):
        raise ValueError(f"scores are {item.scores}, weight is {item.weight}")
    return item
