"""Text files read in parts: decoded strictly, with the place of every byte that is no UTF-8.

with open_text(path) as file:
    flaws = [text_flaw(line) for line in file]
"""

import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from ftkit.config.errors import UserError

Progress = Callable[[int], None]  # called with the number of bytes that were read so far

UNDECODED = re.compile("[\udc80-\udcff]")  # how the error handler "surrogateescape" writes a byte that is no UTF-8
LINES_A_STEP = 1000  # between two calls of Progress
UTF_16 = (b"\xff\xfe", b"\xfe\xff")


def open_text(path: Path, newline: str = "\n") -> io.TextIOWrapper:
    """The file without its byte-order mark, as text in which bad bytes are kept (see `text_flaw`).

    newline: as `open` takes it. Raises UserError for UTF-16.
    """
    file = path.open("rb")
    try:
        if file.peek(2)[:2] in UTF_16:
            raise UserError(f"{path}:1: the file is UTF-16, not UTF-8; save it as UTF-8")
    except UserError:
        file.close()
        raise
    return io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline=newline)


def numbered_lines(file: io.TextIOWrapper, progress: Progress | None = None) -> Iterator[tuple[int, str]]:
    """(1-based number, line with its end) of an open file."""
    for number, line in enumerate(file, start=1):
        yield number, line
        if progress and number % LINES_A_STEP == 0:
            progress(file.buffer.tell())


def text_flaw(text: str, line: int | None = None) -> str | None:
    """What makes text unusable, with its place: a byte that is no UTF-8, or a NUL character; None if nothing does.

    line: the number of the text's first line, where it has several, so that the place names a line as well.
    """
    nul = text.find("\0")
    if nul >= 0:
        return f"a NUL character at {place(text, nul, line)}; delete it"
    found = None if text.isascii() else UNDECODED.search(text)
    if not found:
        return None
    byte = ord(found.group()) - 0xDC00
    return f"not UTF-8 (byte 0x{byte:02x} at {place(text, found.start(), line)}); save the file as UTF-8"


def place(text: str, position: int, line: int | None) -> str:
    """A position as "column N", or as "line M column N" where it is on another line than the first."""
    column = position - text.rfind("\n", 0, position)
    lines_before = text.count("\n", 0, position)
    return f"column {column}" if line is None or not lines_before else f"line {line + lines_before} column {column}"


def is_blank(path: Path) -> bool:
    """Whether a file holds nothing but white space."""
    with open_text(path) as file:
        return not any(line.strip() for line in file)
