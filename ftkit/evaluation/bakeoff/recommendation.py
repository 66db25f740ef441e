"""Which contestant of a bake-off to take, in one sentence with its reason.

The best one, unless a simpler one is as good: then that. Where so few items can't tell them apart, how many more would.
"""

import math
from dataclasses import dataclass

from ftkit.evaluation.bakeoff.contest import Entry
from ftkit.evaluation.bakeoff.standing import Standing
from ftkit.evaluation.results import metric_text, score_text
from ftkit.evaluation.verdict.power import two_digits
from ftkit.evaluation.verdict.text import amount, difference_text
from ftkit.evaluation.verdict.verdict import BETTER, TOO_FEW, UNSEEN, WORSE, TaskVerdict

TAKE, CANNOT_TELL, NONE = "take", "cannot tell", "none"


@dataclass(frozen=True)
class Recommendation:
    """outcome: take, cannot tell, or none. name: the contestant to take, for now where that can't be told."""

    outcome: str
    name: str
    sentence: str


def recommend(standing: Standing) -> Recommendation:
    """The recommendation."""
    best, simpler = standing.best, standing.simpler
    if best.score.is_share and best.score.higher_is_better and best.score.value == 0:
        text = f"none: no contestant has {metric_text(best.task.main_metric)} above 0; look at the answers, or the rows"
        return Recommendation(NONE, best.contestant.name, text)
    for entry in simpler:  # the first that is not clearly worse
        row = standing.between(entry, best)
        if row.outcome == UNSEEN:
            return told(TAKE, entry, standing, f"as good as {best.title} within {points(standing)} {change(row)}")
        if row.outcome == TOO_FEW:
            return Recommendation(CANNOT_TELL, entry.contestant.name, undecided(standing, entry, best, row))
    return told(TAKE, best, standing, reason_of(standing))


def told(outcome: str, entry: Entry, standing: Standing, reason: str) -> Recommendation:
    """The sentence that names a contestant."""
    scored = f"{metric_text(entry.task.main_metric)} {score_text(entry.score)}"
    text = f"take {entry.title}: {scored}, {reason}{forgot(standing, entry)}"
    return Recommendation(outcome, entry.contestant.name, text)


def reason_of(standing: Standing) -> str:
    """Why the best one is taken: what it has before the next best, and who beside it is as good for more."""
    best, simpler = standing.best, standing.simpler
    later = standing.entries[len(simpler) + 1 :]
    beaten = [(entry, standing.between(entry, best)) for entry in simpler]
    beaten += [(entry, row) for entry in later if (row := standing.between(best, entry)).outcome == WORSE]
    others = [entry for entry in later if standing.between(best, entry).outcome != WORSE]
    parts = []
    if beaten:
        sign = 1 if best.score.higher_is_better else -1
        runner_up, row = max(beaten, key=lambda pair: sign * pair[0].score.value)
        parts.append(f"against {score_text(runner_up.score)} of {runner_up.title}, the next best {gap(row)}")
    if others:
        parts.append(f"and simpler than {listed(others)}, not shown to be better")
    return "; ".join(parts) or "the only one that ran"


def gap(row: TaskVerdict) -> str:
    """By how much two differ, without a sign: (28.0 points, 19.1 to 36.0)."""
    low, high = sorted(abs(bound) for bound in (row.low or 0.0, row.high or 0.0))
    factor = 100 if row.is_share else 1
    return f"({amount(row, row.difference)}, 95 % {factor * low:.3g} to {factor * high:.3g})"


def change(row: TaskVerdict) -> str:
    """(+1.2 (-2.0 to 4.4) points)."""
    return f"({difference_text(row)}{' points' if row.is_share else ''})"


def undecided(standing: Standing, entry: Entry, best: Entry, row: TaskVerdict) -> str:
    """Who can't be told apart, and how many items more would."""
    scores = f"{entry.title} ({score_text(entry.score)}) from {best.title} ({score_text(best.score)})"
    more = items_more(row, standing.margin)
    would = f"about {more:,} held-out rows more would" if more else "more held-out rows would"
    until = f"until then {entry.title}, which is simpler{forgot(standing, entry)}"
    worse = [other for other in standing.simpler if standing.between(other, best).outcome == BETTER]
    out = f"; {listed(worse)} {'is' if len(worse) == 1 else 'are'} worse" if worse else ""
    return f"cannot tell {scores}: {would}{out}; {until}"


def items_more(row: TaskVerdict, margin: float) -> int | None:
    """How many items beside those there are show a change that matters 4 times in 5; None where that isn't known."""
    matters = margin if row.is_share else margin * abs(row.before)
    if row.spread is None or not matters:
        return None
    more = math.ceil((row.spread / matters) ** 2) - row.num_items
    return two_digits(more) if more > 0 else None


def forgot(standing: Standing, entry: Entry) -> str:
    """What it lost of the probe, where that is shown."""
    row = standing.forgetting.get(entry.contestant.name)
    if row is None or row.outcome != WORSE:
        return ""
    return f"; it forgot {amount(row, row.difference)} of the probe"


def points(standing: Standing) -> str:
    """The smallest difference that matters, in words."""
    is_share = standing.entries[0].score.is_share
    return f"{100 * standing.margin:g} points" if is_share else f"{100 * standing.margin:g} %"


def listed(entries: list[Entry]) -> str:
    """LoRA, QLoRA and full fine-tune."""
    titles = [entry.title for entry in entries]
    return titles[0] if len(titles) == 1 else f"{', '.join(titles[:-1])} and {titles[-1]}"
