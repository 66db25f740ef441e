"""The rows of a benchmark task: a file, a folder, a bundled dataset, a Hub dataset, or MMLU's own CSV files."""

from dataclasses import dataclass
from pathlib import Path

from ftkit.config.errors import UserError
from ftkit.data.reading.loading import find_splits, no_split_message
from ftkit.data.reading.problems import Problems
from ftkit.data.reading.reader import READERS, read_records
from ftkit.data.reading.table_reader import first_row, read_csv

MMLU_COLUMNS = ("question", "A", "B", "C", "D", "answer")  # of the paper's files, which name no columns
MMLU_ANSWERS = ("A", "B", "C", "D")
LETTERS = "ABCDEFGHIJ"


@dataclass(frozen=True)
class Row:
    """Columns of one row, and "file:line" where it came from."""

    values: dict
    source: str


def read_rows(data: str, split: str, config: str | None = None) -> list[Row]:
    """The rows of one split. A file is every split; in a folder, SUBJECT_SPLIT.csv files are MMLU's subjects.

    Columns choice0, choice1, ... (or A, B, ...) become one list `choices`.
    Raises UserError for data that is not there, a missing split, and a broken file.
    """
    path = Path(data).expanduser()
    if path.is_file():
        return read_file(path)
    if path.is_dir():
        files = sorted(path.glob(f"*_{split}.csv"))
        if files:
            return [row for file in files for row in read_subject(file, file.stem.removesuffix(f"_{split}"))]
        named = split_file(path, split)
        if named:
            return read_file(named)
    source, splits = find_splits(data, config)
    if split not in splits:
        raise UserError(no_split_message(split, splits, source))
    found = splits[split]
    records = (record for record in found.open() if not record.is_blank)
    return [Row(with_choices(record.values), record.where(found.label)) for record in records]


def has_split(data: str, split: str, config: str | None = None) -> bool:
    """Whether the data has a split of that name; a file has none."""
    path = Path(data).expanduser()
    if path.is_file():
        return False
    if path.is_dir() and (any(path.glob(f"*_{split}.csv")) or split_file(path, split)):
        return True
    return split in find_splits(data, config)[1]


def split_file(folder: Path, split: str) -> Path | None:
    """The data file of a folder that is called as the split."""
    return next((folder / f"{split}{suffix}" for suffix in READERS if (folder / f"{split}{suffix}").is_file()), None)


def read_file(path: Path) -> list[Row]:
    """Rows of a data file."""
    return [Row(with_choices(record.values), f"{path}:{record.line}") for record in read_records(path)]


def read_subject(path: Path, subject: str) -> list[Row]:
    """Rows of one subject of MMLU, with or without a line of column names, in which `subject` is set."""
    first = first_row(path)
    if len(first) != len(MMLU_COLUMNS) or first[-1].strip() not in MMLU_ANSWERS:
        return [Row({"subject": subject, **row.values}, row.source) for row in read_file(path)]
    problems = Problems()
    records = [one for one in read_csv(path, problems.add, columns=MMLU_COLUMNS) if not one.is_blank]
    problems.raise_any()
    return [Row({"subject": subject, **with_choices(one.values)}, f"{path}:{one.line}") for one in records]


def with_choices(values: dict) -> dict:
    """The columns with choice0, choice1, ... or A, B, ... as one list `choices`, unless there is such a column."""
    if "choices" in values:
        return values
    for names in ([f"choice{number}" for number in range(len(LETTERS))], LETTERS):
        found = [name for name in names if name in values]
        if len(found) >= 2 and found == list(names[: len(found)]):
            rest = {name: value for name, value in values.items() if name not in found}
            return {**rest, "choices": [values[name] for name in found]}
    return values
