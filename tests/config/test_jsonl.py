"""JSON Lines: a line ends at "\\n" alone, a torn end is told from a broken line, and nothing but JSON is written."""

import json

import pytest

from ftkit.config.errors import UserError
from ftkit.config.jsonl import (
    TornLine,
    append_jsonl,
    json_line,
    pass_over_torn,
    read_jsonl,
    read_log,
    write_jsonl,
    write_or_print,
)

# what str.splitlines cuts at, as Python's documentation lists it
LINE_ENDS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"


@pytest.mark.parametrize("sign", LINE_ENDS, ids=lambda sign: f"U+{ord(sign):04X}")
def test_a_text_may_hold_every_line_end(tmp_path, sign):
    records = [{"text": f"a{sign}b"}, {"text": sign}]
    path = tmp_path / "a.jsonl"
    assert write_jsonl(path, records) == 2
    append_jsonl(path, [{"text": "é"}])
    assert read_jsonl(path) == [*records, {"text": "é"}]
    assert path.read_bytes().count(b"\n") == 3


def test_what_is_no_json_is_not_written(tmp_path):
    for number in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="not JSON compliant"):
            write_jsonl(tmp_path / "a.jsonl", [{"a": 1}, {"a": number}])
    assert not list(tmp_path.iterdir())


def test_a_missing_file_holds_nothing_and_blank_lines_are_skipped(tmp_path):
    path = tmp_path / "a.jsonl"
    assert read_jsonl(path) == []
    path.write_bytes(b'{"a": 1}\n\n  \r\n{"a": 2}')
    assert read_jsonl(path) == [{"a": 1}, {"a": 2}]


@pytest.mark.parametrize(
    "line, reason",
    [
        (b"[1]", "list instead of an object"), (b'{"a": ', "Expecting value"), (b'{"a": "\xff"}', "can't decode"),
        (b'{"a": ' + b"[" * 100_000 + b"}", "nested too deeply"),
    ],
    ids=["list", "cut", "not UTF-8", "deep"],
)  # fmt: skip
def test_a_line_that_is_no_record_is_named(tmp_path, line, reason):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"a": 1}\n' + line + b'\n{"a": 3}\n')
    with pytest.raises(UserError, match=f"a.jsonl:2: no vote .*{reason}.*; vote again") as caught:
        read_jsonl(path, what="vote", fix="vote again")
    assert not isinstance(caught.value, TornLine)
    mistakes = []
    assert read_jsonl(path, report=mistakes.append) == [{"a": 1}, {"a": 3}]
    assert len(mistakes) == 1
    with pytest.raises(UserError, match="a.jsonl:2"):
        read_jsonl(path, report=pass_over_torn)


def test_what_make_refuses_is_named(tmp_path):
    path = tmp_path / "a.jsonl"
    write_jsonl(path, [{"a": 1}, {"b": 2}])
    with pytest.raises(UserError, match=r"a.jsonl:2: no record \(.*'b'.*\); restore the file"):
        read_jsonl(path, lambda values: (lambda a: a)(**values))


@pytest.mark.parametrize("torn", [b'{"a": 2', b'{"a": "\xc3', b'{"a": 2}{', b"nul"])
def test_a_torn_end_is_passed_over_and_cut_off_before_more_is_added(tmp_path, torn):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"a": 1}\n' + torn)
    with pytest.raises(TornLine, match="a.jsonl:2"):
        read_jsonl(path)
    assert read_jsonl(path, report=pass_over_torn) == [{"a": 1}]
    append_jsonl(path, [{"a": 3}])
    assert path.read_bytes() == b'{"a": 1}\n{"a": 3}\n'


def test_a_whole_last_line_without_its_end_is_kept(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"a": 1}')
    append_jsonl(path, [{"a": 2}])
    assert read_jsonl(path) == [{"a": 1}, {"a": 2}]


def test_a_log_is_read_without_its_broken_lines_and_says_so_once(tmp_path, caplog):
    path = tmp_path / "a.jsonl"
    path.write_text('{"step": 1}\n{"st\n{"step": 2}\n{"step"')
    assert read_log(path) == [{"step": 1}, {"step": 2}]
    (record,) = caplog.records
    assert "a.jsonl:2: no record" in record.getMessage() and "lines left out: 2" in record.getMessage()


def test_letters_stay_readable():
    assert json_line({"a": "é\u2028"}) == '{"a": "é\u2028"}\n'
    assert json.loads(json_line({"a": "é\u2028"})) == {"a": "é\u2028"}


def test_what_took_long_to_make_is_printed_where_it_can_not_be_written(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        write_or_print(tmp_path / "file" / "answers.jsonl", ({"answer": text} for text in "ab"))
    assert capsys.readouterr().out == '{"answer": "a"}\n{"answer": "b"}\n'
    write_or_print(tmp_path / "answers.jsonl", [{"answer": "a"}])
    assert capsys.readouterr().out == "" and (tmp_path / "answers.jsonl").read_text() == '{"answer": "a"}\n'
