"""Text files read in parts: decoded strictly, with the place of every byte that is no UTF-8.

with open_text(path) as file:
    flaws = [line_flaw(line) for line in file]
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
    """The file without its byte-order mark, as text in which bad bytes are kept (see `find_flaw`).

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


def find_flaw(text: str, start: int = 0, end: int | None = None) -> tuple[int, str, str] | None:
    """(position, what is there, fix) of what makes text unusable, a NUL or a byte that is no UTF-8; None if nothing."""
    part = text[start:end] if start or end is not None else text
    position = part.find("\0")
    if position >= 0:
        return start + position, "a NUL character", "delete it"
    found = None if part.isascii() else UNDECODED.search(part)
    if not found:
        return None
    byte = f"byte 0x{ord(found.group()) - 0xDC00:02x}"
    return start + found.start(), f"not UTF-8 ({byte}", "save the file as UTF-8"


def describe_flaw(what: str, place: str, fix: str) -> str:
    """A flaw with its place, as a reason and a fix."""
    return f"{what} at {place}{')' if '(' in what else ''}; {fix}"


def line_flaw(line: str, where: str = "") -> str | None:
    """What makes a line unusable, with its column. where: stands before "column"."""
    found = find_flaw(line)
    return describe_flaw(found[1], f"{where}column {found[0] + 1}", found[2]) if found else None


def is_blank(path: Path) -> bool:
    """Whether a file holds nothing but white space."""
    with open_text(path) as file:
        return not any(line.strip() for line in file)
