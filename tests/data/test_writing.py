"""Written rows are read back as they were, and a file is whole or not there."""

import datetime

import pytest

from ftkit.config.errors import UserError
from ftkit.data.reading.reader import read_records
from ftkit.data.reading.writing import row_writer

TEXTS = [{"a": 'x,"y"\nz\t', "b": "NA"}, {"a": " é\u2028", "b": ""}]


@pytest.mark.parametrize("suffix", ["jsonl", "json", "csv", "tsv", "parquet"])
def test_rows_are_read_back_as_they_were(suffix, tmp_path):
    path = tmp_path / f"a.{suffix}"
    with row_writer(path) as write:
        for row in TEXTS:
            write(row)
    assert [record.values for record in read_records(path)] == TEXTS


@pytest.mark.parametrize("sign", "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029", ids=lambda sign: f"U+{ord(sign):04X}")
@pytest.mark.parametrize("suffix", ["jsonl", "json", "csv", "tsv", "parquet"])
def test_a_text_may_hold_every_line_end(suffix, sign, tmp_path):
    rows = [{"a": f"x{sign}y", "b": "c"}, {"a": sign, "b": f"{sign}\r\n"}]
    path = tmp_path / f"a.{suffix}"
    with row_writer(path) as write:
        for row in rows:
            write(row)
    assert [record.values for record in read_records(path)] == rows


def test_many_rows_of_parquet_are_written_in_parts(tmp_path):
    rows = [{"n": number, "l": [{"x": str(number)}]} for number in range(2_500)]
    with row_writer(tmp_path / "a.parquet") as write:
        for row in rows:
            write(row)
    assert [record.values for record in read_records(tmp_path / "a.parquet")] == rows


@pytest.mark.parametrize(
    "suffix, rows, message",
    [
        ("jsonl", [{"a": datetime.date(2026, 1, 1)}], "not JSON serializable; write to .parquet"),
        ("jsonl", [{"a": float("nan")}], "not JSON compliant.*; write to .parquet"),
        ("csv", [{"a": 1}, {"b": 1}], "the rows have different columns, which a table can't hold"),
        ("csv", [{"a": [1]}], '"a" is a list or an object, which a table can\'t hold; write to .jsonl'),
        ("parquet", [{"a": 1}, {"a": "x"}], "the rows don't fit one table"),
    ],
)
def test_rows_that_a_file_cannot_hold_leave_no_file(suffix, rows, message, tmp_path):
    with pytest.raises(UserError, match=message), row_writer(tmp_path / f"a.{suffix}") as write:
        for row in rows:
            write(row)
    assert not list(tmp_path.iterdir())
