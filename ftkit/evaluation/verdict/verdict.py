"""Did it get better, and what did it forget: better, worse, no difference seen, or too few items to say.

A change is reported where the corrected test and the interval both say so; none is "seen" where the whole interval is
smaller than what matters. Tasks that clearly differ are "better and worse" together.

verdict = compare_runs([read_run("runs/before/results.json")], read_run("runs/after/results.json"))
verdict.outcome, verdict.reason
"""

import math
from dataclasses import dataclass, field

import numpy as np

from ftkit.evaluation.results import Item
from ftkit.evaluation.verdict.pairing import PairedTask, Run, content_key, goodness, named_tasks, pair_runs
from ftkit.evaluation.verdict.power import power_text
from ftkit.metrics.intervals import Difference
from ftkit.metrics.paired_tests import (
    ALPHA,
    POWER,
    Z,
    best_of_bias,
    detectable_mean_difference,
    detectable_share_difference,
    holm,
    mcnemar_p,
    mean_difference,
    mean_of_tasks,
    share_difference,
    sign_flip_p,
    smallest_provable_share,
)

BETTER, WORSE = "better", "worse"
UNSEEN, TOO_FEW = "no difference seen", "too few items"
MIXED = "better and worse"  # of all tasks together
MARGIN = 0.05  # the smallest difference that matters: 5 points of a share, 5 % of another metric
PROBE = "forgetting"  # what ftkit bench calls its probe
ALL_TASKS = "mean of tasks"


@dataclass
class Flip:
    """An item whose score changed."""

    prompt: str
    reference: str
    before: str
    after: str
    score_before: float
    score_after: float


@dataclass
class MetricChange:
    """What a metric of a task did. difference, low, high: after - before, 95 % interval of this task alone.

    low, high: None for one item.
    """

    task: str
    metric: str
    num_items: int
    before: float
    after: float
    difference: float
    low: float | None
    high: float | None
    higher_is_better: bool = True
    is_share: bool = True


@dataclass
class TaskVerdict(MetricChange):
    """One task, by the metric that decides. p_adjusted: corrected for all tasks.

    detectable: the smallest true difference that would be found 4 times in 5, None where there is none. provable: a
    smaller share can't be shown whatever the answers are. spread: what is detectable times the root of the number of
    items, where these are many: from it follows how many are needed. num_gained, num_lost: items that got better and
    worse, where they are right or wrong. others: what further metrics say.
    before_from: the run before, and among how many it was the best.
    """

    p: float = 1.0
    detectable: float | None = None
    provable: float | None = None
    spread: float | None = None
    num_gained: int | None = None
    num_lost: int | None = None
    is_probe: bool = False
    before_from: str = ""
    num_runs: int = 1
    p_adjusted: float = 1.0
    outcome: str = UNSEEN
    improved: list[Flip] = field(default_factory=list)
    worsened: list[Flip] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    others: list[MetricChange] = field(default_factory=list)

    @property
    def gain(self) -> float:
        """How much nearer the score came to what is best, or by how much it moved away (negative)."""
        before, after = (goodness(self.metric, value, self.higher_is_better) for value in (self.before, self.after))
        return 0.0 if math.isclose(before, after) else after - before

    @property
    def leaves_out_0(self) -> bool:
        """Whether the interval excludes no change."""
        return self.low is not None and not self.low <= 0 <= self.high

    @property
    def loss_not_ruled_out(self) -> float | None:
        """The worst change that the interval holds, 0 or more, in the metric's unit; None without an interval."""
        return None if self.low is None else max(0.0, -self.low if self.higher_is_better else self.high)


@dataclass
class Verdict:
    """outcome: of the tasks that are no probes of forgetting, or of all where there is no other. reason: one line."""

    outcome: str
    reason: str
    tasks: list[TaskVerdict]
    all_tasks: TaskVerdict | None
    before: list[str]
    after: str
    margin: float
    warnings: list[str] = field(default_factory=list)

    @property
    def sentence(self) -> str:
        """Outcome and reason, the outcome once."""
        return self.reason if self.reason.startswith(self.outcome) else f"{self.outcome}: {self.reason}"

    @property
    def targets(self) -> list[TaskVerdict]:
        """The tasks that are no probes."""
        return [task for task in self.tasks if not task.is_probe]

    @property
    def rows(self) -> list[TaskVerdict]:
        """All rows of a table: the tasks, the probes after them, the mean of tasks last."""
        return [*self.targets, *self.probes, *([self.all_tasks] if self.all_tasks else [])]

    @property
    def probes(self) -> list[TaskVerdict]:
        """The tasks that watch for forgetting."""
        return [task for task in self.tasks if task.is_probe]


