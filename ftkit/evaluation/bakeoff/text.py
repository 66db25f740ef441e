"""The table of a bake-off, its notes, and who was left out: for a terminal, and for the page."""

from ftkit.config.amounts import counted, percent
from ftkit.evaluation.bakeoff.contest import WITH_PASSAGE, WITHOUT_PASSAGE, Entry
from ftkit.evaluation.bakeoff.standing import Standing
from ftkit.evaluation.results import cell_text, metric_text
from ftkit.evaluation.verdict.text import column_lines, difference_text
from ftkit.evaluation.verdict.verdict import BETTER, WORSE

COST_COLUMNS = (
    "", "minutes to make", "GiB training", "GiB answering", "MB to ship", "tokens read", "written", "1,000 answers",
)  # fmt: skip


def table_lines(standing: Standing, price_per_hour: float | None = None) -> list[str]:
    """Quality and costs of those that ran, a line each; then what else is to be known."""
    header = ("", f"{metric_text(standing.best.task.main_metric)} (95 %)", "forgot")
    quality = [(entry.title, cell_text(entry.score), forgot_text(standing, entry)) for entry in standing.entries]
    costs = [cost_cells(entry, price_per_hour) for entry in standing.entries]
    return [*column_lines([header, *quality]), "", *column_lines([COST_COLUMNS, *costs]), "", *notes(standing)]


def cost_cells(entry: Entry, price_per_hour: float | None = None) -> tuple[str, ...]:
    """What COST_COLUMNS hold of a contestant."""
    costs = entry.costs
    price = f"{1000 * costs.seconds / 60:.1f} min"
    if price_per_hour is not None:
        price = f"{costs.of_thousand(price_per_hour):.3g}"
    memory = "-" if costs.training_memory_gib is None else f"{costs.training_memory_gib:.2f}"
    return (
        entry.title, f"{costs.minutes:.1f}", memory, f"{costs.memory_gib:.2f}", size_text(costs.megabytes),
        f"{costs.prompt_tokens:.0f}", f"{costs.answer_tokens:.0f}", price,
    )  # fmt: skip


def size_text(megabytes: float) -> str:
    """Megabytes, of small files with more digits."""
    return f"{megabytes:,.0f}" if megabytes >= 100 else f"{megabytes:.3g}"


def forgot_text(standing: Standing, entry: Entry) -> str:
    """The change of the probe with its interval, marked where it is shown; a dash for unchanged weights."""
    row = standing.forgetting.get(entry.contestant.name)
    if row is None:
        return "-"
    return difference_text(row) + {WORSE: " worse", BETTER: " better"}.get(row.outcome, "")


def notes(standing: Standing) -> list[str]:
    """How the words are meant, and what was measured beside the answers."""
    num, first = len(standing.pairs), standing.entries[0]
    lines = [
        f"{counted(first.task.num_items, 'held-out row')}, the same for all; each contestant is compared with each "
        f"other: p corrected for {counted(num, 'pair')} (Holm)"
    ]
    if standing.forgetting:
        lines.append("forgot: points of the probe beside the base's, of what training was not about")
    lines += [line for entry in standing.entries for line in passage_lines(entry)]
    return lines + [f"{entry.title} did not run: {entry.reason}" for entry in standing.left_out]


def passage_lines(entry: Entry) -> list[str]:
    """What a contestant found, and of one that quotes whether it quotes what is there."""
    costs, lines = entry.costs, []
    if costs.found is not None:
        lines.append(f"{entry.title}: a passage that was found holds the answer to {percent(costs.found)} of the rows")
    if costs.quoted is not None:
        tasks = entry.run.results.tasks
        scores = [
            f"{name}: {cell_text(task.scores[task.main_metric])}"
            for name in (WITH_PASSAGE, WITHOUT_PASSAGE)
            if (task := tasks.get(name))
        ]
        quotes = f"{percent(costs.quoted)} of the answers quote a passage word for word"
        lines.append(f"{entry.title}: {'; '.join([quotes, *scores])}")
    return lines
