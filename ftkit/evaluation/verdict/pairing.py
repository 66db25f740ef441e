"""Two benchmark runs as pairs of answers to the same items; runs of different tasks are refused."""

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ftkit.config.errors import UserError, did_you_mean
from ftkit.evaluation.bench.scores import CORPUS
from ftkit.evaluation.results import (
    AFTER,
    FILE,
    ID_LENGTH,
    Item,
    Results,
    TaskResult,
    befores_of,
    metric_text,
    read_items,
    read_results,
    thoughts_text,
)
from ftkit.metrics.text_match import FEW_WORDS, graded_metric

PLACES = (FILE, f"{AFTER}/{FILE}", f"benchmark/{AFTER}/{FILE}")  # of a folder's results
EVEN = {"stereotype_share": 0.5}  # metrics whose best value lies in the middle
NEUTRAL = ("answer_length",)  # metrics of which neither more nor less is better
PER_TOKEN = ("answer_loss", "token_accuracy")  # in which an item counts as often as its answer has tokens


@dataclass
class Run:
    """A benchmark run that was read. path: its results.json."""

    path: Path
    results: Results

    @property
    def name(self) -> str:
        """The model as people call it, with its adapter and template where they are known."""
        model = self.results.model
        named = [str(model[key]) for key in ("name", "adapter") if model.get(key)]
        short = " + ".join(Path(name).name or name for name in named) or str(self.path.parent.name)
        return f"{short}, template {model['template']}" if isinstance(model.get("template"), str) else short


@dataclass
class PairedTask:
    """One task answered twice. before, after: item i of both is the same question. metric: what is compared, item by
    item. run, run_name: which of the runs before. num_runs: among so many it was the best. others: by the metrics that
    are recorded beside it."""

    task: TaskResult
    metric: str
    higher_is_better: bool
    before: list[Item]
    after: list[Item]
    run: Run
    num_runs: int
    notes: list[str]
    run_name: str = ""
    others: list["PairedTask"] = dataclasses.field(default_factory=list)

    def __post_init__(self):
        self.run_name = self.run_name or self.run.name

    def having(self, metric: str) -> "PairedTask | None":
        """The items that have it before and after; None where there are none."""
        both = [pair for pair in zip(self.before, self.after, strict=True) if all(metric in one.scores for one in pair)]
        if not both:
            return None
        before, after = map(list, zip(*both, strict=True))
        return dataclasses.replace(self, before=before, after=after)

    def by(self, metric: str, task: TaskResult) -> "PairedTask":
        """The same items compared by another metric."""
        higher = task.scores[metric].higher_is_better if metric in task.scores else True
        return dataclasses.replace(self, metric=metric, higher_is_better=higher, notes=list(self.notes))

    def scores(self) -> tuple[np.ndarray, np.ndarray]:
        """(items,) float64 each: before and after."""
        return tuple(np.array([item.scores[self.metric] for item in items]) for items in (self.before, self.after))

    def weights(self) -> np.ndarray | None:
        """(items,) float64; None where all items count the same."""
        tokens = "num_answer_tokens" if self.metric in PER_TOKEN else ""
        weights = np.array([item.extra.get(tokens, item.weight) for item in self.after], dtype=np.float64)
        return None if (weights == weights[0]).all() else weights

    @property
    def is_right_or_wrong(self) -> bool:
        """Whether every score is 0 or 1 and every item counts the same."""
        return self.weights() is None and all(np.isin(scores, (0.0, 1.0)).all() for scores in self.scores())

    @property
    def is_share(self) -> bool:
        """Whether the scores are shares, so that a difference is shown in points of 100; where the task has no score of
        that metric, the values of its items decide."""
        score = self.task.scores.get(self.metric)
        return self.is_right_or_wrong if score is None else score.is_share

    def means(self) -> tuple[float, float]:
        """Of before and after, weighted."""
        return tuple(float(np.average(scores, weights=self.weights())) for scores in self.scores())


def read_run(path: str | Path) -> Run:
    """Read results.json, or that of a folder: of a run, of a benchmark, or of a run's benchmark after it.

    Raises UserError as `read_results`.
    """
    path = Path(path)
    if path.is_dir():
        path = next(filter(Path.is_file, (path / place for place in PLACES)), path / FILE)
    return Run(path, read_results(path))


def read_run_and_befores(folder: str | Path) -> tuple[list[Run], Run]:
    """What a training run measured before and after. Raises UserError where it measured only once, or not at all."""
    after = read_run(folder)
    at_end = after.path.parent
    befores = befores_of(at_end.parent if at_end.name == AFTER else at_end)
    if not befores:
        raise UserError(f"{after.path}: nothing was measured before it; give BEFORE and AFTER")
    return [read_run(path) for path in befores], after


