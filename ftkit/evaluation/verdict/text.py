"""A verdict as text for the terminal, and as Markdown."""

from pathlib import Path

from ftkit.config.amounts import counted
from ftkit.evaluation.results import (
    AFTER,
    cell_text,
    compared_scores,
    measured_runs,
    metric_text,
    thoughts_text,
)
from ftkit.evaluation.verdict.pairing import EVEN, NEUTRAL, read_run_and_befores
from ftkit.evaluation.verdict.power import power_text
from ftkit.evaluation.verdict.verdict import (
    BETTER,
    MARGIN,
    TOO_FEW,
    WORSE,
    Flip,
    MetricChange,
    TaskVerdict,
    Verdict,
    compare_runs,
)

OTHER_COLUMNS = ("task", "metric", "items", "before", "after", "difference (95 %)")
COLUMNS = (*OTHER_COLUMNS, "p", "verdict")
OTHERS = "Other metrics, which do not decide"
EXAMPLE_LENGTH = 300  # characters of a prompt's end, and of an answer's beginning


def verdict_text(verdict: Verdict) -> str:
    """Plain text: the verdict, a table, a sentence per task, forgetting, examples that flipped, warnings."""
    parts = [f"{verdict.outcome}: {verdict.reason}", "", *column_lines([COLUMNS, *table_rows(verdict)])]
    parts += ["", *(f"{task.task}: {sentence(task, verdict.margin)}" for task in verdict.targets)]
    if others := other_rows(verdict):
        parts += ["", f"{OTHERS.lower()}:", *(f"  {line}" for line in column_lines([OTHER_COLUMNS, *others]))]
    if verdict.probes:
        parts += [
            "",
            "forgetting:",
            *(f"  {task.task}: {forgetting_sentence(task, verdict.margin)}" for task in verdict.probes),
        ]
    for task in verdict.tasks:
        for title, examples in flip_lists(task):
            parts += ["", f"{title}:"]
            for number, example in enumerate(examples):
                parts += [""] if number else []
                parts += [f"  {name}: {indented(text)}" for name, text in example_lines(example)]
    parts += ["", *(text if text.startswith("warning:") else f"note: {text}" for text in notes(verdict))]
    return "\n".join(line.rstrip() for line in parts).rstrip()


def run_lines(folder: str | Path, what: str) -> list[str]:
    """What a training run measured before and after, with the verdict, for the run's end. what: an item's name."""
    runs, lines = measured_runs(folder), []
    for name, scores in compared_scores(runs).items():
        counted_items = counted(runs[AFTER].tasks[name].num_items, f"held-out {what}")
        rows = [(label, *(cell_text(found.get(when)) for when in runs)) for label, found in scores.items()]
        lines += ["", *column_lines([(counted_items, *runs), *rows])]
        lines += [thoughts] if (thoughts := thoughts_text(runs[AFTER].tasks[name])) else []
    return [*lines, *verdict_lines(folder, what)]


def verdict_lines(folder: str | Path, what: str) -> list[str]:
    """The verdict on each task of a training run."""
    verdict = compare_runs(*read_run_and_befores(folder), num_examples=0)
    return [f"verdict: {run_sentence(row, verdict.margin, what)}" for row in verdict.targets]


def run_sentence(row: TaskVerdict, margin: float, what: str) -> str:
    """The verdict on one task, as one sentence with its figures."""
    said = f"{row.outcome}: {change_text(row)}"
    return f"{said}; {power_text(row, margin, what)}" if row.outcome == TOO_FEW else said


def change_text(row: TaskVerdict) -> str:
    """What a task's metric was and became, with the interval of the change."""
    points = " points" if row.is_share else ""
    before = "before" if row.num_runs == 1 else f"({row.before_from})"
    levels = f"{level(row, row.before)} {before}, {level(row, row.after)} after"
    return f"{metric_text(row.metric)} {levels}, {difference_text(row)}{points}"


