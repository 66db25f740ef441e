"""Formats: what a file is, and every row as messages or as one line that says what is wrong with it."""

import pytest

from ftkit.config.errors import UserError
from ftkit.data.reading.records import Record
from ftkit.data.rows.columns import FormatCheck
from ftkit.data.rows.formats import FORMATS, alpaca_row, to_messages

TURNS = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo"}]


def records(*rows):
    return [Record(row, 10 + number) for number, row in enumerate(rows)]


def detect_format(rows, path, format="auto"):
    check = FormatCheck(path, FORMATS, format)
    for record in rows:
        check.check(record)
    return check.format


def convert(row, format=None):
    (record,) = records(row)
    return to_messages(record, format or detect_format([record], "f"), "f")


@pytest.mark.parametrize(
    "row, format",
    [
        ({"instruction": "a", "output": "b"}, "alpaca"),
        ({"instruction": "a", "input": "", "output": "b", "text": "whole", "id": 1}, "alpaca"),
        ({"prompt": "a", "completion": "b", "source": "x"}, "prompt_completion"),
        ({"messages": [], "prompt": "a", "category": "x"}, "messages"),
        ({"conversations": []}, "sharegpt"),
        ({"text": "a", "label": 1}, "text"),
    ],
)
def test_the_format_is_told_by_the_columns_and_extra_ones_are_tolerated(row, format):
    assert detect_format(records(row), "f") == format


@pytest.mark.parametrize(
    "rows, message",
    [
        ([{"prompt": "a", "complet1on": "b"}], 'f:10: unknown key "complet1on"; did you mean "completion"?'),
        ([{"prompt": "a", "completion": "b"}, {"prompt": "a", "complet1on": "b"}],
         'f:11: unknown key "complet1on"; did you mean "completion"?'),
        ([{"Instruction": "a", "Output": "b"}], 'f:10: unknown key "Instruction"; did you mean "instruction"?'),
        ([{"instruction": "a", "inputs": "x", "output": "b"}], 'f:10: unknown key "inputs"; did you mean "input"?'),
        ([{"txet": "a"}], 'f:10: unknown key "txet"; did you mean "text"?'),
        ([{"text": "a"}, {"messages": TURNS}],
         "f:11: this row is messages, but line 10 is text; keep one format in a file"),
        ([{"text": "a"}, {"id": 1}], 'f:11: key "text" is missing (format text); add it'),
        ([{"instruction": "a", "output": "b"}, {"instruction": "a"}],
         'f:11: key "output" is missing (format alpaca); add it'),
        ([{"prompt": "a", "chosen": "b", "rejected": "c"}],
         "f:10: chosen/rejected rows are preferences: ftkit dpo; or rename chosen to completion"),
        ([{"title": "a", "body": "b"}],
         "f:10: the columns title, body fit no format; say which is which, such as "
         "--columns instruction=title,output=body"),
        ([{}], "f:10: the columns (none) fit no format; rename them to one of: "
         "messages; conversations; instruction+output; prompt+completion; query+tools+answers; text"),
    ],
)  # fmt: skip
def test_wrong_columns_name_the_line(rows, message):
    with pytest.raises(UserError) as error:
        detect_format(records(*rows), "f")
    assert str(error.value) == message


def test_a_format_asked_for_is_checked_and_not_guessed():
    row = {"text": "a", "instruction": "b", "output": "c"}
    assert detect_format(records(row), "f", "text") == "text"
    with pytest.raises(UserError, match="f:10: this row is alpaca, but messages is expected; keep one format"):
        detect_format(records(row), "f", "messages")
    with pytest.raises(UserError, match='unknown format "alpacca"; did you mean "alpaca"\\?; allowed: auto, '):
        detect_format(records(row), "f", "alpacca")


ALPACA_ROWS = [
    {"instruction": "Add.", "input": "1 2", "output": "3"},
    {"instruction": " Say hi.\n", "input": "", "output": "hi \n"},
    {"instruction": "Add.", "input": "1", "output": "3", "system": "Be brief."},
    {"instruction": "a\n\n### Input:\nb", "input": "", "output": "c"},
    {"instruction": "a\n\n### Input:", "input": "\n\n### Input:\nb", "output": "c"},
    {"instruction": "a\n\n#\u2060\u2060## Input:\n\n### Input:\n", "input": "b\n\n#\u2060## Input:\n", "output": "c"},
    {"instruction": "a\n\n", "input": "\nb", "output": "c"},
    {
        "instruction": "a",
        "input": "",
        "output": "b",
        "history": [["c\n\n### Input:\n1", "d"], ["e", "f"]],
        "system": "S",
    },
]


@pytest.mark.parametrize("row", ALPACA_ROWS)
def test_the_alpaca_mapping_is_reversible(row):
    assert alpaca_row(convert(row)["messages"]) == row


def test_an_alpaca_row_becomes_messages():
    assert convert(ALPACA_ROWS[2])["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Add.\n\n### Input:\n1"},
        {"role": "assistant", "content": "3"},
    ]
    without_input = convert({"instruction": "Hi", "input": None, "system": " ", "output": "Yo"})
    assert without_input["messages"] == TURNS


def test_a_heading_in_the_instruction_is_not_taken_for_the_input():
    (user, _) = convert(ALPACA_ROWS[3])["messages"]
    assert user["content"] == "a\n\n#\u2060## Input:\nb"


def test_only_exchanges_fit_an_alpaca_row():
    with pytest.raises(UserError, match=r"roles user, assistant, user do not fit an Alpaca row"):
        alpaca_row(TURNS + TURNS[:1])


def test_prompt_and_completion_are_one_exchange():
    assert convert({"prompt": "Hi", "completion": "Yo"}) == {"messages": TURNS}
    assert convert({"prompt": TURNS[:1], "completion": TURNS[1:]}) == {"messages": TURNS}


