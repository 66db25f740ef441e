"""A verdict as one HTML page that needs no network: differences with their intervals, and examples that flipped."""

from pathlib import Path

from ftkit.config.files import write_text
from ftkit.evaluation.pages.loss_chart import ticks
from ftkit.evaluation.pages.report import escape, section
from ftkit.evaluation.pages.style import PAGE, STYLE
from ftkit.evaluation.verdict.pairing import EVEN
from ftkit.evaluation.verdict.text import (
    difference_text,
    example_lines,
    flip_lists,
    forgetting_sentence,
    level,
    notes,
    p_text,
    sentence,
)
from ftkit.evaluation.verdict.verdict import BETTER, MIXED, WORSE, TaskVerdict, Verdict

WIDTH, ROW, LEFT, RIGHT, TOP, BOTTOM = 720, 30, 190, 20, 8, 34  # of the chart, in its own units
LABEL_LENGTH = 26

VERDICT_STYLE = """
.verdict { font-size: 1.25rem; font-weight: 600; margin: .3rem 0 1rem; }
.alarm { padding: .5rem .9rem; border: 1px solid var(--orange); border-radius: 8px; }
.pill { padding: .1rem .55rem; border-radius: 1rem; border: 1px solid var(--line); white-space: nowrap; }
.pill.better { background: var(--green); color: var(--greenink); }
.pill.worse, .pill.mixed { background: var(--orange); color: #fff; }
.effect { stroke: var(--soft); fill: var(--soft); stroke-width: 2; }
.effect.better { stroke: #2f9e44; fill: #2f9e44; } .effect.worse { stroke: var(--orange); fill: var(--orange); }
.zero { stroke: var(--ink); } .label { fill: var(--ink); font-size: 13px; }
.detectable { fill: var(--line); opacity: .75; }
"""


def write_verdict_page(path: Path, verdict: Verdict) -> None:
    """Write the page. Text of models and data is escaped; no script, nothing from elsewhere."""
    sections = [
        section("Tasks", results_table(verdict)),
        *(chart_section(title, rows, verdict) for title, rows in chart_groups(verdict)),
        forgetting_section(verdict.probes),
        *(flips_section(title, examples) for task in verdict.tasks for title, examples in flip_lists(task)),
        section("Notes", "<ul>" + "".join(f"<li>{escape(text)}</li>" for text in notes(verdict)) + "</ul>"),
    ]
    header = f'<p class="verdict">{pill(verdict.outcome)} {escape(verdict.reason)}</p>'
    alarms = [text for text in verdict.warnings if text.startswith("warning:")]
    header += "".join(f'<p class="alarm">{escape(text)}</p>' for text in alarms)
    page = PAGE.format(
        title=f"Verdict: {escape(verdict.outcome)}",
        style=STYLE + VERDICT_STYLE,
        subtitle=f"before: {escape('; '.join(verdict.before))}<br>after: {escape(verdict.after)}",
        tiles=header,
        sections="\n".join(filter(None, sections)),
    )
    write_text(path, page)


def pill(outcome: str) -> str:
    return f'<span class="pill {css_class(outcome)}">{escape(outcome)}</span>'


def css_class(outcome: str) -> str:
    return {BETTER: "better", WORSE: "worse", MIXED: "mixed"}.get(outcome, "unseen")


def results_table(verdict: Verdict) -> str:
    """A row for each task, the mean of tasks last."""
    rows = [*verdict.targets, *verdict.probes, *([verdict.all_tasks] if verdict.all_tasks else [])]
    head = "".join(
        f"<th>{name}</th>" for name in ("", "metric", "items", "before", "after", "difference (95 %)", "p", "verdict")
    )
    lines = []
    for row in rows:
        cells = [
            row.metric, f"{row.num_items:,}", level(row, row.before), level(row, row.after), difference_text(row),
            p_text(row.p_adjusted),
        ]  # fmt: skip
        columns = "".join(f'<td class="number">{escape(cell)}</td>' for cell in cells)
        lines.append(f'<tr><th scope="row">{escape(row.task)}</th>{columns}<td>{pill(row.outcome)}</td></tr>')
    told = "".join(f"<li>{escape(task.task)}: {escape(sentence(task))}</li>" for task in verdict.targets)
    return f'<div class="wide"><table class="results"><tr>{head}</tr>{"".join(lines)}</table></div><ul>{told}</ul>'


