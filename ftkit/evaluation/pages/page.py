"""Self-contained HTML pages from the Jinja2 templates in this folder: escaped, light and dark, for any width and paper.

write_page(Path("row.html"), "rows.html", title="Row 3", subtitles=[], parts=[("mask", [["Hi", False], ["Yo", True]])])

frame.html holds the page and style.css, pieces.html the macros (section, callout, table, bar, chart, card, facts); each
page extends the frame with them. Narrow screens stack the cells of a table, each with its column's name.
"""

import functools
import math
from datetime import datetime
from pathlib import Path

import jinja2

from ftkit.config.files import write_text
from ftkit.evaluation.results import interval_text, score_text

KINDS = {"better": "better", "worse": "worse", "better and worse": "mixed"}  # a verdict's outcome: its CSS class


def write_page(path: Path, template: str, *, title: str, subtitles: list[str], date: str = "", **parts) -> Path:
    """Write a page, whole or not at all; return its path. Every text in `parts` is escaped where the template shows it.

    subtitles: what stands below the title, after the date, which is today's if none is given; empty ones are left out.
    """
    lines = [date or day_text(datetime.now()), *filter(None, subtitles)]
    text = environment().get_template(template).render(title=title, subtitle=" · ".join(lines), **parts)
    write_text(path, text)
    return path


@functools.cache
def environment() -> jinja2.Environment:
    """The templates with their filters; a name that a template misspells is an error."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=jinja2.select_autoescape(["html"]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    percent = lambda share: f"{100 * share:.2f}%"  # noqa: E731
    made.filters |= {"percent": percent, "score": score_text, "interval": interval_text}
    made.filters["kind"] = outcome_kind
    return made


def outcome_kind(outcome: str) -> str:
    """The CSS class of a verdict's outcome."""
    return KINDS.get(outcome, "unseen")


def day_of(path: Path) -> str:
    """The day on which a file was written, such as 3 May 2026."""
    return day_text(datetime.fromtimestamp(path.stat().st_mtime))


def day_text(moment: datetime) -> str:
    """A day, such as 3 May 2026."""
    return f"{moment.day} {moment:%B %Y}"


def is_number(value) -> bool:
    """Whether a value is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def number_text(value) -> str:
    """A number as people read it: 12,345, 0.0002, 1.235; None is empty, and anything else as it is."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if not is_number(value):
        return str(value)
    if isinstance(value, int) or value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.1f}" if abs(value) >= 100 else f"{value:.4g}"


def fact_lines(facts: dict) -> list[tuple[str, str]]:
    """Names and texts of what a file says: the entries of an object get a line each, a list is joined, None is left
    out."""
    lines = []
    for key, value in facts.items():
        if isinstance(value, dict):
            lines += fact_lines({f"{key}.{name}": inner for name, inner in value.items()})
        elif value is not None:
            lines.append((str(key), fact_text(value)))
    return lines


def fact_text(value) -> str:
    """A value in one line."""
    if isinstance(value, dict):
        return " ".join(f"{words_of(name)} {fact_text(inner)}" for name, inner in value.items())
    return ", ".join(map(fact_text, value)) if isinstance(value, list) else number_text(value)


def words_of(name: str) -> str:
    """num_trained_tokens as trained tokens."""
    return " ".join(part.removeprefix("num_").replace("_", " ") for part in name.split("."))
