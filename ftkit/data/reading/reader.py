"""Reads .jsonl, .json, .csv, .tsv, .xlsx, .parquet and .txt strictly: nothing is dropped or made null.

    for record in iter_records("train.jsonl", problems.add): ...

Every mistake is a UserError `file:line: reason; fix`, where line is the one on which the record starts.
"""

from collections.abc import Iterator
from pathlib import Path

from ftkit.config.errors import UserError, did_you_mean
from ftkit.data.reading.json_reader import read_json_rows, read_jsonl_rows
from ftkit.data.reading.problems import Problems, Report, stop
from ftkit.data.reading.read_as import AS_WRITTEN, ReadAs
from ftkit.data.reading.records import Record
from ftkit.data.reading.spreadsheet import read_xlsx
from ftkit.data.reading.table_reader import read_csv, read_parquet
from ftkit.data.reading.text_file import Progress, is_blank, line_flaw, numbered_lines, open_text, undecodable


def read_records(path: str | Path, read_as: ReadAs = AS_WRITTEN) -> list[Record]:
    """Return all rows of a file, blank ones left out; raise one UserError that lists every mistake."""
    problems = Problems()
    records = [record for record in iter_records(path, problems.add, None, read_as) if not record.is_blank]
    problems.raise_any()
    return records


def iter_records(
    path: str | Path, report: Report = stop, progress: Progress | None = None, read_as: ReadAs = AS_WRITTEN
) -> Iterator[Record]:
    """Yield the rows of a file, in order, reading it in parts. Its suffix says what kind of file it is.

    .json: an array of objects, objects one after another, or an object with a single list of objects. .txt: one row
    {"text": line} per non-blank line. .csv, .tsv, .xlsx: values are text. report: called for each mistake; reading
    goes on after it where the file's structure allows. read_as: --columns and --encoding.
    Raises UserError for a missing file and an unknown suffix; a file without rows is reported.
    """
    path = Path(path)
    reader = reader_of(path)
    if read_as.encoding and path.suffix.lower() in ENCODED:
        raise UserError(f"{path}: --encoding has no effect on a {path.suffix} file; drop it")
    is_silent = True

    def noted(mistake: UserError) -> None:
        nonlocal is_silent
        is_silent = False
        report(mistake)

    try:
        for record in reader(path, noted, progress, read_as):
            is_silent = is_silent and record.is_blank
            yield read_as.applied(record, f"{path}:{record.line}")
    except UserError as error:  # what a reader can't go on after
        noted(error)
    except UnicodeDecodeError as error:
        noted(undecodable(path, error, read_as.encoding))
    if is_silent:
        is_empty = path.suffix.lower() not in ENCODED and is_blank(path, read_as.encoding)
        report(UserError(f"{path}: the file {'is empty; add at least one row' if is_empty else NO_ROWS}"))


NO_ROWS = "has no rows; add at least one"


def reader_of(path: Path):
    """The function that reads this file; raise UserError if it is missing or of an unknown kind."""
    if not path.is_file():
        raise UserError(missing_file_message(path))
    reader = READERS.get(path.suffix.lower())
    if path.suffix.lower() in OLD_KINDS:
        raise UserError(f"{path}: {path.suffix} files are not read; save it as {OLD_KINDS[path.suffix.lower()]}")
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


def read_txt(
    path: Path, report: Report, progress: Progress | None = None, read_as: ReadAs = AS_WRITTEN
) -> Iterator[Record]:
    """One row per non-blank line."""
    with open_text(path, encoding=read_as.encoding) as file:
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
    ".tsv": read_csv,
    ".xlsx": read_xlsx,
    ".parquet": read_parquet,
    ".txt": read_txt,
}
ENCODED = (".xlsx", ".parquet")  # files that say themselves how their text is written
OLD_KINDS = {".xls": ".xlsx or .csv", ".ods": ".xlsx or .csv", ".numbers": ".xlsx or .csv", ".docx": ".txt"}