def verdict_markdown(verdict: Verdict) -> str:
    """The same as Markdown."""
    parts = [
        f"# Verdict: {verdict.outcome}", "", f"{verdict.reason}.", "",
        f"Before: {'; '.join(map(escape, verdict.before))}. After: {escape(verdict.after)}.", "",
        *markdown_table([COLUMNS, *table_rows(verdict)]), "",
        *(f"- {escape(task.task)}: {sentence(task, verdict.margin)}" for task in verdict.targets),
    ]  # fmt: skip
    if others := other_rows(verdict):
        parts += ["", f"## {OTHERS}", "", *markdown_table([OTHER_COLUMNS, *others])]
    if verdict.probes:
        parts += ["", "## Forgetting", ""]
        parts += [f"- {escape(task.task)}: {forgetting_sentence(task, verdict.margin)}" for task in verdict.probes]
    for task in verdict.tasks:
        for title, examples in flip_lists(task):
            parts += ["", f"## {escape(title)}", ""]
            for number, example in enumerate(examples):
                lines = [f"{name}: {text}".replace("```", "'''") for name, text in example_lines(example)]
                parts += [*([""] if number else []), "```text", *lines, "```"]
    parts += ["", "## Notes", "", *(f"- {escape(text)}" for text in notes(verdict))]
    return "\n".join(parts) + "\n"


def table_rows(verdict: Verdict) -> list[tuple[str, ...]]:
    """A row for each task, the mean last."""
    return [(*change_cells(row), p_text(row.p_adjusted), row.outcome) for row in verdict.rows]


def other_rows(verdict: Verdict) -> list[tuple[str, ...]]:
    """A row for each metric that was recorded beside the one that decides."""
    return [change_cells(row) for task in verdict.tasks for row in task.others]


def change_cells(row: MetricChange) -> tuple[str, ...]:
    """What OTHER_COLUMNS hold of a metric."""
    levels = level(row, row.before), level(row, row.after)
    return row.task, metric_text(row.metric), f"{row.num_items:,}", *levels, difference_text(row)


def level(row: MetricChange, value: float) -> str:
    """A score: 71.5 % of a share, four digits of another metric."""
    return f"{value:.1%}".replace("%", " %") if row.is_share else f"{value:.4g}"


def amount(row: TaskVerdict, value: float) -> str:
    """A difference without its sign, with its unit: 4.2 points of a share."""
    return f"{100 * abs(value):.1f} points" if row.is_share else f"{abs(value):.3g}"


def difference_text(row: MetricChange) -> str:
    """+4.2 (1.0 to 7.4), in points of a share; of one item without an interval."""
    if row.low is None:
        return f"{100 * row.difference:+.1f}" if row.is_share else f"{row.difference:+.3g}"
    if row.is_share:
        return f"{100 * row.difference:+.1f} ({100 * row.low:.1f} to {100 * row.high:.1f})"
    return f"{row.difference:+.3g} ({row.low:.3g} to {row.high:.3g})"