def compare_runs(
    befores: list[Run],
    after: Run,
    *,
    forgetting: list[str] | None = None,
    metric: str | None = None,
    margin: float = MARGIN,
    num_examples: int = 3,
    seed: int = 0,
) -> Verdict:
    """Compare paired items task by task; every p value is corrected for the number of tasks (Holm).

    befores: the model before, under one or more templates or numbers of examples; per task the best one counts.
    forgetting: tasks that the training was not about; they are listed apart and do not decide "better". None: the
    task of that name, where it is not the only one. metric: what decides, in place of each task's main one.
    Raises UserError for runs that do not fit and names in `forgetting` that are not there.
    """
    paired = pair_runs(befores, after, metric)
    if forgetting is None:
        forgetting = [name for name in paired if name.partition("/")[0] == PROBE and len(paired) > 1]
    forgetting = named_tasks(forgetting, paired)
    targets = [pair for name, pair in paired.items() if name not in forgetting]
    has_mean = len(targets) > 1 and all(map(may_be_pooled, targets))
    alpha = ALPHA / (len(paired) + has_mean)
    tasks = [measure_task(pair, alpha, num_examples, seed) for pair in paired.values()]
    mean = [measure_mean(targets, alpha, seed)] if has_mean else []
    for task in tasks:
        task.is_probe = task.task in forgetting
    for row, p_adjusted in zip([*tasks, *mean], holm([row.p for row in [*tasks, *mean]]), strict=True):
        row.p_adjusted = p_adjusted
        row.outcome = outcome_of(row, margin)
    mean_row = mean[0] if mean else None
    outcome, reason = overall([task for task in tasks if not task.is_probe] or tasks, mean_row, margin)
    forgot = [task.task for task in tasks if task.is_probe and task.outcome == WORSE]
    if forgot:
        outcome = WORSE if outcome in (UNSEEN, TOO_FEW) else outcome
        reason += f"; forgot {', '.join(forgot)}"
    warnings = selection_notes(befores, after, paired)
    if len(targets) > 1 and not has_mean:
        warnings.append("no mean of the tasks: it is of shares of which more is better, all against one run before")
    return Verdict(outcome, reason, tasks, mean_row, [run.name for run in befores], after.name, margin, warnings)


def may_be_pooled(pair: PairedTask) -> bool:
    """Whether a task counts in the mean: of shares, more being better, each item the same, and against one run.

    The best of several runs is a little too good in every task, which adds up over many tasks.
    """
    return pair.is_share and pair.higher_is_better and pair.weights() is None and pair.num_runs == 1


def measure_task(pair: PairedTask, alpha: float, num_examples: int, seed: int) -> TaskVerdict:
    """Effect, interval, p value and power of one task."""
    from scipy.stats import norm

    before, after = pair.scores()
    weights, n = pair.weights(), len(before)
    differences = after - before
    extra = {}
    if pair.is_right_or_wrong:
        up, down = int((differences > 0).sum()), int((differences < 0).sum())
        effect, p = share_difference(up, down, n), mcnemar_p(up, down)
        gained, lost = (up, down) if pair.higher_is_better else (down, up)
        # one more changed item of two more: none seen does not mean that none can change
        share_changed = (gained + lost + 1) / (n + 2)
        detectable, one = detectable_share_difference(n, share_changed, alpha), math.sqrt(share_changed)
        extra = {"num_gained": gained, "num_lost": lost, "provable": smallest_provable_share(n, alpha)}
    else:
        effect = mean_difference(before, after, weights=weights, seed=seed)
        p = sign_flip_p(differences * (1.0 if weights is None else weights), seed=seed)
        detectable, one = detectable_mean_difference(differences, weights, alpha), None
    bias, width = best_of_bias(pair.num_runs), float(norm.ppf(1 - alpha / 2) + norm.ppf(POWER))
    if detectable is not None:
        detectable *= 1 + bias / width
        extra["spread"] = detectable * math.sqrt(n) if one is None else (width + bias) * one
    row = TaskVerdict(
        pair.task.name, pair.metric, n, *pair.means(), effect.difference,
        *bounds(effect, bias, pair), p=p,
        higher_is_better=pair.higher_is_better, is_share=pair.is_share, detectable=detectable,
        before_from=pair.run_name, num_runs=pair.num_runs, notes=list(pair.notes), **extra,
    )  # fmt: skip
    if row.gain <= 0:
        row.p = min(1.0, p * pair.num_runs)  # the best of several runs is high by chance too
    row.improved, row.worsened = flips(pair, differences, num_examples)
    row.others = [metric_change(other, seed) for other in pair.others]
    return row


def metric_change(pair: PairedTask, seed: int) -> MetricChange:
    """What a task's items say by a metric that does not decide."""
    before, after = pair.scores()
    if pair.is_right_or_wrong:
        effect = share_difference(int((after > before).sum()), int((after < before).sum()), len(before))
    else:
        effect = mean_difference(before, after, weights=pair.weights(), seed=seed)
    return MetricChange(
        pair.task.name, pair.metric, len(before), *pair.means(), effect.difference, *bounds(effect, 0.0, pair),
        higher_is_better=pair.higher_is_better, is_share=pair.is_share,
    )  # fmt: skip


