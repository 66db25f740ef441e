"""The contestants of a bake-off compared, each with each, and what training made them forget.

Every p value is corrected for the number of pairs (Holm), so that the best of them may be looked for afterwards.
"""

import itertools
from dataclasses import dataclass

from ftkit.evaluation.bakeoff.contest import ANSWERS, FORGETTING, Entry, LeftOut
from ftkit.evaluation.verdict.pairing import PairedTask, pair_runs
from ftkit.evaluation.verdict.verdict import MARGIN, TaskVerdict, measure_task, outcome_of
from ftkit.metrics.paired_tests import ALPHA, holm


@dataclass
class Standing:
    """entries: those that ran, the simplest first. pairs: by the names of two, the simpler one first, what the other
    changes. forgetting: by name, what a trained one lost of the probe. left_out: those that did not run."""

    entries: list[Entry]
    pairs: dict[tuple[str, str], TaskVerdict]
    forgetting: dict[str, TaskVerdict]
    left_out: list[LeftOut]
    margin: float

    @property
    def best(self) -> Entry:
        """The best by its mean; of equally good ones the simplest."""
        sign = 1 if self.entries[0].score.higher_is_better else -1
        return max(self.entries, key=lambda entry: sign * entry.score.value)

    def between(self, simpler: Entry, other: Entry) -> TaskVerdict:
        """What the less simple one of two changes."""
        return self.pairs[simpler.contestant.name, other.contestant.name]

    @property
    def simpler(self) -> list[Entry]:
        """Those that are simpler than the best."""
        return list(itertools.takewhile(lambda entry: entry is not self.best, self.entries))


def standing_of(entries: list[Entry | LeftOut], margin: float = MARGIN, seed: int = 0) -> Standing:
    """Compare those that ran. entries: the simplest first.

    Raises UserError where nobody ran, and for results that do not belong together.
    """
    ran = [entry for entry in entries if isinstance(entry, Entry)]
    left_out = [entry for entry in entries if isinstance(entry, LeftOut)]
    couples = list(itertools.combinations(ran, 2))
    pairs = corrected(
        {(a.contestant.name, b.contestant.name): pair_runs([a.run], b.run)[ANSWERS] for a, b in couples},
        margin,
        seed,
    )
    probed = [entry for entry in ran if FORGETTING in entry.run.results.tasks]
    base = next((entry for entry in probed if not entry.contestant.is_trained), None)
    forgot = {}
    if base:
        trained = [entry for entry in probed if entry.contestant.is_trained]
        forgot = corrected(
            {(entry.contestant.name,): pair_runs([base.run], entry.run)[FORGETTING] for entry in trained},
            margin,
            seed,
        )
    return Standing(ran, pairs, {name: row for (name,), row in forgot.items()}, left_out, margin)


def corrected(pairs: dict[tuple, PairedTask], margin: float, seed: int) -> dict[tuple, TaskVerdict]:
    """What each pair shows, its p value corrected for the number of pairs."""
    rows = {key: measure_task(pair, ALPHA / len(pairs), 0, seed) for key, pair in pairs.items()}
    for row, p_adjusted in zip(rows.values(), holm([row.p for row in rows.values()]), strict=True):
        row.p_adjusted = p_adjusted
        row.outcome = outcome_of(row, margin)
    return rows