def pair_runs(befores: list[Run], after: Run, metric: str | None = None) -> dict[str, PairedTask]:
    """The tasks that the run after shares with runs before, by name, each with the best of those.

    metric: that is compared where a task has it, None for each task's own.
    Raises UserError where no task is shared, for a task of another version, content or set of items, and for a metric
    that no task has.
    """
    paired = {}
    for name, task in after.results.tasks.items():
        if found := [run for run in befores if name in run.results.tasks]:
            paired[name] = pair_task(found, after, task, metric)
    if not paired:
        names = [", ".join(run.results.tasks) or "no tasks" for run in (*befores, after)]
        raise UserError(f"{after.path}: shares no task with the runs before ({' | '.join(names)}); run the same tasks")
    if metric and all(pair.metric != metric for pair in paired.values()):
        known = dict.fromkeys(one.metric for pair in paired.values() for one in (pair, *pair.others))
        raise UserError(
            f'--metric: no task has "{metric}" in every item{did_you_mean(metric, known)}; there are {", ".join(known)}'
        )
    return paired


def pair_task(befores: list[Run], after: Run, task: TaskResult, metric: str | None = None) -> PairedTask:
    """One task with the best of the runs before, item by item, in the order of the run after."""
    for run in befores:
        check_same_task(run, after, run.results.tasks[task.name], task)
    items = read_items(after.path, task)
    if not items:
        raise UserError(f"{after.path}: task {task.name} has no items; finish it with ftkit bench")
    earlier = [read_items(run.path, run.results.tasks[task.name]) for run in befores]
    if having := [place for place, old in enumerate(earlier) if metric and all(metric in one.scores for one in old)]:
        befores, earlier = ([some[place] for place in having] for some in (befores, earlier))
    chosen, notes = common_metric(task, items, earlier, after, metric)
    found = [pair_items(run, old, after, items, task) for run, old in zip(befores, earlier, strict=True)]
    pairs = [pair.by(chosen, task) for pair in found]
    best = max(pairs, key=lambda pair: goodness(chosen, pair.means()[0], pair.higher_is_better))
    best.num_runs = len(pairs)
    best.notes = notes + best.notes + differing_notes(best.run.results.tasks[task.name], task, chosen)
    shots = best.run.results.tasks[task.name].num_fewshot
    if shots and len({run.results.tasks[task.name].num_fewshot for run in befores}) > 1:
        best.run_name += f", {shots}-shot"
    order = sorted(found, key=lambda pair: pair.run is not best.run)  # the best one's own where it has the metric
    for name in dict.fromkeys(name for item in items for name in item.scores if name != chosen):
        having = [part for pair in order if (part := pair.having(name))]
        best.others += [part.by(name, task) for part in having[:1]]
    return best


def pair_items(before: Run, old: list[Item], after: Run, new: list[Item], task: TaskResult) -> PairedTask:
    """The items of two runs, those that ask the same. Raises UserError where one has items that the other lacks."""
    (old_by_question, new_by_question), num_repeated = zip(*map(by_question, (old, new)), strict=True)
    sampled = []
    if task.is_sample:
        both = [key for key in new_by_question if key in old_by_question]
        if not both:
            raise UserError(f"{after.path}: task {task.name} shares no item with {before.path}; measure both again")
        if len(both) < len(new):
            sampled = [f"compared on the {len(both):,} rows that both runs measured"]
        new_by_question, old_by_question = (
            {key: found[key] for key in both} for found in (new_by_question, old_by_question)
        )
        new = old = both
    missing = len(new_by_question.keys() - old_by_question.keys()), len(old_by_question.keys() - new_by_question.keys())
    if any(missing) or len(old) != len(new):
        raise UserError(
            f"{after.path}: task {task.name} has {missing[0]} items that {before.path} lacks, and lacks {missing[1]} "
            "of its items; run both to their end with the same --limit"
        )
    repeated = f"{num_repeated[0]:,} of {len(new):,} items repeat another one and are counted once"
    return PairedTask(
        task, task.main_metric, True, [old_by_question[key] for key in new_by_question],
        list(new_by_question.values()), before, 1, sampled + [repeated] * (num_repeated[0] > 0),
    )  # fmt: skip