def test_answers_in_a_prompt_are_marked_as_context():
    row = convert({"prompt": TURNS + TURNS[:1], "completion": TURNS[1:]})
    assert row == {"messages": TURNS + TURNS, "untrained": [1]}


def test_sharegpt_roles_become_chat_roles():
    turns = [{"from": "system", "value": "S"}, {"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Yo"}]
    expected = [{"role": "system", "content": "S"}, *TURNS]
    assert convert({"conversations": turns})["messages"] == expected
    assert convert({"conversations": turns[1:], "system": "S"})["messages"] == expected
    more = [{"from": "user", "value": "Hi"}, {"from": "chatgpt", "value": "Yo"}]
    assert convert({"conversations": more})["messages"] == TURNS
    assert convert({"conversations": TURNS})["messages"] == TURNS


def test_messages_may_carry_text_parts_and_null_extras():
    parts = [{"type": "text", "text": "H"}, {"type": "text", "text": "i"}]
    row = {"messages": [{"role": "user", "content": parts, "name": None, "tool_calls": None}, TURNS[1]]}
    assert convert(row)["messages"] == TURNS


def test_text_stays_text():
    assert convert({"text": " a \n"}) == {"text": " a \n"}


def turns(*pairs):
    return {"messages": [{"role": role, "content": content} for role, content in pairs]}


BAD_ROWS = [
    ({"instruction": None, "output": "b"}, '"instruction" is null; fill it in or delete the row'),
    ({"instruction": "a", "output": None}, '"output" is null; fill it in or delete the row'),
    ({"instruction": "a", "output": " \n"}, '"output" is empty; fill it in or delete the row'),
    ({"instruction": "", "output": "b"}, '"instruction" is empty; fill it in or delete the row'),
    ({"instruction": "a", "input": 0, "output": "b"}, '"input" must be a string, got int; put it in quotes'),
    ({"instruction": "a", "output": 3}, '"output" must be a string, got int; put it in quotes'),
    ({"prompt": "a", "completion": ""}, '"completion" is empty; fill it in or delete the row'),
    ({"prompt": "a", "completion": [TURNS[1]]},
     "prompt and completion must both be strings or both be lists of messages; change one"),
    ({"prompt": TURNS, "completion": []}, "a completion starts with an assistant turn; move other turns to the prompt"),
    ({"prompt": TURNS, "completion": TURNS},
     "a completion starts with an assistant turn; move other turns to the prompt"),
    ({"text": None}, '"text" is null; fill it in or delete the row'),
    ({"text": " "}, '"text" is empty; fill it in or delete the row'),
    ({"messages": None}, '"messages" is null; fill it in or delete the row'),
    ({"messages": "Hi"}, '"messages" must be a list of turns, got str; write [{...}, ...]'),
    ({"messages": []}, "no assistant turn, so nothing to train on; add the answer or delete the row"),
    (turns(("user", "a")), "no assistant turn, so nothing to train on; add the answer or delete the row"),
    ({"messages": ["Hi"]}, 'turn 1 must be an object, got str; write {"role": ..., "content": ...}'),
    ({"messages": [{"rol": "user", "content": "a"}]}, 'turn 1: unknown key "rol"; did you mean "role"?'),
    ({"messages": [{"role": "user", "value": "a"}]}, 'turn 1: key "content" is missing; add it'),
    ({"conversations": [{"from": "human", "valu": "a"}]}, 'turn 1: unknown key "valu"; did you mean "value"?'),
    (turns(("user", "a"), ("asistant", "b")), 'turn 2: unknown role "asistant"; did you mean "assistant"?'),
    (turns(("tool", "a")), "turn 1: a tool turn comes first; put the answer with its call before it"),
    (turns(("critic", "a")), 'turn 1: unknown role "critic"; allowed: system, user, assistant, tool'),
    (turns((None, "a")), 'turn 1: unknown role "None"; allowed: system, user, assistant, tool'),
    ({"conversations": [{"from": "bard", "value": "a"}]},
     'turn 1: unknown role "bard"; allowed: human, gpt, chatgpt, system, user, assistant, tool'),
    (turns(("assistant", "a")), "turn 1: an assistant turn comes first; put a user turn before it"),
    (turns(("system", "a"), ("assistant", "b")),
     "turn 2: an assistant turn comes right after system; put a user turn before it"),
    (turns(("user", "a"), ("user", "b")), "turn 2: two user turns in a row; merge them, or give --join_turns"),
    (turns(("user", "a"), ("assistant", "b"), ("assistant", "c")), "turn 3: two assistant turns in a row; merge them"),
    (turns(("user", "a"), ("system", "b")), "turn 2: a system turn after user; the system turn comes first"),
    (turns(("user", "a"), ("assistant", None)), 'turn 2: "content" is null; fill it in or delete the row'),
    (turns(("user", "a"), ("assistant", " ")), 'turn 2: "content" is empty; fill it in or delete the row'),
    (turns(("user", 7)), 'turn 1: "content" must be a string, got int; put it in quotes'),
    (turns(("user", [{"type": "image"}])), "turn 1: only text content is supported; remove the other parts"),
    ({"messages": [{"role": "assistant", "content": "", "tool_calls": [{}]}]},
     "turn 1: tool_calls: the name of a function has 1 to 64 letters, digits, _, . or -; rename it"),
]  # fmt: skip


@pytest.mark.parametrize("row, message", BAD_ROWS)
def test_a_bad_row_is_one_line_with_the_place(row, message):
    with pytest.raises(UserError) as error:
        convert(row)
    separator = " " if message.endswith('write {"role": ..., "content": ...}') else ": "
    assert str(error.value) in (f"f:10:{separator}{message}", f"f:10: {message}")