def chart_groups(verdict: Verdict) -> list[tuple[str, list[TaskVerdict]]]:
    """Rows that share an axis and a direction: the shares in points, and each other metric."""
    rows = [*verdict.targets, *verdict.probes, *([verdict.all_tasks] if verdict.all_tasks else [])]
    groups: dict[str, list[TaskVerdict]] = {}
    for row in rows:
        of = "" if row.higher_is_better else f" of {row.metric}"
        groups.setdefault(f"points{of}" if row.is_share else row.metric, []).append(row)
    return list(groups.items())


def chart_section(unit: str, rows: list[TaskVerdict], verdict: Verdict) -> str:
    direction = "right is better" if rows[0].higher_is_better else "left is better"
    if rows[0].metric in EVEN:
        direction = f"best is a score of {EVEN[rows[0].metric]:g}"
    note = (
        f"After - before in {escape(unit)}, with 95 % intervals; {direction}. "
        "In the grey band a difference would be missed more often than once in 5; without a band, any would."
    )
    return section("Differences" if unit == "points" else f"Differences in {unit}", effects_svg(rows), note)


def effects_svg(rows: list[TaskVerdict]) -> str:
    """Each task's difference as a point with its interval, on one axis that holds 0."""
    factor = 100 if rows[0].is_share else 1
    ends = [(row.difference, row.difference) if row.low is None else (row.low, row.high) for row in rows]
    bounds = [0.0, *(factor * value for pair in ends for value in pair)]
    bands = [factor * row.detectable if row.detectable is not None else 0.0 for row in rows]
    marks = ticks(min(bounds + [-band for band in bands]), max(bounds + bands))
    height = TOP + ROW * len(rows) + BOTTOM

    def across(value: float) -> float:
        return LEFT + (value - marks[0]) / (marks[-1] - marks[0]) * (WIDTH - LEFT - RIGHT)

    bottom = height - BOTTOM
    parts = [f'<svg class="chart" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="Differences by task">']
    for number, band in enumerate(bands):
        width = across(band) - across(-band)
        y = TOP + ROW * number
        parts.append(
            f'<rect class="detectable" x="{across(-band):.1f}" y="{y + 4}" width="{width:.1f}" height="{ROW - 8}"/>'
        )
    for mark in marks:
        x, kind = across(mark), "zero" if mark_text(mark) == "0" else "grid"
        parts.append(f'<line class="{kind}" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{bottom}"/>')
        parts.append(f'<text class="tick" x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{mark_text(mark)}</text>')
    for number, row in enumerate(rows):
        y, kind = TOP + ROW * number + ROW / 2, css_class(row.outcome)
        label = row.task if len(row.task) <= LABEL_LENGTH else row.task[: LABEL_LENGTH - 1] + "…"
        low, high = (across(factor * value) for value in ends[number])
        middle = across(factor * row.difference)
        parts += [
            f'<text class="label" x="{LEFT - 10}" y="{y + 4:.1f}" text-anchor="end">{escape(label)}</text>',
            f'<line class="effect {kind}" x1="{low:.1f}" x2="{high:.1f}" y1="{y}" y2="{y}"/>',
            *(
                f'<line class="effect {kind}" x1="{x:.1f}" x2="{x:.1f}" y1="{y - 5}" y2="{y + 5}"/>'
                for x in (low, high)
            ),
            f'<circle class="effect {kind}" cx="{middle:.1f}" cy="{y}" r="4">'
            f"<title>{escape(row.task)}: {escape(difference_text(row))}</title></circle>",
        ]
    return "\n".join([*parts, "</svg>"])


def mark_text(mark: float) -> str:
    return "0" if abs(mark) < 1e-12 else f"{mark:+.4g}"


def forgetting_section(probes: list[TaskVerdict]) -> str:
    if not probes:
        return ""
    lines = "".join(f"<li>{escape(task.task)}: {escape(forgetting_sentence(task))}</li>" for task in probes)
    return section("Forgetting", f"<ul>{lines}</ul>", "Tasks that the training was not about.")


def flips_section(title: str, examples: list) -> str:
    cards = []
    for example in examples:
        lines = "".join(
            f'<tr><td class="step">{escape(name)}</td><td><pre>{escape(text)}</pre></td></tr>'
            for name, text in example_lines(example)
        )
        cards.append(f'<div class="card"><table>{lines}</table></div>')
    return section(title, "".join(cards))
