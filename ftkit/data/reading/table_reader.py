"""Reads tables row by row, in memory that does not grow with the file: .csv, .tsv and .parquet.

records = read_csv(Path("train.csv"), problems.add)
"""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from ftkit.config.errors import UserError, first_line
from ftkit.data.reading.problems import Report
from ftkit.data.reading.records import Record
from ftkit.data.reading.text_file import Progress, line_flaw, numbered_lines, open_text

CSV_FIELD_LIMIT = 2**31 - 1  # characters; the csv module's own limit of 131,072 is shorter than some documents
PARQUET_ROWS = 1024  # that are decoded at once
PARQUET_BYTES = 2**20  # of a column that are read at once; without a limit it is a whole row group
DELIMITERS = {"comma": ",", "tab": "\t", "semicolon": ";"}


def read_tsv(path: Path, report: Report, progress: Progress | None = None) -> Iterator[Record]:
    """Rows of a tab-separated file with a header; every value stays text."""
    yield from read_csv(path, report, progress, "tab")


def read_csv(
    path: Path,
    report: Report,
    progress: Progress | None = None,
    separator: str = "comma",
    columns: Sequence[str] | None = None,
) -> Iterator[Record]:
    """Rows of a file with a header; every value stays text ("NA", "null" and "nan" too).

    columns: the names in a file without a header, of which the first row is a row like the others.
    """
    limit = csv.field_size_limit(CSV_FIELD_LIMIT)
    flaws = []  # in the lines of the row that is being read
    try:
        with open_text(path, newline="") as file:
            reader = csv.reader(watched_lines(file, progress, flaws), delimiter=DELIMITERS[separator], strict=True)
            header = columns
            for line, row in numbered_rows(reader, path, report):
                if flaws:
                    report(UserError(f"{path}:{line}: {flaws[0]}"))
                elif row and header is None:
                    header = checked_header(row, f"{path}:{line}", separator)
                elif row and len(row) != len(header):
                    report(UserError(f"{path}:{line}: {ragged_reason(row, header, separator)}"))
                elif row:
                    yield Record(dict(zip(header, row, strict=True)), line)
                flaws.clear()
                if header is None and row:
                    return  # without column names the rows mean nothing
    finally:
        csv.field_size_limit(limit)


def first_row(path: Path) -> list[str]:
    """The fields of the first row; none where there is no whole row."""
    with open_text(path, newline="") as file:
        return next((row for _, row in numbered_rows(csv.reader(file, strict=True), path, lambda mistake: None)), [])


def watched_lines(file, progress: Progress | None, flaws: list[str]) -> Iterator[str]:
    """The lines of a file; what makes one unusable is added to `flaws`."""
    for number, line in numbered_lines(file, progress):
        flaw = line_flaw(line, f"line {number} " if number > 1 else "")
        if flaw:
            flaws.append(flaw)
            line = line.replace("\0", "")  # which csv of Python 3.10 does not take
        yield line


def numbered_rows(reader, path: Path, report: Report) -> Iterator[tuple[int, list[str]]]:
    """(line on which the row starts, fields) of each row; a row with broken quotes is reported and left out."""
    while True:
        line = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            report(UserError(f"{path}:{line}: bad CSV ({error}); {quote_fix(error)}"))
            continue
        yield line, row


def quote_fix(error: csv.Error) -> str:
    """What to do about broken quotes."""
    if "expected after" in str(error):
        return 'in the row that starts here, write a quote inside a quoted field as ""'
    return "close the quotes of the row that starts here"


def ragged_reason(row: list[str], header: Sequence[str], separator: str) -> str:
    """Why a row does not fit under the header, and the usual fix."""
    fields = "1 field" if len(row) == 1 else f"{len(row)} fields"
    fix = f"quote a field that holds a {separator}" if len(row) > len(header) else "add the missing fields"
    return f"{fields}, but there are {len(header)} columns; {fix}"


def checked_header(names: list[str], where: str, separator: str) -> list[str]:
    """Return the column names; raise UserError for an empty or a repeated one, and for another separator."""
    other = next((name for name, sign in DELIMITERS.items() if name != separator and sign in names[0]), None)
    if len(names) == 1 and other:
        fix = "rename the file to .tsv" if other == "tab" else f"separate the fields by {separator}s"
        raise UserError(f"{where}: the columns are separated by {other}s, not {separator}s; {fix}")
    for position, name in enumerate(names, start=1):
        if not name.strip():
            raise UserError(f"{where}: column {position} has no name; name it in the header")
        if names.index(name) != position - 1:
            raise UserError(f'{where}: column "{name}" appears twice; rename one')
    return names


def read_parquet(path: Path, report: Report, progress: Progress | None = None) -> Iterator[Record]:
    """Rows of a parquet file, numbered from 1."""
    import pyarrow
    import pyarrow.parquet

    number = 0
    try:
        with pyarrow.parquet.ParquetFile(path, buffer_size=PARQUET_BYTES) as file:
            size, num_rows = path.stat().st_size, file.metadata.num_rows
            for batch in file.iter_batches(PARQUET_ROWS):
                for row in batch_rows(batch):
                    number += 1
                    if isinstance(row, UnicodeDecodeError):
                        byte = row.object[row.start]
                        report(UserError(f"{path}:{number}: not UTF-8 (byte 0x{byte:02x}); write the text as UTF-8"))
                    else:
                        yield Record(row, number)
                if progress:
                    progress(size * number // num_rows)
    except (pyarrow.ArrowException, OSError) as error:
        place = f":{number + 1}" if number else ""
        cause = first_line(error)
        report(UserError(f"{path}{place}: not a readable parquet file ({cause}); write it again"))


def batch_rows(batch) -> list:
    """The rows of an arrow batch as dicts; in the place of one whose text can't be decoded, its UnicodeDecodeError."""
    try:
        return batch.to_pylist()
    except UnicodeDecodeError:
        rows = []
        for index in range(batch.num_rows):
            try:
                rows += batch.slice(index, 1).to_pylist()
            except UnicodeDecodeError as error:
                rows.append(error)
        return rows
