"""The rows of a benchmark task: a file, a folder, a bundled dataset, a Hub dataset, or MMLU's own CSV files.

read_rows("test.jsonl", "test")               # columns as they are
read_conversations("test.csv", "test")        # any form that ftkit sft takes, as instruction, input and output
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ftkit.config.errors import UserError
from ftkit.data.reading.loading import find_splits, log_notes, split_named
from ftkit.data.reading.problems import Problems
from ftkit.data.reading.read_as import AS_WRITTEN, ReadAs
from ftkit.data.reading.reader import READERS, read_records
from ftkit.data.reading.table_reader import first_row, read_csv
from ftkit.data.rows.checking import RowChecker
from ftkit.data.rows.formats import CONVERSATIONS, INPUT_MARKER
from ftkit.data.rows.thoughts import without_thought
from ftkit.data.rows.tools import CALLS, TOOLS

MMLU_COLUMNS = ("question", "A", "B", "C", "D", "answer")  # of the paper's files, which name no columns
MMLU_ANSWERS = ("A", "B", "C", "D")
LETTERS = "ABCDEFGHIJ"
EARLIER = "earlier"  # a system turn, questions and answers before the one that is asked


@dataclass(frozen=True)
class Row:
    """Columns of one row, and "file:line" where it came from. A conversation's earlier turns are the column EARLIER."""

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
    found = split_named(split, splits, source)
    records = (record for record in found.open() if not record.is_blank)
    return [Row(with_choices(record.values), record.where(found.label)) for record in records]


def read_conversations(data: str, split: str, config: str | None = None, read_as: ReadAs = AS_WRITTEN) -> list[Row]:
    """The rows of one split, read and checked as `ftkit sft` reads them; a file is every split.

    Raises UserError for data that is not there, a missing split, mistakes in rows, and rows that ask nothing.
    """
    return checked_rows(data, split, config, read_as, conversation_columns)


def checked_rows(
    data: str, split: str, config: str | None, read_as: ReadAs, columns: Callable[[dict, dict], dict]
) -> list[Row]:
    """The conversations of one split. columns(values as read, row): what a task sees of each; may raise UserError."""
    source, splits = find_splits(data, config, read_as=read_as)
    split = "train" if Path(data).expanduser().is_file() else split
    found, problems = split_named(split, splits, source), Problems()
    checker = RowChecker(found.label, CONVERSATIONS, report=problems.add)
    rows = [Row(columns(record.values, row), row["source"]) for record, row in checker.pairs(found.open(problems.add))]
    checker.finish()
    problems.raise_any()
    log_notes(checker)
    return rows


def conversation_columns(values: dict, row: dict) -> dict:
    """Columns instruction, input and output of a row, and EARLIER where turns stand before its question; no thoughts.

    values: as they were read; those of an Alpaca row stay, by which it is known. Raises UserError for a row that is no
    question with an answer.
    """
    messages = row.get("messages")
    if not is_question(messages):
        what = "plain text" if messages is None else f"turns of {', '.join(turn['role'] for turn in messages)}"
        fix = "leave it out, or ask rows with tools by a task of the kind tool_calls"
        raise UserError(f"{row['source']}: {what}, and no question with an answer; {fix}")
    *earlier, question, answer = (answer_alone(turn) for turn in messages)
    columns = {EARLIER: earlier} if earlier else {}
    if isinstance(values.get("has_passage"), bool):  # of RAFT rows
        columns["passage"] = "with the passage" if values["has_passage"] else "without the passage"
    if {"instruction", "output"} <= values.keys():
        return {**values, "input": values.get("input") or "", "output": answer["content"], **columns}
    asked, _, about = question["content"].partition(INPUT_MARKER)
    return {"instruction": asked, "input": about, "output": answer["content"], **columns}


def answer_alone(turn: dict) -> dict:
    """A turn without thoughts."""
    text = turn["content"]
    return {"role": turn["role"], "content": without_thought(text) if turn["role"] == "assistant" else text}


def is_question(messages: object) -> bool:
    """Whether a row is a conversation of user and assistant in turn, without tools, after any system turn, that ends
    with an answer."""
    if not isinstance(messages, list) or any(turn.get(TOOLS) or turn.get(CALLS) for turn in messages):
        return False
    roles = [turn["role"] for turn in messages]
    roles = roles[roles[:1] == ["system"] :]
    return bool(roles) and roles == ["user", "assistant"] * (len(roles) // 2)


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
