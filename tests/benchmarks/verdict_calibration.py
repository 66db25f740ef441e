"""Do the verdict's false alarms, intervals and power hold? Simulated answers, and whole `compare_runs` calls.

python tests/benchmarks/verdict_calibration.py          # writes its section of RESULTS.md, some 8 minutes
python tests/benchmarks/verdict_calibration.py --quick  # a minute, writes nothing
"""

import argparse
import dataclasses
import functools
import json
import platform
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ftkit.evaluation.results import Item, Results, Score, TaskResult, write_results
from ftkit.evaluation.verdict.pairing import read_run
from ftkit.evaluation.verdict.verdict import BETTER, WORSE, compare_runs
from ftkit.metrics import paired_tests
from ftkit.metrics.intervals import wilson_interval

SEED = 0
SIZES = (30, 50, 100, 200, 500, 1000)
NORMAL, SKEWED, QUARTERS = "normal", "skewed (exponential)", "quarters, 10 % changed"
CHANGED = 0.2  # share of items that are answered right once only

mcnemar_p = functools.lru_cache(maxsize=None)(paired_tests.mcnemar_p)
share_difference = functools.lru_cache(maxsize=None)(paired_tests.share_difference)


class Rate(NamedTuple):
    """A share of simulations. expected: what it was said to be, where it was."""

    hits: int
    num: int
    expected: float | None = None

    @property
    def share(self) -> float:
        return self.hits / self.num

    def __str__(self) -> str:
        low, high = wilson_interval(self.hits, self.num)
        stated = "" if self.expected is None else f", stated {100 * self.expected:.1f} %"
        return f"{100 * self.share:.2f} % ({100 * low:.2f} to {100 * high:.2f}){stated}"


def right_or_wrong(
    num_items: int, difference: float, num_runs: int, seed: int = SEED, changed: float = CHANGED
) -> dict[str, Rate]:
    """0/1 scores with a true difference: how often found in the right and in the wrong direction, and coverage."""
    shares = [(changed + difference) / 2, (changed - difference) / 2, 1 - changed]
    counts = np.random.default_rng(seed).multinomial(num_items, shares, size=num_runs)
    found = wrong = covered = 0
    for gained, lost, _ in counts.tolist():
        is_found = mcnemar_p(gained, lost) <= paired_tests.ALPHA
        found += is_found and gained > lost
        wrong += is_found and gained < lost
        interval = share_difference(gained, lost, num_items)
        covered += interval.low <= difference <= interval.high
    power = paired_tests.mcnemar_power(num_items, difference, changed) if difference else None
    return {
        "found": Rate(found, num_runs, power),
        "false alarms": Rate(found + wrong, num_runs),
        "covered": Rate(covered, num_runs),
    }


def draw(kind: str, num_items: int, generator) -> np.ndarray:
    """(items,) differences of mean 0 and spread 1, or of scores in quarters, a tenth of which change."""
    if kind == QUARTERS:
        return generator.choice([0.25, -0.25, 0.0], size=num_items, p=[0.05, 0.05, 0.9])
    return generator.exponential(size=num_items) - 1 if kind == SKEWED else generator.normal(size=num_items)


def graded(num_items: int, difference: float, num_runs: int, seed: int = SEED, kind: str = NORMAL) -> dict[str, Rate]:
    """Graded scores: the same rates, where test and interval must agree, as in a verdict."""
    generator = np.random.default_rng(seed)
    found = alarms = covered = 0
    for run in range(num_runs):
        values = draw(kind, num_items, generator) + difference
        interval = paired_tests.mean_difference(np.zeros(num_items), values, seed=run)
        is_found = paired_tests.sign_flip_p(values, seed=run, num_resamples=1999) <= paired_tests.ALPHA
        is_found = is_found and not interval.low <= 0 <= interval.high
        alarms += is_found
        found += is_found and values.mean() > 0
        covered += interval.low <= difference <= interval.high
    return {
        "found": Rate(found, num_runs),
        "false alarms": Rate(alarms, num_runs),
        "covered": Rate(covered, num_runs),
    }


def whole_verdicts(
    num_tasks: int, num_items: int, num_befores: int, difference: float, num_runs: int, seed: int = SEED
) -> dict[str, int]:
    """How often each outcome comes out of `compare_runs` on files, for tasks that all have this true difference."""
    generator = np.random.default_rng(seed)
    outcomes: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(num_runs):
            before = (generator.random((num_tasks, num_items)) < 0.5).astype(float)
            others = [drifted(before, 0.0, generator) for _ in range(num_befores - 1)]
            runs = [before, *others, drifted(before, difference, generator)]
            paths = [write_run(Path(folder) / str(number), scores) for number, scores in enumerate(runs)]
            *befores, after = map(read_run, paths)
            outcome = compare_runs(befores, after, num_examples=0).outcome
            outcomes[outcome] = outcomes.get(outcome, 0) + 1
    return outcomes


def drifted(before: np.ndarray, difference: float, generator) -> np.ndarray:
    """Answers of which CHANGED are other than before, with a true difference in accuracy. Half of before are right."""
    draws = generator.random(before.shape)
    return np.where(before == 1, draws >= CHANGED - difference, draws < CHANGED + difference).astype(float)


