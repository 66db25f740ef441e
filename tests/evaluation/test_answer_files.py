"""Answers to be judged: read from common forms, named by model, with one reference a question."""

import json

import pytest
from judging import write_answers

from ftkit.config.errors import UserError
from ftkit.evaluation.judge.answer_files import read_answers
from ftkit.inference.judging import Answered


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"prompt": "q", "prediction": "x", "reference": "r"}, Answered("q", "x", "r")),
        ({"prompt": "q", "answers": ["x", "y"]}, Answered("q", "x")),
        ({"prompt": "q", "completion": "x"}, Answered("q", "x")),
        ({"instruction": "q", "input": "in", "output": "x"}, Answered("q\n\nin", "x")),
        (
            {"prompt": [{"role": "user", "content": "q"}], "completion": [{"role": "assistant", "content": "x"}]},
            Answered("q", "x"),
        ),
        (
            {"prompt": [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}], "answer": "x"},
            Answered("system: s\n\nuser: q", "x"),
        ),
    ],
)
def test_answers_are_read_from_common_forms(tmp_path, row, expected):
    (tmp_path / "mine.jsonl").write_text(json.dumps(row))
    assert read_answers([str(tmp_path / "mine.jsonl")]) == {"mine": [expected]}


def test_one_file_of_generate_may_hold_several_models(tmp_path):
    (tmp_path / "both.jsonl").write_text(json.dumps({"prompt": "q", "answers": {"base": ["x"], "mine": ["y"]}}))
    assert list(read_answers([str(tmp_path / "both.jsonl")])) == ["base", "mine"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"prompt": "q"}], "mine.jsonl:1: no answer; give one as prediction, answer"),
        ([{"prediction": "x"}], 'mine.jsonl:1: no "prompt" or "instruction"; say what was asked'),
        ([{"prompt": "q", "prediction": 4}], "mine.jsonl:1: answer and reference must be strings"),
        ([{"prompt": "q", "prediction": "4", "reference": 5}], "mine.jsonl:1: answer and reference must be strings"),
        ([{"prompt": "q", "prediction": "4", "reference": 0}], "mine.jsonl:1: answer and reference must be strings"),
        ([{"prompt": "q", "answers": []}], 'mine.jsonl:1: "answers" must hold lists of texts'),
        ([{"prompt": "q", "answers": {"a": ["x"]}}, {"prompt": "q", "answers": {"b": ["x"], "a": ["x"]}}], "different numbers of answers"),
    ],
)  # fmt: skip
def test_rows_that_are_no_answers_are_named_with_their_line(tmp_path, rows, message):
    (tmp_path / "mine.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(UserError, match=message):
        read_answers([str(tmp_path / "mine.jsonl")])


def test_two_files_of_one_name_are_refused(tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        write_answers(tmp_path / folder / "mine.jsonl", ["x"])
    with pytest.raises(UserError, match='"mine" has answers already; name this file, NAME='):
        read_answers([str(tmp_path / "one/mine.jsonl"), str(tmp_path / "two/mine.jsonl")])


def test_a_reference_that_one_file_has_holds_for_all(tmp_path):
    for name, row in (("a", {"reference": "42"}), ("b", {}), ("c", {"reference": None})):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"prompt": "6 x 7?", "answer": name} | row))
    found = read_answers([str(tmp_path / f"{name}.jsonl") for name in "bac"])
    assert [rows[0].reference for rows in found.values()] == ["42"] * 3


def test_references_that_differ_are_refused(tmp_path):
    for name, reference in (("a", "42"), ("b", "43")):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"prompt": "q", "answer": name, "reference": reference}))
    with pytest.raises(UserError, match='a and b have different references in row 1, "42" and "43"; keep one'):
        read_answers([str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")])
