"""The strict reader: rows with the line they start on, and one line that says what is wrong with a file."""

import json
import subprocess
import sys

import pyarrow
import pyarrow.parquet
import pytest

from ftkit.config.errors import UserError
from ftkit.data.reading.reader import read_records


@pytest.fixture
def write(tmp_path):
    def write_file(name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write_file


def pairs(path):
    return [(record.values, record.line) for record in read_records(path)]


def test_jsonl_rows_carry_their_line_and_blank_lines_are_skipped(write):
    path = write("a.jsonl", '{"text": "a"}\n\n  {"text": "b\\n"} \r\n{"text": "\u2028"}')
    assert pairs(path) == [({"text": "a"}, 1), ({"text": "b\n"}, 3), ({"text": "\u2028"}, 4)]


def test_json_array_rows_carry_the_line_they_start_on(write):
    path = write("a.json", '[\n  {"a": 1,\n   "b": 2}, {"a": 3},\n\n  {"a": [4,\n 5]}\n]\n')
    assert pairs(path) == [({"a": 1, "b": 2}, 2), ({"a": 3}, 3), ({"a": [4, 5]}, 5)]


def test_json_may_hold_objects_one_after_another(write):
    assert pairs(write("a.json", '{"a": 1}\n{"a":\n2}\n')) == [({"a": 1}, 1), ({"a": 2}, 2)]


def test_json_object_with_a_single_list_of_objects_is_unwrapped(write):
    path = write("a.json", '{"version": [1],\n "data": [\n  {"a": 1},\n  {"a": 2}],\n "note": "x"}')
    assert pairs(path) == [({"a": 1}, 3), ({"a": 2}, 4)]


def test_one_json_object_with_a_list_of_messages_is_a_row(write):
    row = {"messages": [{"role": "user", "content": "x"}]}
    assert pairs(write("a.json", json.dumps(row))) == [(row, 1)]


def test_csv_rows_carry_the_line_they_start_on_and_values_stay_text(write):
    path = write("a.csv", 'prompt,completion\r\n"two\nlines",NA\nnull,nan\n\n"say ""hi""",\n')
    assert pairs(path) == [
        ({"prompt": "two\nlines", "completion": "NA"}, 2),
        ({"prompt": "null", "completion": "nan"}, 4),
        ({"prompt": 'say "hi"', "completion": ""}, 6),
    ]


def test_csv_fields_may_be_long(write):
    assert len(read_records(write("a.csv", "text\n" + "x" * 200_000))[0].values["text"]) == 200_000


def test_parquet_rows_are_numbered(tmp_path):
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"text": ["a", None]}), path)
    assert pairs(path) == [({"text": "a"}, 1), ({"text": None}, 2)]


def test_txt_is_one_row_per_line_that_is_not_blank(write):
    assert pairs(write("a.txt", "one\r\n \n two\n")) == [({"text": "one"}, 1), ({"text": " two"}, 3)]


@pytest.mark.parametrize("name, content", [("a.jsonl", '{"a": 1}'), ("a.json", '[{"a": 1}]'), ("a.csv", "a\n1")])
def test_a_byte_order_mark_is_tolerated(write, name, content):
    (record,) = read_records(write(name, b"\xef\xbb\xbf" + content.encode()))
    assert list(record.values) == ["a"]