def p_text(p: float) -> str:
    """A p value as people write it."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def sentence(row: TaskVerdict, margin: float = MARGIN) -> str:
    """What the data can and cannot say about one task."""
    changed = "" if row.num_gained is None else f"{counted(row.num_gained, 'item')} gained, {row.num_lost} lost"
    if row.outcome in (BETTER, WORSE):
        return changed or f"{row.outcome} by {amount(row, row.difference)}"
    if row.outcome == TOO_FEW:
        return "; ".join(filter(None, [changed, power_text(row, margin)]))
    found = "" if row.detectable is None else f"a change of {amount(row, row.detectable)} would be found 4 times in 5"
    return "; ".join(filter(None, [changed, found]))


def forgetting_sentence(row: TaskVerdict, margin: float) -> str:
    """Whether a probe was forgotten, and what loss the interval excludes."""
    if row.outcome == WORSE:
        least, most = sorted(abs(bound) for bound in (row.low, row.high))
        return f"forgot {amount(row, row.difference)} ({amount(row, least)} to {amount(row, most)})"
    if row.outcome == BETTER:
        return f"not forgotten: {sentence(row, margin)}"
    seen = "no loss seen"
    if row.gain < 0:
        seen = f"worse by {amount(row, row.difference)}, which is not proven (p {p_text(row.p_adjusted)})"
    if row.loss_not_ruled_out is not None:
        seen += f"; the interval excludes a loss of more than {amount(row, row.loss_not_ruled_out)}"
    return f"{seen}; {power_text(row, margin)}" if row.outcome == TOO_FEW else seen


def flip_lists(task: TaskVerdict) -> list[tuple[str, list[Flip]]]:
    """Titles and examples of both directions, where there are any."""
    lists = [(f"{task.task}, got better", task.improved), (f"{task.task}, got worse", task.worsened)]
    return [(title, examples) for title, examples in lists if examples]


def example_lines(example: Flip) -> list[tuple[str, str]]:
    """Name and text of a flipped item's parts, cut to what fits."""
    lines = [("prompt", shortened(example.prompt, EXAMPLE_LENGTH, keep_end=True))]
    if example.reference:
        lines.append(("wanted", shortened(example.reference, EXAMPLE_LENGTH)))
    for name, text, score in (
        ("before", example.before, example.score_before),
        ("after", example.after, example.score_after),
    ):
        shown = (f"{name} ({score:.4g})", shortened(text, EXAMPLE_LENGTH))
        lines.append(shown if example.before or example.after else (name, f"{score:.4g}"))  # a text is not answered
    return lines


def shortened(text: str, length: int, *, keep_end: bool = False) -> str:
    """The beginning of a text, or with `keep_end` its end; (nothing) for a blank one."""
    text = text.strip()
    if len(text) <= length:
        return text or "(nothing)"
    return "... " + text[-length:] if keep_end else text[:length] + " ..."


def indented(text: str) -> str:
    """Text whose further lines stand under its first."""
    return text.replace("\n", "\n    ")


def notes(verdict: Verdict) -> list[str]:
    """How the words are meant, then what to beware of."""
    num, percent = len(verdict.tasks) + (verdict.all_tasks is not None), f"{100 * verdict.margin:g}"
    meaning = (
        f"paired items; p corrected for {counted(num, 'comparison')} (Holm), 5 % false alarms in all; intervals are "
        f"each row's own; too few items: the interval does not exclude a change of {percent} points (shares) or "
        f"{percent} % (others)"
    )
    rows = [row for task in verdict.tasks for row in (task, *task.others)]
    lower = dict.fromkeys(row.metric for row in rows if not row.higher_is_better or row.metric in NEUTRAL)
    meant = [f"{metric_text(name)}: {direction(name)}" for name in lower]
    own = [f"{task.task}: {note}" for task in verdict.tasks for note in task.notes]
    chosen = [
        f"before is {name} for {', '.join(task.task for task in verdict.tasks if task.before_from == name)}"
        for name in dict.fromkeys(task.before_from for task in verdict.tasks if task.num_runs > 1)
    ]
    return [meaning, *meant, *chosen, *own, *verdict.warnings]


def direction(metric: str) -> str:
    """What is better, of a metric of which not simply more is."""
    if metric in EVEN:
        return f"best at {EVEN[metric]:g}"
    return "neither more nor less is better" if metric in NEUTRAL else "the lower the better"


def column_lines(rows: list[tuple[str, ...]]) -> list[str]:
    """Columns, each as wide as its widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def markdown_table(rows: list[tuple[str, ...]]) -> list[str]:
    """Lines of a table in Markdown, from rows of which the first is the header."""
    lines = [f"| {' | '.join(map(escape, row))} |" for row in rows]
    return [lines[0], f"|{'---|' * len(rows[0])}", *lines[1:]]


def escape(text: str) -> str:
    """Text that stays text in Markdown, also in a cell."""
    for character in "\\|`*_<>[]":
        text = text.replace(character, "\\" + character)
    return " ".join(text.split())
