"""How the fields of a table are separated and quoted, found out from the file itself.

dialect = find_dialect(Path("train.csv"))
"""

import csv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

from ftkit.data.reading.text_file import open_text

CSV_FIELD_LIMIT = 2**31 - 1  # characters; the csv module's own limit of 131,072 is shorter than some documents
SIGNS = {"comma": ",", "tab": "\t", "semicolon": ";"}
FIRST_ROWS = 50  # by which a separator is found
ONE_COLUMN = 0.5  # what a table of one column scores; several columns score the share of rows that have them all
NEED_QUOTES = '"\t\r\n,;'  # a field with none of these is in quotes only where all are
EXCEL_MARK = "sep="  # Excel's own first line, which names the separator

Rows = Callable[[], Iterator[list[str] | None]]


@dataclass(frozen=True)
class Dialect:
    """separator: by name. is_quoted: whether quotes around a field are no part of it. num_skipped: lines before all."""

    separator: str
    is_quoted: bool = True
    num_skipped: int = 0

    @property
    def options(self) -> dict:
        """What csv.reader takes."""
        quoting = csv.QUOTE_MINIMAL if self.is_quoted else csv.QUOTE_NONE
        return {"delimiter": SIGNS[self.separator], "quoting": quoting, "strict": True}


@contextmanager
def long_fields() -> Iterator[None]:
    """Let the csv module read fields of any length."""
    limit = csv.field_size_limit(CSV_FIELD_LIMIT)
    try:
        yield
    finally:
        csv.field_size_limit(limit)


def find_dialect(path: Path, encoding: str | None = None) -> Dialect:
    """How a .csv or .tsv file is written. A separator is the one that gives the first rows equally many fields.

    Quotes quote in a table of commas or semicolons. One of tabs is read so only if it is quoted throughout: see
    `is_quoted_throughout`.
    """
    with open_text(path, newline="", encoding=encoding) as file:
        first = next(file, "").strip("\r\n")
    named = next((name for name, sign in SIGNS.items() if first.lower() == EXCEL_MARK + sign), None)
    num_skipped = 1 if named else 0
    default = "tab" if path.suffix.lower() == ".tsv" else "comma"
    names = [named] if named else [default, *(name for name in SIGNS if name != default)]

    def rows(separator: str, is_quoted: bool) -> Iterator[list[str] | None]:
        return rows_as(path, encoding, Dialect(separator, is_quoted, num_skipped))

    with long_fields():
        scores = {name: evenness(rows(name, name != "tab")) for name in names}
        scores[names[0]] = scores[names[0]] or ONE_COLUMN
        separator = max(names, key=scores.__getitem__)
        is_quoted = separator != "tab" or is_quoted_throughout(partial(rows, "tab", False), partial(rows, "tab", True))
    return Dialect(separator, is_quoted, num_skipped)


def rows_as(path: Path, encoding: str | None, dialect: Dialect) -> Iterator[list[str] | None]:
    """The rows of a file that are not blank, None for those with broken quotes."""
    with open_text(path, newline="", encoding=encoding) as file:
        lines = (line.replace("\0", "") for line in islice(file, dialect.num_skipped, None))
        reader = csv.reader(lines, **dialect.options)
        while True:
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error:
                yield None
            else:
                if row:
                    yield row


def evenness(rows: Iterator[list[str] | None]) -> float:
    """The share of the first rows with as many fields as the header; 0 where that is one."""
    counts = [len(row or ()) for row in islice(rows, FIRST_ROWS)]
    return counts.count(counts[0]) / len(counts) if counts and counts[0] > 1 else 0


def is_quoted_throughout(plain: Rows, quoted: Rows) -> bool:
    """Whether quotes quote in a table of tabs, as spreadsheets and csv libraries write it; else they are letters.

    plain, quoted: give the rows in which quotes are letters, or quote. They quote where the rows are more even so;
    where both ways give whole rows, only if each field in quotes needs them, or the header and the first row have them.
    A line that begins with a quotation is thus kept as it is, and none is joined with the next ones.
    """
    if not any(field.startswith('"') for row in plain() for field in row or ()):
        return False
    uneven = num_uneven(plain()), num_uneven(quoted())
    if uneven[0] != uneven[1]:
        return uneven[1] < uneven[0]
    if sum(1 for _ in plain()) != sum(1 for _ in quoted()):
        width = len(next(plain()) or ())
        return width == 1  # a lone column says nothing; in others each line is a whole row, and quotes would join some
    first = [field for row in islice(plain(), 2) for field in row or ()]
    return all(map(is_in_quotes, first)) or all(
        raw == '""' or any(sign in value for sign in NEED_QUOTES)
        for raw_row, row in zip(plain(), quoted(), strict=True)
        for raw, value in zip(raw_row or (), row or (), strict=False)
        if raw.startswith('"')
    )


def is_in_quotes(field: str) -> bool:
    """Whether a field, as it is written, stands between quotes."""
    return len(field) > 1 and field.startswith('"') and field.endswith('"')


def num_uneven(rows: Iterator[list[str] | None]) -> int:
    """How many rows are broken or have more or fewer fields than the first."""
    width, count = None, 0
    for row in rows:
        width = width or len(row or ()) or None
        count += row is None or len(row) != width
    return count