BAD_FILES = [
    ("a.jsonl", "", ": the file is empty; add at least one row"),
    ("a.jsonl", " \n\n", ": the file is empty; add at least one row"),
    ("a.json", b"\xef\xbb\xbf", ": the file is empty; add at least one row"),
    ("a.json", "[]", ": the file has no rows; add at least one"),
    ("a.csv", "a,b\n", ": the file has no rows; add at least one"),
    ("a.doc", "x", ': unknown file type ".doc"; use one of .jsonl, .json, .csv, .tsv, .xlsx, .parquet, .txt'),
    ("a.xls", "x", ": .xls files are not read; save it as .xlsx or .csv"),
    (
        "a.txt",
        b"ok\nna\xefve",
        ':2: not UTF-8 (byte 0xef at column 3); give --encoding cp1252 if it stands for "\xef", or save the file as UTF-8',
    ),
    ("a.txt", b"ok\nna\xc3", ":2: not UTF-8 (byte 0xc3 at column 3); save the file as UTF-8"),
    ("a.jsonl", '{"a": 1}\n{"a" 1}\n{}', ":2: bad JSON at column 6 (Expecting ':' delimiter); fix the line"),
    ("a.jsonl", '{"a": 1}\n  {"a": }\n', ":2: bad JSON at column 9 (Expecting value); fix the line"),
    ("a.jsonl", '{"a": 1}\n{"a": "half', ":2: the last line is cut off; restore it or delete it"),
    ("a.jsonl", '{"a": 1}\n{"a": tr', ":2: the last line is cut off; restore it or delete it"),
    ("a.jsonl", '{"a": 1}\n{"a": "\\u12', ":2: the last line is cut off; restore it or delete it"),
    ("a.jsonl", '{"a": 1}\n{"a": 1', ":2: the last line is cut off; restore it or delete it"),
    ("a.jsonl", '{\n"a": 1}', ":1: a record must fit on one line; rename the file to .json"),
    ("a.jsonl", '{"a": 1} {"a": 2}', ":1: more text after the record, at column 9; put one record on each line"),
    ("a.jsonl", '{"a": 1, "a": 2}', ':1: key "a" appears twice; keep one'),
    ("a.jsonl", '{"a": {"b": 1, "b": 2}}', ':1: key "b" appears twice; keep one'),
    ("a.jsonl", '{"a": 1}\n{"a": NaN}', ":2: NaN is not JSON; write a number, null or a string"),
    ("a.json", '[{"a": -Infinity}]', ":1: -Infinity is not JSON; write a number, null or a string"),
    ("a.jsonl", '{"a": 1}\n[1]', ':2: expected an object, got an array; write {"column": value, ...}'),
    ("a.jsonl", '"a"', ':1: expected an object, got a string; write {"column": value, ...}'),
    ("a.json", "[1]", ':1: expected an object, got a number; write {"column": value, ...}'),
    ("a.json", "[\nnull]", ':2: expected an object, got null; write {"column": value, ...}'),
    ("a.json", "true", ':1: expected an object, got true or false; write {"column": value, ...}'),
    ("a.jsonl", '{"a": "\\ud83d"}', ":1: half of a surrogate pair, such as \\ud83d; write the whole character"),
    ("a.jsonl", '{"a": ' + "[" * 100_000, ":1: values are nested too deeply; flatten the record"),
    ("a.json", '[{"a": ' + "[" * 100_000, ":1: values are nested too deeply; flatten the record"),
    ("a.json", '[{"a": 1},\n{"a" 1}\n]', ":2: bad JSON at column 6 (Expecting ':' delimiter); fix the record"),
    ("a.json", '[{},\n{"a":\n"b"!}]', ":2: bad JSON at line 3 column 4 (Expecting ',' delimiter); fix the record"),
    ("a.json", '[{"a": 1},\n{"a" 1}]', ":2: bad JSON at column 6 (Expecting ':' delimiter); fix the record"),
    ("a.json", '[{"a": 1},\n{"a":\n1', ":2: the file is cut off in this record; restore it or delete the record"),
    ("a.json", '[{"a": 1},\n{"a":\n"x', ":2: the file is cut off in this record; restore it or delete the record"),
    ("a.json", '[{"a": 1}\n', ':2: the file is cut off: the array has no closing "]"; restore the end of the file'),
    ("a.json", '[{"a": 1}\n{"a": 1}]', ':2: bad JSON: expected "," or "]" after a record; fix the file'),
    ("a.json", '[{"a": 1},\n]', ':2: bad JSON: a comma before "]"; delete the comma'),
    ("a.json", '[{"a": 1}]\n[{"a": 1}]', ":2: more text after the array; keep one array in the file"),
    ("a.json", '{"a": 1},\n{"a": 1}', ':1: records are separated by commas but not inside "[ ]"; add the brackets'),
    ("a.csv", 'a,b\n1,2\n"x\ny",2,3\n', ":3: 3 fields, but there are 2 columns; quote a field that holds a comma"),
    ("a.csv", "a,b\n1\n", ":2: 1 field, but there are 2 columns; add the missing fields"),
    ("a.csv", "a,a\n1,2\n", ':1: column "a" appears twice; rename one'),
    ("a.csv", "a, \n1,2\n", ":2: a value stands under no column name; name the column in the header"),
    ("a.csv", "a,,b\n1,2,3\n", ":1: column 2 has no name; name it in the header"),
    ("a.csv", 'a\n1\n"x\ny\n', ":3: bad CSV (unexpected end of data); close the quotes of the row that starts here"),
]


@pytest.mark.parametrize("name, content, message", BAD_FILES)
def test_a_bad_file_is_one_line_with_the_place(write, name, content, message):
    path = write(name, content)
    with pytest.raises(UserError) as error:
        read_records(path)
    assert str(error.value) == f"{path}{message}"


def test_a_bad_parquet_file_is_one_line(write):
    path = write("a.parquet", "no parquet")
    with pytest.raises(UserError, match=r"a\.parquet: not a readable parquet file \(.*\); write it again$"):
        read_records(path)


def test_a_missing_file_names_its_nearest_sibling(write, tmp_path):
    write("train.jsonl", '{"a": 1}')
    with pytest.raises(UserError, match=r'trian\.jsonl: no such file; did you mean "train\.jsonl"\?$'):
        read_records(tmp_path / "trian.jsonl")
    with pytest.raises(UserError, match=r"zzz: no such file; check the path$"):
        read_records(tmp_path / "nowhere" / "zzz")


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(UserError, match="is a folder, not a file; name a file in it"):
        read_records(tmp_path)


def test_reading_and_detecting_formats_imports_no_deep_learning_library():
    program = (
        "import sys, ftkit.data.reading.reader, ftkit.data.rows.formats\n"
        "print([name for name in ('torch', 'transformers', 'datasets', 'pyarrow') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "[]\n"