def write_run(folder: Path, scores: np.ndarray) -> Path:
    """results.json and items of (tasks, items) 0/1 scores."""
    folder.mkdir(exist_ok=True)
    tasks = {}
    for number, row in enumerate(scores):
        items = [
            dataclasses.asdict(Item(f"{number}:{index}", {"acc": score})) for index, score in enumerate(row.tolist())
        ]
        (folder / f"{number}.jsonl").write_text("\n".join(map(json.dumps, items)))
        task = TaskResult(str(number), 1, "", len(row), 0, "acc", {"acc": Score(float(row.mean()))}, f"{number}.jsonl")
        tasks[task.name] = task
    write_results(folder / "results.json", Results({}, tasks))
    return folder / "results.json"


def share_table(num_runs: int) -> list[str]:
    """Rows for 0/1 scores: the null, and the difference that is said to be found 4 times in 5."""
    lines = ["| items | false alarms, no difference | coverage, no difference | planted points | found | coverage |"]
    lines.append("|---|---|---|---|---|---|")
    for n in SIZES:
        null = right_or_wrong(n, 0.0, num_runs)
        planted = paired_tests.detectable_share_difference(n, CHANGED)
        changed = max(CHANGED, planted)
        gain = right_or_wrong(n, planted, num_runs, SEED + 1, changed)
        lines.append(
            f"| {n} | {null['false alarms']} | {null['covered']} | {100 * planted:.1f} | {gain['found']} | {gain['covered']} |"
        )
    return lines


def graded_table(num_runs: int) -> list[str]:
    """Rows for graded scores; more comparisons of few items, which cost less. num_runs: of 300 items."""
    lines = ["| items | differences | comparisons | false alarms | coverage | planted | found | coverage |"]
    lines.append("|---|---|---|---|---|---|---|---|")
    for n, runs in ((10, 10 * num_runs), (30, 10 * num_runs), (100, 3 * num_runs), (300, num_runs)):
        for kind in (NORMAL, SKEWED, QUARTERS):
            null = graded(n, 0.0, runs, kind=kind)
            cells = f"| {n} | {kind} | {runs:,} | {null['false alarms']} | {null['covered']} |"
            if kind == QUARTERS:  # a planted gain would change which items change, and so the spread
                lines.append(f"{cells} | | |")
                continue
            generator = np.random.default_rng(SEED)
            stated = [paired_tests.detectable_mean_difference(draw(kind, n, generator)) for _ in range(200)]
            planted = float(np.mean(stated))
            gain = graded(n, planted, runs, SEED + 1, kind)
            found = gain["found"]._replace(expected=paired_tests.POWER)
            lines.append(f"{cells} {planted:.3f} | {found} | {gain['covered']} |")
    return lines


def verdict_table(num_runs: int) -> list[str]:
    lines = [
        "| tasks | items each | runs before | true difference | better | worse | others |",
        "|---|---|---|---|---|---|---|",
    ]
    cases = [
        (1, 100, 1, 0.0),
        (4, 100, 1, 0.0),
        (1, 100, 2, 0.0),
        (4, 100, 2, 0.0),
        (1, 1000, 1, 0.05),
        (4, 100, 1, 0.1),
    ]
    for tasks, items, befores, difference in cases:
        outcomes = whole_verdicts(tasks, items, befores, difference, num_runs)
        better, worse = (Rate(outcomes.pop(name, 0), num_runs) for name in (BETTER, WORSE))
        others = ", ".join(f"{name} {100 * count / num_runs:.1f} %" for name, count in sorted(outcomes.items()))
        lines.append(f"| {tasks} | {items} | {befores} | {100 * difference:g} points | {better} | {worse} | {others} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer simulations, nothing written")
    quick = parser.parse_args().quick
    start = time.perf_counter()
    sizes = (2000, 100, 40) if quick else (20_000, 1000, 1000)
    parts = [
        f"Scores of 0 or 1, {sizes[0]:,} simulated comparisons a cell, {100 * CHANGED:g} % of the items change "
        "(more where the planted difference needs it). In brackets 95 % intervals of the simulation.\n",
        *share_table(sizes[0]),
        "\nGraded scores; differences of standard deviation 1, or steps of a quarter. Planted is the mean of what verdicts on "
        "such items state. Few skewed differences fall short, as they are not symmetric, which the test takes them to be.\n",
        *graded_table(sizes[1]),
        f"\nWhole verdicts from files, {sizes[2]:,} a row, {100 * CHANGED:g} % of the items change.\n",
        *verdict_table(sizes[2]),
        f"\nSeed {SEED}. Python {platform.python_version()}, numpy {version('numpy')}, scipy {version('scipy')}; "
        f"{(time.perf_counter() - start) / 60:.1f} minutes.",
    ]
    body = "    python tests/benchmarks/verdict_calibration.py\n\n" + "\n".join(parts)
    print(body)
    if not quick:
        sys.path.insert(0, str(Path(__file__).parent))
        from measuring import write_section

        write_section("verdict", "are the verdict's error rates what it says?", body)


if __name__ == "__main__":
    main()
