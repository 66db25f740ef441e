"""A verdict as one HTML page that needs no network: differences with their intervals, and examples that flipped."""

from pathlib import Path

from ftkit.config.amounts import counted
from ftkit.evaluation.pages.charts import Axis
from ftkit.evaluation.pages.page import outcome_kind, write_page
from ftkit.evaluation.verdict.pairing import EVEN
from ftkit.evaluation.verdict.text import (
    COLUMNS,
    OTHER_COLUMNS,
    OTHERS,
    difference_text,
    example_lines,
    flip_lists,
    forgetting_sentence,
    notes,
    other_rows,
    sentence,
    table_rows,
)
from ftkit.evaluation.verdict.verdict import TaskVerdict, Verdict


def write_verdict_page(path: Path, verdict: Verdict) -> None:
    """Write the page."""
    write_page(
        path,
        "verdict.html",
        title=f"{verdict.after} against {'; '.join(verdict.before)}",
        subtitles=["ftkit compare", f"{counted(len(verdict.tasks), 'task')}, paired item by item"],
        verdict=verdict,
        alarms=[text for text in verdict.warnings if text.startswith("warning:")],
        columns=["", *COLUMNS[1:]],
        rows=table_rows(verdict),
        sentences=[f"{task.task}: {sentence(task, verdict.margin)}" for task in verdict.targets],
        others=(OTHERS, ["", *OTHER_COLUMNS[1:]], other_rows(verdict)),
        charts=[effects(unit, rows) for unit, rows in chart_groups(verdict).items()],
        forgetting=[f"{task.task}: {forgetting_sentence(task, verdict.margin)}" for task in verdict.probes],
        flips=[
            (title, [flip_card(example) for example in examples])
            for task in verdict.tasks
            for title, examples in flip_lists(task)
        ],
        notes=notes(verdict),
    )


def flip_card(example) -> tuple[str, list[tuple[str, str]]]:
    """The prompt of an item that flipped, and its answers."""
    (_, prompt), *lines = example_lines(example)
    return prompt, lines


def chart_groups(verdict: Verdict) -> dict[str, list[TaskVerdict]]:
    """Rows that share an axis and a direction: the shares in points, and each other metric."""
    groups: dict[str, list[TaskVerdict]] = {}
    for row in verdict.rows:
        of = "" if row.higher_is_better else f" of {row.metric}"
        groups.setdefault(f"points{of}" if row.is_share else row.metric, []).append(row)
    return groups


def effects(unit: str, rows: list[TaskVerdict], what: str = "After - before") -> tuple[str, str, list, list[dict]]:
    """Title, note, ticks, and for each task where its difference and interval stand on one axis that holds 0.

    what: the differences are.
    """
    direction = "right is better" if rows[0].higher_is_better else "left is better"
    if rows[0].metric in EVEN:
        direction = f"best is a score of {EVEN[rows[0].metric]:g}"
    note = (
        f"{what} in {unit}, with 95 % intervals; {direction}. "
        "In the grey band a difference would be missed more often than once in 5; without a band, any would."
    )
    factor = 100 if rows[0].is_share else 1
    ends = [(row.difference, row.difference) if row.low is None else (row.low, row.high) for row in rows]
    bands = [row.detectable or 0.0 for row in rows]
    bounds = [0.0, *bands, *(-band for band in bands), *(value for pair in ends for value in pair)]
    axis = Axis(factor * min(bounds), factor * max(bounds))
    strips = [
        {
            "name": row.task,
            "kind": outcome_kind(row.outcome),
            "text": f"{row.task}: {difference_text(row)}",
            "band": [axis.place(-factor * band), axis.place(factor * band)],
            "low": axis.place(factor * low),
            "middle": axis.place(factor * row.difference),
            "high": axis.place(factor * high),
        }
        for row, band, (low, high) in zip(rows, bands, ends, strict=True)
    ]
    marks = [(axis.place(mark), mark_text(mark)) for mark in axis.ticks]
    return "Differences" if unit == "points" else f"Differences in {unit}", note, marks, strips


def mark_text(mark: float) -> str:
    """A difference on the axis."""
    return "0" if abs(mark) < 1e-12 else f"{mark:+.4g}"
