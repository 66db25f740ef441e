"""Rows are checked as they come: mistakes are gathered, Hub rows are numbered, and reading tells how far it is."""

import json
import sys

import datasets
import pytest

from ftkit.commands.data.data import main
from ftkit.config.errors import UserError
from ftkit.data.reading.problems import Problems
from ftkit.data.reading.progress import reading_bar
from ftkit.data.reading.reader import iter_records
from ftkit.data.reading.streaming import RowStream
from ftkit.data.rows.early_check import MAX_BYTES, check_early
from ftkit.data.rows.formats import CONVERSATIONS
from ftkit.data.rows.kinds import PREFERENCES, kind_of, select_kind

ROWS = [{"text": f"row {number}"} for number in range(5_000)]


def test_the_first_twenty_causes_are_listed_and_the_other_mistakes_counted():
    problems = Problems()
    problems.raise_any()  # nothing to raise
    for number in range(22):
        problems.add(UserError(f"f:{number}: {chr(ord('a') + number)}"))
    with pytest.raises(UserError) as error:
        problems.raise_any()
    assert str(error.value).splitlines()[19:] == ["f:19: t", "... and 2 more mistakes"]


CAUSES = [
    (["f:2: x", "f:9: x"], "f:2: x (2 rows; also line 9)"),
    ([f"f:{line}: x" for line in range(2, 302)], "f:2: x (300 rows; also lines 3, 4, 5, 6 and 295 more)"),
    (["f:2: x", "g:3: x", "f:4: x"], "f:2: x (3 rows; also lines g:3, 4)"),
    (["f:2: turn 2: x", "f:3: y", "f:4: turn 4: x"], "f:2: turn 2: x (2 rows; also line 4)\nf:3: y"),
    (["f:2: byte 0xe9 at 3", "f:4: byte 0xfc at 40"], "f:2: byte 0xe9 at 3 (2 rows; also line 4)"),
    (["f: x", "f: x"], "f: x (2 times)"),
]


@pytest.mark.parametrize("mistakes, text", CAUSES)
def test_one_cause_is_one_line_however_many_rows_it_hits(mistakes, text):
    problems = Problems()
    for mistake in mistakes:
        problems.add(UserError(mistake))
    with pytest.raises(UserError) as error:
        problems.raise_any()
    assert (str(error.value), problems.count) == (text, len(mistakes))


@pytest.fixture
def hub(monkeypatch):
    """Sets what a Hub dataset holds; it can only be had as a stream."""

    def hold(rows):
        def load_dataset(name, config, streaming, trust_remote_code):
            assert streaming and not trust_remote_code
            return {"train": datasets.IterableDataset.from_generator(lambda: iter(rows))}

        monkeypatch.setattr(datasets, "load_dataset", load_dataset)

    return hold


def test_rows_of_a_hub_stream_are_checked_as_they_come(hub):
    hub([*ROWS[:600], {"text": None}])
    rows = iter(RowStream("me/data"))
    assert next(rows) == {"text": "row 0", "source": "me/data/train:1"}
    with pytest.raises(UserError, match='^me/data/train:601: "text" is null; fill it in or delete the row$'):
        list(rows)


def test_a_hub_dataset_is_checked_as_a_file_is(hub, capsys):
    hub(ROWS)
    main(["check", "me/data"])
    assert "me/data/train: 5,000 rows, text (text)" in capsys.readouterr().out
    hub([])
    with pytest.raises(UserError, match="me/data/train: the split has no rows; choose another"):
        main(["check", "me/data"])


@pytest.mark.parametrize("suffix", ["jsonl", "json", "csv", "parquet", "txt"])
def test_reading_tells_how_many_bytes_it_has_read(suffix, tmp_path):
    import pyarrow
    import pyarrow.parquet

    path = tmp_path / f"a.{suffix}"
    if suffix == "parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)
    else:
        lines = {"json": json.dumps(ROWS), "csv": "text\n" + "".join(row["text"] + "\n" for row in ROWS)}
        path.write_text(lines.get(suffix) or "".join(json.dumps(row) + "\n" for row in ROWS))
    told = []
    assert len(list(iter_records(path, progress=told.append))) == len(ROWS)
    assert told == sorted(told) and 0 < told[-1] <= path.stat().st_size


def test_a_bar_is_shown_on_a_terminal_by_the_first_process_only(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    path.write_text("x" * 100)
    with reading_bar([path]) as progress:
        assert progress is None
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with reading_bar([path]) as progress:
        progress(60)
    monkeypatch.setenv("RANK", "1")
    with reading_bar([path]) as progress:
        assert progress is None


def test_an_early_check_reads_small_local_files_only(tmp_path, monkeypatch):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": ""}\n')
    with pytest.raises(UserError, match='a.jsonl:1: "text" is empty'):
        check_early({"dataset_name": str(path)}, CONVERSATIONS)
    with pytest.raises(UserError, match="a.jsonl:1: the columns text fit no format"):
        check_early({"dataset_name": str(path)}, PREFERENCES)
    for settings in (
        {},
        {"dataset_name": "me/data"},
        {"dataset_name": str(path), "dataset_streaming": "true"},
        {"dataset_name": str(path), "dataset_format": "nosuch"},
    ):
        check_early(settings, CONVERSATIONS)
    with path.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    check_early({"dataset_name": str(path)}, CONVERSATIONS)


def test_both_splits_of_a_folder_are_checked_early(tmp_path):
    (tmp_path / "train.jsonl").write_text('{"text": "a"}\n{"text": 1}\n')
    (tmp_path / "test.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    with pytest.raises(UserError) as error:
        check_early({"dataset_name": str(tmp_path)}, CONVERSATIONS)
    first, second = str(error.value).splitlines()
    assert first.startswith(f'{tmp_path}/train.jsonl:2: "text" must be a string')
    assert second.startswith(f"{tmp_path}/test.jsonl:1: this row is prompt_completion, but text is expected")


@pytest.mark.parametrize(
    "row, shown, kind",
    [
        ({"instruction": "a", "output": "b", "chosen": "c", "rejected": "d"}, "preference (alpaca)", "preference"),
        ({"prompt": "a", "chosen": "b", "rejected": "c"}, "preference (prompt)", "preference"),
        ({"prompt": "a", "completion": "b", "label": True}, "kto", "kto"),
        ({"question": "a", "choices": ["b", "c"], "answer": "B"}, "multiple_choice (choices)", "multiple_choice"),
        ({"question": "a", "choice0": "b", "choice1": "c", "answer": "1"}, "multiple_choice (columns)", "multiple_choice"),
        ({"question": "a", "A": "b", "B": "c", "answer": "c"}, "multiple_choice (letters)", "multiple_choice"),
        ({"instruction": "a", "output": "b"}, "alpaca", "conversation"),
        ({"text": "a"}, "text", "conversation"),
    ],
)  # fmt: skip
def test_every_kind_of_row_is_told_by_its_columns(row, shown, kind):
    from ftkit.data.reading.records import Record
    from ftkit.data.rows.checking import RowChecker

    checker = RowChecker("f", select_kind())
    (found,) = checker.rows([Record(row, 1)])
    assert (checker.format, kind_of(checker.format)) == (shown, kind)
    if kind == "multiple_choice":
        assert (found["choices"], found["answer"]) == (["b", "c"], 1)