def differing_notes(old: TaskResult, new: TaskResult, metric: str) -> list[str]:
    """What a reader must know about how the two were asked, and how their scores come about."""
    notes = []
    if old.num_fewshot != new.num_fewshot:
        notes.append(f"asked with {old.num_fewshot} examples before and {new.num_fewshot} after")
    elif old.examples_hash and new.examples_hash and old.examples_hash != new.examples_hash:
        notes.append("asked with different examples before and after")
    if old.num_cut or new.num_cut:
        notes.append(f"{old.num_cut} items before and {new.num_cut} after were longer than the model's context")
    for when, one in (("before", old), ("after", new)):
        notes += [f"{when}: {text}"] if (text := thoughts_text(one)) else []
    if metric in CORPUS:
        figures = [one.scores[metric].value for one in (old, new) if metric in one.scores]
        both = f" ({figures[0]:.4g} before, {figures[1]:.4g} after)" if len(figures) == 2 else ""
        notes.append(f"{metric} of the whole task{both} is not a mean of items; the mean of the items' own is compared")
    return notes


def goodness(metric: str, value: float, higher_is_better: bool) -> float:
    """What is larger the better the value is."""
    if metric in EVEN:
        return -abs(value - EVEN[metric])
    return value if higher_is_better else -value


def content_key(item: Item) -> str:
    """What an item asks, as a hash: the same in each task that asks it, and for an item that repeats another."""
    match = re.fullmatch(rf"([0-9a-f]{{{ID_LENGTH}}})-\d+", item.item_id)
    return match[1] if match else item.item_id


def by_question(items: list[Item]) -> tuple[dict[str, Item], int]:
    """The items by what they ask, those that ask the same made one by their mean scores; and how many those are more.

    Scores that some of them lack are left out.
    """
    alike: dict[str, list[Item]] = {}
    for item in items:
        alike.setdefault(content_key(item), []).append(item)
    found = {}
    for question, same in alike.items():
        names = [name for name in same[0].scores if all(name in item.scores for item in same)]
        scores = {name: sum(item.scores[name] for item in same) / len(same) for name in names}
        found[question] = dataclasses.replace(same[0], scores=scores)
    return found, len(items) - len(found)


def check_same_task(before: Run, after: Run, old: TaskResult, new: TaskResult) -> None:
    """Raise UserError unless both runs answered the same version of the same task."""
    if old.version != new.version:
        difference = f"version {old.version} in {before.path} and {new.version} in {after.path}"
    elif old.task_hash != new.task_hash:
        difference = (
            f"different settings or items in {before.path} ({old.task_hash[:8]}) and {after.path} ({new.task_hash[:8]})"
        )
    else:
        return
    raise UserError(f"task {new.name}: {difference}; run ftkit bench again on both models with the same tasks")


def common_metric(
    task: TaskResult, items: list[Item], earlier: list[list[Item]], after: Run, asked: str | None
) -> tuple[str, list[str]]:
    """What is compared, and why where it is not the task's main metric: the one asked for, a graded one where answers
    are free text, or the first that every item has where the main one is a figure of the whole task."""
    everyone = [*items, *(item for old in earlier for item in old)]
    shared = [name for name in items[0].scores if all(name in item.scores for item in everyone)]
    if not shared:
        raise UserError(f"{after.path}: task {task.name} has no metric that every item has; run ftkit bench again")
    if asked in shared:
        return asked, [] if asked == task.main_metric else [f"compared by {metric_text(asked)}, as --metric asks"]
    if task.main_metric not in shared:
        has = any(task.main_metric in item.scores for item in everyone)
        why = "not recorded in both runs" if has else "a figure of the whole task"
        return shared[0], [f"{task.main_metric} is {why}; items are compared by {shared[0]}"]
    best = graded_metric([item.reference for item in items]) if task.main_metric == "exact_match" else "exact_match"
    graded = next((name for name in (best, "token_f1") if name in shared), None)
    if best == "exact_match" or graded is None:
        return task.main_metric, []
    reason = f"most references have more than {FEW_WORDS} words, which are seldom met word for word"
    return graded, [f"compared by {metric_text(graded)}: {reason}; --metric exact_match compares whole answers"]


def named_tasks(names: list[str], paired: dict[str, PairedTask]) -> list[str]:
    """The tasks of these names; that of a task stands for its subjects too. Raises UserError for one not compared."""
    for name in names:
        if not any(name in (task, task.partition("/")[0]) for task in paired):
            hint = did_you_mean(name, paired) or f"; compared are: {', '.join(paired)}"
            raise UserError(f'--forgetting: no task "{name}" in both runs{hint}')
    return [task for task in paired if task in names or task.partition("/")[0] in names]