def bounds(effect: Difference, bias: float, pair: PairedTask) -> tuple[float | None, float | None]:
    """The interval's bounds, None where it is infinite, no more than all of a share; on the side of a gain wider by the
    `bias` in standard errors of what the change is measured from, see `best_of_bias`."""
    if not math.isfinite(effect.low):
        return None, None
    extra = bias * (effect.high - effect.low) / (2 * Z)
    low, high = effect.low - extra * (not pair.higher_is_better), effect.high + extra * pair.higher_is_better
    return (max(low, -1.0), min(high, 1.0)) if pair.is_share else (low, high)


def measure_mean(pairs: list[PairedTask], alpha: float, seed: int) -> TaskVerdict:
    """The mean of several tasks of shares, each counting the same."""
    from scipy.stats import norm

    scores = [pair.scores() for pair in pairs]
    questions = [[content_key(item) for item in pair.after] for pair in pairs]
    mean = mean_of_tasks([after - before for before, after in scores], questions, seed=seed)
    before, after = (float(np.mean([side.mean() for side in sides])) for sides in zip(*scores, strict=True))
    return TaskVerdict(
        ALL_TASKS, pairs[0].metric if len({pair.metric for pair in pairs}) == 1 else "share",
        sum(len(pair.after) for pair in pairs), before, after, *mean.difference, p=mean.p,
        detectable=float(norm.ppf(1 - alpha / 2) + norm.ppf(POWER)) * mean.standard_error,
    )  # fmt: skip


def flips(pair: PairedTask, differences: np.ndarray, num_examples: int) -> tuple[list[Flip], list[Flip]]:
    """The items that improved and worsened most, at most `num_examples` each way."""
    gains = differences if pair.higher_is_better else -differences
    order = np.argsort(-gains, kind="stable")
    improved = [flip(pair, index) for index in order[:num_examples] if gains[index] > 0]
    worsened = [flip(pair, index) for index in order[::-1][:num_examples] if gains[index] < 0]
    return improved, worsened


def flip(pair: PairedTask, index: int) -> Flip:
    """An item whose score changed, as it was answered before and after."""
    before: Item = pair.before[index]
    after: Item = pair.after[index]
    scores = before.scores[pair.metric], after.scores[pair.metric]
    return Flip(after.prompt, after.reference, before.prediction, after.prediction, *scores)


def outcome_of(row: TaskVerdict, margin: float) -> str:
    """better or worse where the corrected p value and the interval say so; else whether every difference that matters
    is ruled out."""
    if row.p_adjusted <= ALPHA and row.leaves_out_0 and row.gain:
        return BETTER if row.gain > 0 else WORSE
    if row.low is None or row.detectable is None:
        return TOO_FEW
    matters = margin if row.is_share else margin * abs(row.before)
    return UNSEEN if -matters <= row.low and row.high <= matters else TOO_FEW


def overall(tasks: list[TaskVerdict], mean: TaskVerdict | None, margin: float) -> tuple[str, str]:
    """Outcome and reason: what the tasks say, and their mean where it is decided and no task says the contrary."""
    named = {outcome: [task.task for task in tasks if task.outcome == outcome] for outcome in (BETTER, WORSE)}
    said = [f"{outcome} on {', '.join(names)}" for outcome, names in named.items() if names]
    found = {outcome for outcome, names in named.items() if names}
    if mean and mean.outcome in (BETTER, WORSE):
        said.insert(0, f"{mean.outcome} in the mean of {len(tasks)} tasks")
        found.add(mean.outcome)
    if found:
        return MIXED if len(found) > 1 else found.pop(), "; ".join(said)
    rows, where = ([mean], f" in the mean of {len(tasks)} tasks") if mean else (tasks, "")
    matters = f"{100 * margin:g} points" if all(row.is_share for row in rows) else f"{100 * margin:g} points or percent"
    intervals = "the interval" if len(rows) == 1 else "the intervals"
    if all(row.outcome == UNSEEN for row in rows):
        return UNSEEN, f"{intervals} exclude{'s' * (len(rows) == 1)} changes of {matters} or more{where}"
    if len(rows) == 1 and not mean:
        return TOO_FEW, power_text(rows[0], margin)
    verb = "does" if len(rows) == 1 else "do"
    return TOO_FEW, f"{intervals} {verb} not exclude changes of {matters} or more{where}"


def selection_notes(befores: list[Run], after: Run, paired: dict[str, PairedTask]) -> list[str]:
    """What a reader must know about the choice of runs and tasks."""
    notes = []
    if any(pair.num_runs > 1 for pair in paired.values()):
        notes.append(
            f"before is the better of {len(befores)} runs, task by task, which is high by chance too: p values of "
            "losses are multiplied by their number, intervals reach further on the side of a gain"
        )
    for key in ("dtype", "load_in_4bit"):
        values = {str(run.results.model[key]) for run in (*befores, after) if run.results.model.get(key) is not None}
        if len(values) > 1:
            notes.append(f"warning: {key} is not the same in all runs ({', '.join(sorted(values))}); run them alike")
    for run in (*befores, after):
        alone = [name for name in run.results.tasks if name not in paired]
        if alone:
            notes.append(f"{run.path} alone has {', '.join(alone)}: not compared")
    return notes
