"""Calls that were made are held against those that were wanted, worked out by hand."""

import pytest

from ftkit.metrics.tool_calls import call_scores


def call(name, **arguments):
    return {"name": name, "arguments": arguments}


CASES = [
    # what, made, wanted, (call, name, argument, decision)
    ("equal", [call("add", a=1, b=2)], [call("add", b=2, a=1)], (1, 1, 1, 1)),
    ("one argument of two", [call("add", a=1, b=3)], [call("add", a=1, b=2)], (0, 1, 0.5, 1)),
    ("one argument too many", [call("add", a=1, b=2, c=3)], [call("add", a=1, b=2)], (0, 1, 1, 1)),
    ("another name", [call("sub", a=1, b=2)], [call("add", a=1, b=2)], (0, 0, 0, 1)),
    ("another order", [call("sub"), call("add", a=1)], [call("add", a=1), call("sub")], (1, 1, 1, 1)),
    ("one of two", [call("add", a=1)], [call("add", a=1), call("add", a=2)], (0, 0, 0.5, 1)),
    ("one twice", [call("add", a=1), call("add", a=1)], [call("add", a=1), call("add", a=2)], (0, 1, 0.5, 1)),
    ("one too many", [call("add", a=1), call("add", a=1)], [call("add", a=1)], (0, 0, 1, 1)),
    ("no call", [], [call("add", a=1)], (0, 0, 0, 0)),
    ("a call that is not wanted", [call("add", a=1)], [], (0, 0, 0, 0)),
    ("none wanted, none made", [], [], (1, 1, 1, 1)),
    ("a number as text", [call("add", a="1")], [call("add", a=1)], (0, 1, 0, 1)),
    ("true is no number", [call("add", a=True)], [call("add", a=1)], (0, 1, 0, 1)),
    ("1.0 is 1", [call("add", a=1.0)], [call("add", a=1)], (1, 1, 1, 1)),
    ("nested", [call("add", a={"b": [1, {"c": True}]})], [call("add", a={"b": [1, {"c": 1}]})], (0, 1, 0, 1)),
    ("no arguments wanted", [call("now", zone="UTC")], [call("now")], (0, 1, 0, 1)),
]


@pytest.mark.parametrize(("made", "wanted", "scores"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_calls_are_scored(made, wanted, scores):
    assert tuple(call_scores(made, wanted).values()) == scores
