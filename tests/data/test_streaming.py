"""A stream gives the rows that reading whole files gives, a few at a time, and names the line of a bad one."""

import itertools
import json

import numpy as np
import pytest

from ftkit.config.errors import UserError
from ftkit.data.reading import streaming
from ftkit.data.reading.loading import load_rows
from ftkit.data.reading.streaming import RowStream, tokenized_stream
from ftkit.data.rows.kinds import PREFERENCES
from ftkit.data.tokens.tokenization import TokenizedRows

ROWS = [{"instruction": f"question {number}", "output": f"answer {number}"} for number in range(600)]


@pytest.fixture
def jsonl(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("\ufeff" + "".join(json.dumps(row) + "\n\n" for row in ROWS), encoding="utf-8")
    return path


def test_every_kind_of_file_gives_the_rows_that_load_rows_gives(jsonl, tmp_path):
    import pyarrow
    import pyarrow.parquet

    text, parquet, table, array = (tmp_path / f"rows.{suffix}" for suffix in ("txt", "parquet", "csv", "json"))
    table.write_text("instruction,output\n" + "".join(",".join(row.values()) + "\n" for row in ROWS))
    array.write_text(json.dumps(ROWS, indent=1))
    text.write_text("one\r\n\r\n two\nthree")
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), parquet)
    for path in (jsonl, text, parquet, table, array):
        whole = load_rows(str(path))
        stream = RowStream(str(path))
        assert list(stream) == whole.train and stream.format == whole.format
        assert list(stream) == whole.train  # each pass reads again


def test_the_first_rows_are_held_out_and_not_trained_on(jsonl):
    stream = RowStream(str(jsonl), num_held_out=3)
    assert [row["messages"][0]["content"] for row in stream.held_out] == [f"question {number}" for number in range(3)]
    assert next(iter(stream))["messages"][0]["content"] == "question 3"


def test_a_folder_s_test_file_is_held_out(tmp_path, jsonl):
    (tmp_path / "data").mkdir()
    jsonl.rename(tmp_path / "data/train.jsonl")
    (tmp_path / "data/test.jsonl").write_text(json.dumps(ROWS[7]) + "\n")
    stream = RowStream(str(tmp_path / "data"))
    assert len(stream.held_out) == 1 and len(list(stream)) == len(ROWS)


def test_rows_to_hold_out_stay_in_training_where_there_is_a_test_split(tmp_path, jsonl, caplog):
    (tmp_path / "data").mkdir()
    jsonl.rename(tmp_path / "data/train.jsonl")
    (tmp_path / "data/test.jsonl").write_text(json.dumps(ROWS[7]) + "\n")
    stream = RowStream(str(tmp_path / "data"), num_held_out=5)
    assert len(stream.held_out) == 1 and len(list(stream)) == len(ROWS)
    assert "test_size=5 has no effect" in caplog.text


def test_a_named_test_split_must_be_there_and_others_are_told(tmp_path, jsonl, caplog):
    (tmp_path / "data").mkdir()
    jsonl.rename(tmp_path / "data/train.jsonl")
    (tmp_path / "data/validation.jsonl").write_text(json.dumps(ROWS[7]) + "\n")
    with pytest.raises(UserError, match='no split "dev"; it has: train, validation'):
        RowStream(str(tmp_path / "data"), test_split="dev")
    assert RowStream(str(tmp_path / "data")).held_out is None
    assert "it also has: ['validation']" in caplog.text


def test_preference_rows_stream_too(tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps({"instruction": "a", "chosen": "b", "rejected": "c"}) + "\n")
    (row,) = RowStream(str(path), kind=PREFERENCES)
    assert (row["chosen"], row["rejected"], row["source"]) == ("b", "c", f"{path}:1")


def test_rows_before_a_bad_one_are_given_and_its_line_is_named(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS) + '{"instruction": "a", "output": null}\n')
    rows = iter(RowStream(str(path)))
    assert len(list(itertools.islice(rows, 512))) == 512
    with pytest.raises(UserError, match='rows.jsonl:601: "output" is null'):
        list(rows)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("rows.jsonl", b'{"text": "a"}\n{"text": "\xff"}\n', "rows.jsonl:2: not UTF-8"),
        ("rows.jsonl", b'{"text": "a"}\n{"text": "b', "rows.jsonl:2: the last line is cut off"),
        ("rows.jsonl", b'{"text": "a"}\n{"instruction": "a", "output": "b"}\n', "rows.jsonl:2: this row is alpaca"),
        ("rows.jsonl", b"\n\n", "rows.jsonl: the file is empty; add at least one row"),
        ("rows.csv", b'text\n"a\nb', "rows.csv:2: bad CSV"),
        ("rows.parquet", b"no parquet", "not a readable parquet file"),
    ],
)
def test_mistakes_are_named(name, content, message, tmp_path):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        list(RowStream(str(path)))


def test_a_missing_file_is_no_hub_dataset(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        RowStream(str(tmp_path / "nosuch.jsonl"))


def test_rows_that_were_read_last_keep_their_place(tmp_path, monkeypatch):
    monkeypatch.setattr(streaming, "SOURCES_KEPT", 300)
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"text": f"row {number}"}) + "\n" for number in range(2_000)))

    def tokenize(rows):
        numbers = [int(row["text"].split()[1]) for row in rows]
        kept = [index for index, number in enumerate(numbers) if number % 2]
        return TokenizedRows([{"input_ids": [numbers[index], 7], "labels": [7, 7]} for index in kept], kept)

    sources: dict = {}
    assert len(list(tokenized_stream(RowStream(str(path)), tokenize, {}, sources))) == 1_000
    places = {np.frombuffer(ids, dtype=np.int32).tolist()[0]: source for ids, source in sources.items()}
    assert len(places) == 300 and all(source == f"{path}:{number + 1}" for number, source in places.items())
    assert max(places) == 1_999
