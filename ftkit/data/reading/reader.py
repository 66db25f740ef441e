"""Reads .jsonl, .json, .csv, .tsv, .parquet and .txt strictly: nothing is guessed, dropped or made null in silence.

    for record in iter_records("train.jsonl", problems.add): ...

Every mistake is a UserError `file:line: reason; fix`, where line is the one on which the record starts.
"""

from collections.abc import Iterator
from pathlib import Path

from ftkit.config.errors import UserError, did_you_mean
from ftkit.data.reading.json_reader import read_json_rows, read_jsonl_rows
from ftkit.data.reading.problems import Problems, Report, stop
from ftkit.data.reading.records import Record
from ftkit.data.reading.table_reader import read_csv, read_parquet, read_tsv
from ftkit.data.reading.text_file import Progress, is_blank, line_flaw, numbered_lines, open_text


def read_records(path: str | Path) -> list[Record]:
    """Return all rows of a file as `iter_records` gives them; raise one UserError that lists every mistake."""
    problems = Problems()
    records = list(iter_records(path, problems.add))
    problems.raise_any()
    return records


def iter_records(path: str | Path, report: Report = stop, progress: Progress | None = None) -> Iterator[Record]:
    """Yield the rows of a file, in order, reading it in parts. The kind of file is told by its suffix.

    .json: an array of objects, objects one after another, or an object with a single list of objects. .txt: one row
    {"text": line} per non-blank line. .csv, .tsv: values stay text. report: called for each mistake; reading goes on
    behind it where the file's structure allows.
    Raises UserError for a missing file and an unknown suffix; a file without rows is reported.
    """
    path = Path(path)
    reader = reader_of(path)
    is_silent = True

    def noted(mistake: UserError) -> None:
        nonlocal is_silent
        is_silent = False
        report(mistake)

    try:
        for record in reader(path, noted, progress):
            is_silent = False
            yield record
    except UserError as error:  # what a reader can't go on behind
        noted(error)
    if is_silent:
        is_empty = path.suffix.lower() != ".parquet" and is_blank(path)
        report(UserError(f"{path}: the file {'is empty; add at least one row' if is_empty else NO_ROWS}"))


NO_ROWS = "has no rows; add at least one"


def reader_of(path: Path):
    """The function that reads this file; raise UserError if it is missing or of an unknown kind."""
    if not path.is_file():
        raise UserError(missing_file_message(path))
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise UserError(f'{path}: unknown file type "{path.suffix}"; use one of {", ".join(READERS)}')
    return reader


def missing_file_message(path: Path) -> str:
    """Say what is wrong with a path that is no file, with the nearest name beside it."""
    if path.is_dir():
        return f"{path}: is a folder, not a file; name a file in it"
    siblings = [sibling.name for sibling in path.parent.iterdir()] if path.parent.is_dir() else []
    hint = did_you_mean(path.name, siblings) or "; check the path"
    return f"{path}: no such file{hint}"


def read_txt(path: Path, report: Report, progress: Progress | None = None) -> Iterator[Record]:
    """One row per non-blank line."""
    with open_text(path) as file:
        for number, line in numbered_lines(file, progress):
            flaw = line_flaw(line)
            if flaw:
                report(UserError(f"{path}:{number}: {flaw}"))
            elif line.strip():
                yield Record({"text": line.rstrip("\r\n")}, number)


READERS = {
    ".jsonl": read_jsonl_rows,
    ".json": read_json_rows,
    ".csv": read_csv,
    ".tsv": read_tsv,
    ".parquet": read_parquet,
    ".txt": read_txt,
}
