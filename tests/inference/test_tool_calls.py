"""Calls of tools are read out of an answer, however it is cut into parts; what is no call stays text."""

import json

import pytest

from ftkit.inference.tool_calls import CallReader

NAMES = {"add", "look_up"}
ADD, ARGUMENTS = '{"name": "add", "arguments": {"a": 1, "b": "é 🙂"}}', {"a": 1, "b": "é 🙂"}
LOOK = '{"name": "look_up", "parameters": {"word": "crow"}}'
UNKNOWN = '{"name": "erase", "arguments": {}}'

ANSWERS = [
    # what, style, answer, text to show, calls
    ("plain text", "hermes", "Four.\n", "Four.\n", []),
    ("a call alone", "hermes", f"<tool_call>\n{ADD}\n</tool_call>", "", [("add", ARGUMENTS)]),
    ("text and a call", "hermes", f"Let me see.\n\n<tool_call>{ADD}</tool_call>", "Let me see.", [("add", ARGUMENTS)]),
    ("two calls", "hermes", f"<tool_call>{ADD}</tool_call>\n<tool_call>{LOOK}</tool_call>\n", "", [("add", ARGUMENTS), ("look_up", {"word": "crow"})]),
    ("text after a call", "hermes", f"<tool_call>{ADD}</tool_call>\nDone.", "\nDone.", [("add", ARGUMENTS)]),
    ("a call without its end", "hermes", f"<tool_call>\n{ADD}", "", [("add", ARGUMENTS)]),
    ("a call that is cut", "hermes", '<tool_call>\n{"name": "ad', '<tool_call>\n{"name": "ad', []),
    ("a tool that was not given", "hermes", f"<tool_call>{UNKNOWN}</tool_call>", f"<tool_call>{UNKNOWN}</tool_call>", []),
    ("no JSON", "hermes", "<tool_call>add(1)</tool_call> ok", "<tool_call>add(1)</tool_call> ok", []),
    ("a name that is a list", "hermes", '<tool_call>{"name": ["add"]}</tool_call>', '<tool_call>{"name": ["add"]}</tool_call>', []),
    ("arguments that are a list", "hermes", '<tool_call>{"name": "add", "arguments": [1]}</tool_call>', '<tool_call>{"name": "add", "arguments": [1]}</tool_call>', []),
    ("arguments as a text", "hermes", '<tool_call>{"name": "add", "arguments": "{\\"a\\": 1}"}</tool_call>', "", [("add", {"a": 1})]),
    ("no arguments", "hermes", '<tool_call>{"name": "add"}</tool_call>', "", [("add", {})]),
    ("deep nesting", "hermes", "<tool_call>" + "[" * 50_000 + "</tool_call>", "<tool_call>" + "[" * 50_000 + "</tool_call>", []),
    ("a mark's beginning alone", "hermes", "a < b and <tool", "a < b and <tool", []),
    ("white space alone", "hermes", " \n", " \n", []),
    ("llama's call", "llama", LOOK, "", [("look_up", {"word": "crow"})]),
    ("two of llama's", "llama", f"{LOOK}; {ADD}", "", [("look_up", {"word": "crow"}), ("add", ARGUMENTS)]),
    ("llama's with its token", "llama", f"<|python_tag|>{LOOK}", "", [("look_up", {"word": "crow"})]),
    ("JSON that is no call", "llama", '{"name": "Ann", "parameters": {}}', '{"name": "Ann", "parameters": {}}', []),
    ("JSON in text", "llama", f"So: {LOOK}", f"So: {LOOK}", []),
    ("mistral's calls", "mistral", f"[TOOL_CALLS][{ADD}, {ADD}]", "", [("add", ARGUMENTS), ("add", ARGUMENTS)]),
    ("mistral's without its token", "mistral", f"[{ADD}]", "", [("add", ARGUMENTS)]),
    ("mistral's newer form", "mistral", 'Well. [TOOL_CALLS]add[ARGS]{"a": 1}[TOOL_CALLS]', 'Well.[TOOL_CALLS]add[ARGS]{"a": 1}[TOOL_CALLS]', []),
    ("one of the newer form", "mistral", 'Well. [TOOL_CALLS]add[ARGS]{"a": 1}', "Well.", [("add", {"a": 1})]),
    ("a list of mistral's", "mistral", "[1] is a source.", "[1] is a source.", []),
]  # fmt: skip


def read(reader: CallReader, parts: list[str]) -> tuple[str, list[dict]]:
    shown, calls = "", []
    for text, found in [*(reader.feed(part) for part in parts), reader.close()]:
        shown, calls = shown + text, calls + found
    return shown, calls


@pytest.mark.parametrize("size", [1, 2, 7, 10**6])
@pytest.mark.parametrize(
    ("style", "answer", "text", "expected"), [row[1:] for row in ANSWERS], ids=[row[0] for row in ANSWERS]
)
def test_text_and_calls_are_told_apart_in_any_parts(style, answer, text, expected, size):
    if len(answer) > 10_000 and size < 10:
        pytest.skip("long")
    reader = CallReader(style, NAMES)
    shown, calls = read(reader, [answer[start : start + size] for start in range(0, len(answer), size)])
    assert shown == text
    assert [(call["function"]["name"], json.loads(call["function"]["arguments"])) for call in calls] == expected
    assert [call["index"] for call in calls] == list(range(len(expected)))
    assert reader.has_calls == bool(expected)
    assert all(call["id"].startswith("call_") and call["type"] == "function" for call in calls)


def test_text_is_shown_as_soon_as_it_can_be_no_call():
    reader = CallReader("hermes", NAMES)
    assert [reader.feed(part)[0] for part in ("Let", " me", " <", "b> see", " <tool_")] == [
        "Let",
        " me",
        "",
        " <b> see",
        "",
    ]


def test_one_call_where_no_more_are_wanted():
    _, calls = read(CallReader("hermes", NAMES, one_call=True), [f"<tool_call>{ADD}</tool_call>" * 3])
    assert len(calls) == 1
