"""How each kind of file becomes a document: which reader takes it, and how large it may be.

A reader takes a path and the name of the source, and gives documents.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from ftkit.config.errors import UserError
from ftkit.data.index.document import Document, Draft
from ftkit.data.reading.text_file import WINDOWS, read_text

MIB = 2**20
MAX_BYTES = {"text": 64 * MIB, "html": 64 * MIB, "pdf": 256 * MIB, "docx": 256 * MIB, "rows": 2**40}
FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
ATX = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*?))?(?:[ \t]+#+)?[ \t]*")
UNDERLINE = re.compile(r"[ \t]*([=\-~^\"'*+#])\1{2,}[ \t]*")  # of a heading in Markdown or reStructuredText
MARKDOWN_LEVELS = {"=": 1, "-": 2}
TEXT_COLUMNS = ("text", "content", "body", "passage")
ENCODINGS = (None, WINDOWS)  # tried in this order; None: by the byte-order mark, else UTF-8


class Reader(NamedTuple):
    """kind: of its limit in MAX_BYTES. is_stream: gives many documents, one by one."""

    kind: str
    read: Callable[[Path, str], Iterator[Document]]
    is_stream: bool = False


def any_text(path: Path) -> str:
    """The text of a file, in UTF-8, by its byte-order mark, or in Windows' encoding. Raises UserError for no text."""
    mistakes = []
    for encoding in ENCODINGS:
        try:
            return read_text(path, encoding).replace("\r\n", "\n").replace("\r", "\n")
        except UserError as mistake:
            mistakes.append(mistake)
            if "NUL" in str(mistake):
                raise UserError(f"{path}: holds bytes that are no text; save it as UTF-8, or leave it out") from mistake
    raise mistakes[0]


def read_plain(path: Path, source: str) -> Iterator[Document]:
    """A text file: paragraphs between blank lines, and lines that are underlined as headings."""
    draft = Draft(source)
    add_marked(draft, any_text(path), has_fences=False)
    yield draft.document()


def read_markdown(path: Path, source: str) -> Iterator[Document]:
    """A Markdown file: its headings, and its code in fences kept whole."""
    draft = Draft(source)
    add_marked(draft, any_text(path), has_fences=True)
    yield draft.document()


def add_marked(draft: Draft, text: str, *, has_fences: bool) -> None:
    """Add a text by its headings, paragraphs and code. has_fences: it is Markdown."""
    levels = dict(MARKDOWN_LEVELS) if has_fences else {}
    paragraph: list[str] = []
    code: list[str] = []
    fence = ""

    def flush() -> None:
        block = "\n".join(paragraph)
        draft.add(block, is_code=all(line.startswith(("    ", "\t")) for line in paragraph if line.strip()))
        paragraph.clear()

    lines = text.split("\n")
    for line in lines:
        if fence:
            code.append(line)
            if line.strip().startswith(fence) and not line.strip().strip(fence[0]):
                draft.add("\n".join(code), is_code=True)
                code, fence = [], ""
        elif has_fences and (opening := FENCE.match(line)):
            flush()
            code, fence = [line], opening[1]
        elif has_fences and (heading := ATX.fullmatch(line)):
            flush()
            draft.heading(len(heading[1]), heading[2] or "")
        elif len(paragraph) == 1 and is_underline(line, paragraph[0]):
            sign = line.strip()[0]
            draft.heading(levels.setdefault(sign, max(levels.values(), default=0) + 1), paragraph.pop())
        elif len(paragraph) == 2 and is_overlined(*paragraph, line):
            sign = paragraph.pop(0)[:1] + line[:1]
            draft.heading(levels.setdefault(sign, max(levels.values(), default=0) + 1), paragraph.pop())
        elif not line.strip():
            flush()
        else:
            paragraph.append(line)
    flush()
    draft.add("\n".join(code), is_code=True)  # of a fence that is never closed


def is_overlined(above: str, text: str, below: str) -> bool:
    """Whether three lines are a heading between two rules, as in reStructuredText."""
    return bool(UNDERLINE.fullmatch(above)) and above.strip() == below.strip() and bool(text.strip())


def is_underline(line: str, above: str) -> bool:
    """Whether a line makes the one above it a heading: of one sign, and about as long."""
    return bool(UNDERLINE.fullmatch(line)) and len(line.strip()) >= min(len(above.strip()), 40) - 2 and above[:1] != " "


def read_html(path: Path, source: str) -> Iterator[Document]:
    """An HTML page."""
    from ftkit.data.index.html_text import add_page

    draft = Draft(source)
    add_page(draft, any_text(path))
    yield draft.document()


def read_docx(path: Path, source: str) -> Iterator[Document]:
    """A .docx file."""
    from ftkit.data.index.office_text import add_docx

    draft = Draft(source)
    add_docx(draft, path)
    yield draft.document()


def read_pdf(path: Path, source: str) -> Iterator[Document]:
    """A .pdf file; needs pypdf."""
    from ftkit.data.index.office_text import add_pdf

    draft = Draft(source)
    add_pdf(draft, path)
    yield draft.document()


def read_rows(path: Path, source: str) -> Iterator[Document]:
    """A file of rows, each a document: a text, and a title where there is one. UserError for a row without one."""
    from ftkit.data.reading.json_reader import read_jsonl_rows
    from ftkit.data.reading.problems import stop

    for record in read_jsonl_rows(path, stop):
        where = f"{source}:{record.line}"
        name = next((name for name in TEXT_COLUMNS if isinstance(record.values.get(name), str)), None)
        if name is None:
            raise UserError(f'{path}:{record.line}: no "text" in this row; give each one, with a "title" if it has one')
        title = record.values.get("title")
        draft = Draft(where, title if isinstance(title, str) else "")
        if draft.title:
            draft.heading(1, draft.title)
        add_marked(draft, record.values[name], has_fences=True)
        yield draft.document()


READERS = {
    ".txt": Reader("text", read_plain), ".rst": Reader("text", read_plain), ".md": Reader("text", read_markdown),
    ".markdown": Reader("text", read_markdown), ".html": Reader("html", read_html), ".htm": Reader("html", read_html),
    ".pdf": Reader("pdf", read_pdf), ".docx": Reader("docx", read_docx), ".jsonl": Reader("rows", read_rows, True),
}  # fmt: skip
