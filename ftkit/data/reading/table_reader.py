"""Reads tables row by row, in memory that does not grow with the file: .csv, .tsv and .parquet.

records = read_csv(Path("train.csv"), problems.add)
"""

import csv
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from ftkit.config.errors import UserError, first_line
from ftkit.data.reading.problems import Report
from ftkit.data.reading.read_as import AS_WRITTEN, ReadAs
from ftkit.data.reading.records import Record
from ftkit.data.reading.separators import find_dialect, long_fields
from ftkit.data.reading.text_file import Progress, line_flaw, numbered_lines, open_text

PARQUET_ROWS = 1024  # that are decoded at once
UNNAMED = "a value stands under no column name; name the column in the header"
PARQUET_BYTES = 2**20  # of a column that are read at once; without a limit it is a whole row group


def read_csv(
    path: Path,
    report: Report,
    progress: Progress | None = None,
    read_as: ReadAs = AS_WRITTEN,
    columns: Sequence[str] | None = None,
) -> Iterator[Record]:
    """Rows of a .csv or .tsv file with a header; every value stays text ("NA", "null" and "nan" too).

    columns: the names in a file without a header, of which the first row is a row like the others.
    """
    dialect = find_dialect(path, read_as.encoding)
    flaws = []  # in the lines of the row that is being read
    header, num_names = columns, 0
    with long_fields(), open_text(path, newline="", encoding=read_as.encoding) as file:
        reader = csv.reader(watched_lines(file, progress, flaws, dialect.num_skipped), **dialect.options)
        for line, row in numbered_rows(reader, path, report, dialect.num_skipped):
            if flaws:
                report(UserError(f"{path}:{line}: {flaws[0]}"))
            elif row and header is None and read_as.has_header:
                header, num_names = checked_header(row, f"{path}:{line}"), len(row)
            elif row:
                header = header or [str(number) for number in range(1, len(row) + 1)]
                fields = without_blank_end(row, len(header))
                if is_blank_row(row):
                    yield blank_row(header, line)
                elif len(fields) == len(header):
                    yield Record(dict(zip(header, fields, strict=True)), line)
                else:
                    reason = (
                        UNNAMED
                        if len(header) < len(fields) <= num_names
                        else ragged_reason(fields, header, dialect.separator)
                    )
                    report(UserError(f"{path}:{line}: {reason}"))
            flaws.clear()
            if header is None and row:
                return  # without column names the rows mean nothing


def first_row(path: Path) -> list[str]:
    """The fields of the first row; none where there is no whole row."""
    with open_text(path, newline="") as file:
        reader = csv.reader(file, **find_dialect(path).options)
        return next((row for _, row in numbered_rows(reader, path, lambda mistake: None)), [])


def blank_row(header: Sequence[str], line: int) -> Record:
    """A row that holds nothing."""
    return Record(dict.fromkeys(header, ""), line, is_blank=True)


def without_blank_end(row: list[str], num_columns: int) -> list[str]:
    """The fields without blank ones that stand under no column, as spreadsheets write them."""
    while len(row) > num_columns and not row[-1].strip(" "):
        row = row[:-1]
    return row


def is_blank_row(row: list[str]) -> bool:
    """Whether no field holds more than spaces."""
    return not any(field.strip(" ") for field in row)


def watched_lines(file, progress: Progress | None, flaws: list[str], num_skipped: int) -> Iterator[str]:
    """The lines of a file after some that are left out; what makes one unusable is added to `flaws`."""
    for number, line in islice(numbered_lines(file, progress), num_skipped, None):
        flaw = line_flaw(line, f"line {number} " if number > 1 else "")
        if flaw:
            flaws.append(flaw)
            line = line.replace("\0", "")  # which csv of Python 3.10 does not take
        yield line


def numbered_rows(reader, path: Path, report: Report, num_skipped: int = 0) -> Iterator[tuple[int, list[str]]]:
    """(line on which the row starts, fields) of each row; a row with broken quotes is reported and left out."""
    while True:
        line = reader.line_num + num_skipped + 1
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


def checked_header(names: list[str], where: str) -> list[str]:
    """The column names without spaces around them; raise UserError for an empty or a repeated one."""
    names = [name.strip() for name in without_blank_end(names, 1)]
    for position, name in enumerate(names, start=1):
        if not name:
            raise UserError(f"{where}: column {position} has no name; name it in the header")
        if names.index(name) != position - 1:
            raise UserError(f'{where}: column "{name}" appears twice; rename one')
    return names


def read_parquet(
    path: Path, report: Report, progress: Progress | None = None, read_as: ReadAs = AS_WRITTEN
) -> Iterator[Record]:
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
    """The rows of an arrow batch as dicts; in place of one whose text can't be decoded, its UnicodeDecodeError."""
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
