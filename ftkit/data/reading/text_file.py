"""Text files read in parts: decoded strictly, with the place of every byte that is no UTF-8.

with open_text(path) as file:
    flaws = [line_flaw(line) for line in file]
"""

import codecs
import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from ftkit.config.errors import UserError, did_you_mean

Progress = Callable[[int], None]  # called with the number of bytes that were read so far

UNDECODED = re.compile("[\udc80-\udcff]")  # how the error handler "surrogateescape" writes a byte that is no UTF-8
LINES_A_STEP = 1000  # between two calls of Progress
MARKS = {  # byte-order mark -> encoding; UTF-32's begins as one of UTF-16's does
    codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32", codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16",
}  # fmt: skip
BEGINNING = 2**16  # bytes by which an encoding is found
WINDOWS = "cp1252"  # what most files that are not UTF-8 are in
COMMON_ENCODINGS = (WINDOWS, "latin-1", "utf-16", "cp1250", "cp1251", "shift_jis", "gb18030", "euc-kr", "mac-roman")


def open_text(path: Path, newline: str = "\n", encoding: str | None = None) -> io.TextIOWrapper:
    """The file without its byte-order mark, as text; in UTF-8 bad bytes are kept (see `find_flaw`).

    newline: as `open` takes it. encoding: None for what the byte-order mark says, else UTF-8. In another encoding bad
    bytes raise UnicodeDecodeError (see `undecodable`). Raises UserError where the beginning contradicts `encoding`.
    """
    encoding = encoding_of_file(path, encoding)
    errors = "surrogateescape" if encoding == "utf-8-sig" else "strict"
    return io.TextIOWrapper(path.open("rb"), encoding=encoding, errors=errors, newline=newline)


def encoding_of_file(path: Path, asked: str | None = None) -> str:
    """The encoding that a file is read in; `asked` by a person, None for "find out"."""
    with path.open("rb") as file:
        return encoding_of(path, file.read(BEGINNING), asked)


def encoding_of(path: Path, beginning: bytes, asked: str | None) -> str:
    """The encoding of a file that begins so; `asked` by a person, None for "find out"."""
    marked = next((name for mark, name in MARKS.items() if beginning.startswith(mark)), None)
    if asked is None:
        if marked is None and (order := unmarked_utf_16(beginning)):
            raise UserError(f"{path}:1: seems to be UTF-16 without a byte-order mark; give --encoding {order}")
        return marked or "utf-8-sig"
    name = known_encoding(asked)
    if marked and not name.startswith(marked.removesuffix("-sig")):
        found = marked.removesuffix("-sig").upper()
        raise UserError(f"{path}:1: the file is {found} by its byte-order mark; drop --encoding {asked}")
    if not marked and not name.startswith("utf") and not beginning.isascii() and is_utf_8(beginning):
        raise UserError(f"{path}: the file is UTF-8; drop --encoding {asked}, which would garble it")
    return marked or ("utf-8-sig" if name == "utf-8" else name)


def known_encoding(name: str) -> str:
    """Python's name of an encoding of text; raise UserError for one that is not known."""
    try:
        "".encode(name)  # also refuses what is no encoding of text, such as hex
        return codecs.lookup(name).name
    except (LookupError, ValueError) as error:
        hint = f"{did_you_mean(name, COMMON_ENCODINGS)}; common ones: {', '.join(COMMON_ENCODINGS)}"
        raise UserError(f'unknown --encoding "{name}"{hint}') from error


def is_utf_8(beginning: bytes) -> bool:
    """Whether the beginning of a file is UTF-8; its last letter may be cut."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(beginning)
    except UnicodeDecodeError:
        return False
    return True


def unmarked_utf_16(beginning: bytes) -> str | None:
    """The encoding of text in which every second byte is 0, None for any other."""
    pairs = beginning[: len(beginning) // 2 * 2]
    for name, zeros, others in (("utf-16-le", pairs[1::2], pairs[::2]), ("utf-16-be", pairs[::2], pairs[1::2])):
        if zeros and not any(zeros) and all(others):
            return name
    return None


def undecodable(path: Path, error: UnicodeDecodeError, asked: str | None) -> UserError:
    """The mistake in a file that is not in its encoding, with its line. asked: as `open_text` takes it."""
    name = asked or error.encoding
    try:
        path.read_bytes().decode(name)
    except UnicodeDecodeError as whole:  # `error` counts from the part that was being read
        error = whole
    line = error.object[: error.start].decode(name, "replace").count("\n") + 1
    came = f"byte 0x{error.object[error.start]:02x}, the file's number {error.start + 1:,}"
    return UserError(f"{path}:{line}: not {name} ({came}); give the right --encoding, or save it as UTF-8")


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
    value = ord(found.group()) - 0xDC00
    place, meant = start + found.start(), bytes([value]).decode(WINDOWS, "replace")
    is_cut = place + 1 == len(text)  # a letter of UTF-8 whose other bytes are missing
    fix = "save the file as UTF-8"
    if not is_cut and meant.isprintable() and meant != "\ufffd":
        fix = f'give --encoding {WINDOWS} if it stands for "{meant}", or {fix}'
    return place, f"not UTF-8 (byte 0x{value:02x}", fix


def describe_flaw(what: str, place: str, fix: str) -> str:
    """A flaw with its place, as a reason and a fix."""
    return f"{what} at {place}{')' if '(' in what else ''}; {fix}"


def line_flaw(line: str, where: str = "") -> str | None:
    """What makes a line unusable, with its column. where: stands before "column"."""
    found = find_flaw(line)
    return describe_flaw(found[1], f"{where}column {found[0] + 1}", found[2]) if found else None


def read_text(path: Path, encoding: str | None = None) -> str:
    """The whole text of a file; raise UserError, with its line and column, for a byte or a NUL that is no text."""
    with open_text(path, encoding=encoding) as file:
        try:
            text = file.read()
        except UnicodeDecodeError as error:
            raise undecodable(path, error, encoding) from error
    if found := find_flaw(text):
        position, what, fix = found
        line, column = text.count("\n", 0, position) + 1, position - text.rfind("\n", 0, position)
        raise UserError(f"{path}:{line}: {describe_flaw(what, f'column {column}', fix)}")
    return text


def is_blank(path: Path, encoding: str | None = None) -> bool:
    """Whether a file holds nothing but white space."""
    with open_text(path, encoding=encoding) as file:
        return not any(line.strip() for line in file)
