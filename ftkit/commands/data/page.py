"""A row on a page of its own, with the trained tokens marked; needs no network.

write_page(Path("row.html"), "rows.jsonl, mask", [("row 3", [["Hi", False], ["Yo", True]])])
"""

import html
from pathlib import Path

from ftkit.data.tokens.receipt_text import printable
from ftkit.evaluation.pages.style import PAGE, STYLE


def write_page(path: Path, title: str, parts: list[tuple[str, list]]) -> None:
    """Write the parts, each a title and [[text, trained], ...], as one HTML file."""
    sections = "\n".join(section(name, spans) for name, spans in parts)
    page = PAGE.format(
        title=html.escape(title),
        subtitle="Marked text is trained; all other text is context.",
        tiles="",
        style=STYLE,
        sections=sections,
    )
    path.write_text(page, encoding="utf-8")


def section(title: str, spans: list) -> str:
    """One part of the page."""
    text = "".join(f"<mark>{escaped(text)}</mark>" if trained else escaped(text) for text, trained in spans)
    return f"<section><h2>{html.escape(title)}</h2><pre>{text}</pre></section>"


def escaped(text: str) -> str:
    """Text that a browser shows as it is, control characters as escapes."""
    return html.escape(printable(text))
