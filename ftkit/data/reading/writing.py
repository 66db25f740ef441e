"""Writes rows to .jsonl, .json, .csv, .tsv or .parquet; the file appears when it is whole, or not at all.

with row_writer(Path("out.jsonl")) as write:
    write({"text": "a"})
"""

import csv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain, repeat
from pathlib import Path
from types import SimpleNamespace

from ftkit.config.errors import UserError, first_line
from ftkit.config.files import check_file, whole_file
from ftkit.config.jsonl import json_line

ROWS_AT_ONCE = 1000  # of a parquet file
TABLES = {".csv": ",", ".tsv": "\t"}
SUFFIXES = (".jsonl", ".json", *TABLES, ".parquet")

Write = Callable[[dict], None]


def check_output(path: Path) -> None:
    """Raise UserError for a file that rows can't be written to, or that is there already."""
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f'{path}: can\'t write "{path.suffix}"; use one of {", ".join(SUFFIXES)}')
    if path.exists():
        raise UserError(f"{path}: exists already; choose another name, or delete it first")
    check_file(path, "--output")


@contextmanager
def row_writer(path: Path) -> Iterator[Write]:
    """Yield a function that adds a row to the file; what was written is thrown away if the block raises."""
    check_output(path)
    writers = {".jsonl": open_jsonl, ".json": open_json, ".parquet": open_parquet}
    writer = writers.get(path.suffix.lower(), open_table)
    with whole_file(path) as temporary, writer(temporary, path) as write:
        yield write


def as_json(row: dict, path: Path) -> str:
    """A row's line; raise UserError for values that JSON has no form for, such as dates, bytes and NaN."""
    try:
        return json_line(row)
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: {error}; write to .parquet, or drop the column") from error


@contextmanager
def open_jsonl(temporary: Path, path: Path) -> Iterator[Write]:
    """Yield what adds a line to a file of JSON Lines."""
    with temporary.open("w", encoding="utf-8", newline="\n") as file:
        yield lambda row: file.write(as_json(row, path))


@contextmanager
def open_json(temporary: Path, path: Path) -> Iterator[Write]:
    """Yield what adds a row to a JSON array."""
    with temporary.open("w", encoding="utf-8", newline="\n") as file:
        file.write("[")
        gaps = chain(["\n"], repeat(",\n"))
        yield lambda row: file.write(next(gaps) + as_json(row, path).rstrip("\n"))
        file.write("\n]\n")


@contextmanager
def open_table(temporary: Path, path: Path) -> Iterator[Write]:
    """Yield what adds a row to a .csv or .tsv file; the first row gives the columns."""
    with temporary.open("w", encoding="utf-8", newline="") as file:
        # csv quotes what its line end holds: a lone "\r" too, which it would read as the end of a row
        lines = SimpleNamespace(write=lambda line: file.write(line.removesuffix("\r\n") + "\n"))
        writer = csv.writer(lines, delimiter=TABLES[path.suffix.lower()], lineterminator="\r\n")
        header = []

        def write(row: dict) -> None:
            if not header:
                header.extend(row)
                writer.writerow(header)
            nested = next((name for name, value in row.items() if isinstance(value, list | dict)), None)
            if nested or list(row) != header:
                came = f'"{nested}" is a list or an object' if nested else "the rows have different columns"
                raise UserError(f"{path}: {came}, which a table can't hold; write to .jsonl")
            writer.writerow("" if value is None else value for value in row.values())

        yield write


@contextmanager
def open_parquet(temporary: Path, path: Path) -> Iterator[Write]:
    """Yield what adds a row to a parquet file; the first rows give the columns and their types."""
    import pyarrow
    import pyarrow.parquet

    rows, writer = [], None

    def flush() -> None:
        nonlocal writer
        try:
            table = pyarrow.Table.from_pylist(rows, schema=writer.schema if writer else None)
        except pyarrow.ArrowException as error:
            cause = first_line(error)
            raise UserError(f"{path}: the rows don't fit one table ({cause}); write to .jsonl") from error
        writer = writer or pyarrow.parquet.ParquetWriter(temporary, table.schema)
        writer.write_table(table)
        rows.clear()

    def write(row: dict) -> None:
        rows.append(row)
        if len(rows) >= ROWS_AT_ONCE:
            flush()

    try:
        yield write
        if rows or writer is None:
            flush()
    finally:
        if writer:
            writer.close()
