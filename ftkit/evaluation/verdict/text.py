"""A verdict as text for the terminal, and as Markdown."""

from ftkit.evaluation.verdict.pairing import EVEN
from ftkit.evaluation.verdict.verdict import BETTER, TOO_FEW, UNSEEN, WORSE, Flip, TaskVerdict, Verdict

COLUMNS = ("task", "metric", "items", "before", "after", "difference (95 %)", "p", "verdict")
EXAMPLE_LENGTH = 300  # characters of a prompt's end, and of an answer's beginning


def verdict_text(verdict: Verdict) -> str:
    """Plain text: the verdict, a table, a sentence a task, forgetting, examples that flipped, warnings."""
    parts = [f"{verdict.outcome}: {verdict.reason}", "", *column_lines([COLUMNS, *table_rows(verdict)])]
    parts += ["", *(f"{task.task}: {sentence(task)}" for task in verdict.targets)]
    if verdict.probes:
        parts += ["", "forgetting:", *(f"  {task.task}: {forgetting_sentence(task)}" for task in verdict.probes)]
    for task in verdict.tasks:
        for title, examples in flip_lists(task):
            parts += ["", f"{title}:"]
            for number, example in enumerate(examples):
                parts += [""] if number else []
                parts += [f"  {name}: {indented(text)}" for name, text in example_lines(example)]
    parts += ["", *(text if text.startswith("warning:") else f"note: {text}" for text in notes(verdict))]
    return "\n".join(line.rstrip() for line in parts).rstrip()


def verdict_markdown(verdict: Verdict) -> str:
    """The same as Markdown."""
    parts = [
        f"# Verdict: {verdict.outcome}", "", f"{verdict.reason}.", "",
        f"Before: {'; '.join(map(escape, verdict.before))}. After: {escape(verdict.after)}.", "",
        *markdown_table([COLUMNS, *table_rows(verdict)]), "",
        *(f"- {escape(task.task)}: {sentence(task)}" for task in verdict.targets),
    ]  # fmt: skip
    if verdict.probes:
        parts += ["", "## Forgetting", ""]
        parts += [f"- {escape(task.task)}: {forgetting_sentence(task)}" for task in verdict.probes]
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
    return [
        (
            row.task, row.metric, f"{row.num_items:,}", level(row, row.before), level(row, row.after),
            difference_text(row), p_text(row.p_adjusted), row.outcome,
        )
        for row in verdict.rows
    ]  # fmt: skip


def level(row: TaskVerdict, value: float) -> str:
    """A score: 71.5 % of a share, four digits of another metric."""
    return f"{value:.1%}".replace("%", " %") if row.is_share else f"{value:.4g}"


def amount(row: TaskVerdict, value: float) -> str:
    """A difference without its sign, with its unit: 4.2 points of a share."""
    return f"{100 * abs(value):.1f} points" if row.is_share else f"{abs(value):.3g}"


def difference_text(row: TaskVerdict) -> str:
    """+4.2 (1.0 to 7.4), in points of a share; of one item without an interval."""
    if row.low is None:
        return f"{100 * row.difference:+.1f}" if row.is_share else f"{row.difference:+.3g}"
    if row.is_share:
        return f"{100 * row.difference:+.1f} ({100 * row.low:.1f} to {100 * row.high:.1f})"
    return f"{row.difference:+.3g} ({row.low:.3g} to {row.high:.3g})"


def p_text(p: float) -> str:
    """A p value as people write it."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def sentence(row: TaskVerdict) -> str:
    """What the data can and cannot say about one task."""
    changed = "" if row.num_gained is None else f"{counted(row.num_gained, 'item')} gained, {row.num_lost} lost"
    if row.outcome in (BETTER, WORSE):
        return changed or f"{row.outcome} by {amount(row, row.difference)}"
    found = "" if row.detectable is None else f"{amount(row, row.detectable)} would be found 4 times in 5"
    if row.outcome == UNSEEN:
        return "; ".join(filter(None, [changed, found]))
    items, limit = counted(row.num_items, "item"), ""
    if row.provable is not None and 0.01 <= row.provable <= 1:
        limit = f"{items} can't show less than {decimals(100 * row.provable)} points"
    elif row.detectable is None:
        limit = f"{items} can't show any difference"
    return "; ".join(filter(None, [changed, limit, found]))


def forgetting_sentence(row: TaskVerdict) -> str:
    """Whether a probe was forgotten, and what loss is not ruled out."""
    if row.outcome == WORSE:
        least, most = sorted(abs(bound) for bound in (row.low, row.high))
        return f"forgot {amount(row, row.difference)} ({amount(row, least)} to {amount(row, most)})"
    if row.outcome == BETTER:
        return f"not forgotten: {sentence(row)}"
    warning = " (too few items)" if row.outcome == TOO_FEW else ""
    seen = "no loss seen"
    if row.gain < 0:
        seen = f"worse by {amount(row, row.difference)}, which is not proven (p {p_text(row.p_adjusted)})"
    if row.loss_not_ruled_out is None:
        return f"{seen}; {counted(row.num_items, 'item')} can't rule out any loss{warning}"
    return f"{seen}; more than {amount(row, row.loss_not_ruled_out)} is ruled out with 95 % confidence{warning}"


def counted(number: int, what: str) -> str:
    """1 item, 2,000 items."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def decimals(points: float) -> str:
    """14 or 4.2: two digits."""
    return f"{points:.0f}" if points >= 10 else f"{points:.1f}"


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
        told = (f"{name} ({score:.4g})", shortened(text, EXAMPLE_LENGTH))
        lines.append(told if example.before or example.after else (name, f"{score:.4g}"))  # a text is not answered
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
        f"each row's own; too few items: the interval does not rule out a difference of {percent} points (shares) or "
        f"{percent} % (others)"
    )
    lower = dict.fromkeys(task.metric for task in verdict.tasks if not task.higher_is_better)
    meant = [f"{name}: {f'best at {EVEN[name]:g}' if name in EVEN else 'the lower the better'}" for name in lower]
    own = [f"{task.task}: {note}" for task in verdict.tasks for note in task.notes]
    chosen = [
        f"before is {name} for {', '.join(task.task for task in verdict.tasks if task.before_from == name)}"
        for name in dict.fromkeys(task.before_from for task in verdict.tasks if task.num_runs > 1)
    ]
    return [meaning, *meant, *chosen, *own, *verdict.warnings]


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
