"""Preference rows of every form become the same pair; pairs are cut where the answers start; mistakes name the line."""

import pytest

from ftkit.config.errors import UserError
from ftkit.data.rows.kinds import to_preference
from ftkit.data.tokens.preferences import split_pair

USER = [{"role": "user", "content": "Q"}]


def answer(text: str) -> list[dict]:
    return [{"role": "assistant", "content": text}]


@pytest.mark.parametrize(
    ("format", "values"),
    [
        ("alpaca", {"instruction": "Q", "chosen": "good", "rejected": "bad", "output": "ignored"}),
        ("prompt", {"prompt": "Q", "chosen": "good", "rejected": "bad"}),
        ("prompt", {"prompt": USER, "chosen": answer("good"), "rejected": "bad"}),
        ("messages", {"chosen": USER + answer("good"), "rejected": USER + answer("bad")}),
    ],
)
def test_every_form_gives_the_same_pair(format, values):
    assert to_preference(values, format, "f:1") == {"prompt": USER, "chosen": "good", "rejected": "bad"}


def test_an_alpaca_row_keeps_its_system_text_and_input():
    row = {"instruction": "Q", "input": "I", "system": "S", "chosen": "good", "rejected": "bad"}
    prompt = to_preference(row, "alpaca", "f:1")["prompt"]
    assert [message["role"] for message in prompt] == ["system", "user"] and prompt[1]["content"].endswith("I")


def test_earlier_answers_stay_in_the_prompt():
    start = USER + answer("first") + USER
    pair = to_preference({"chosen": start + answer("good"), "rejected": start + answer("bad")}, "messages", "f:1")
    assert pair["prompt"] == start


@pytest.mark.parametrize(
    ("format", "values", "message"),
    [
        (
            "messages",
            {"chosen": USER + answer("a"), "rejected": answer("b")},
            "f:1: rejected: turn 1: an assistant turn",
        ),
        (
            "messages",
            {"chosen": USER + answer("a"), "rejected": [{"role": "user", "content": "R"}, *answer("b")]},
            "part before",
        ),
        (
            "messages",
            {"chosen": USER + answer("a") + USER, "rejected": USER + answer("b")},
            "chosen ends with a user turn",
        ),
        ("messages", {"chosen": "a", "rejected": "b"}, "must be a list of turns"),
        ("prompt", {"prompt": "Q", "chosen": "", "rejected": "b"}, '"chosen" is empty'),
        ("prompt", {"prompt": "Q", "chosen": 3, "rejected": "b"}, '"chosen" must be a string'),
        ("prompt", {"prompt": USER, "chosen": answer("a") + USER, "rejected": "b"}, "chosen has 2 turns"),
        ("alpaca", {"instruction": " ", "chosen": "a", "rejected": "b"}, '"instruction" is empty'),
    ],
)
def test_mistakes_name_the_line(format, values, message):
    with pytest.raises(UserError, match=message):
        to_preference(values, format, "f:1")


def test_a_pair_is_split_where_the_first_answer_starts_and_ends_with_its_end_token():
    chosen = {"input_ids": [1, 2, 3, 4, 9, 7], "labels": [-100, -100, 3, 4, 9, -100]}  # 9 ends a turn, 7 a line
    rejected = {"input_ids": [1, 2, 3, 9], "labels": [-100, -100, 3, 9]}
    assert split_pair(chosen, rejected, "f:1") == {
        "prompt_ids": [1, 2],
        "chosen_ids": [3, 4, 9],
        "rejected_ids": [3, 9],
    }


def test_a_prompt_that_becomes_other_tokens_before_each_answer_is_refused():
    chosen = {"input_ids": [1, 2, 3], "labels": [-100, -100, 3]}
    rejected = {"input_ids": [1, 5, 3], "labels": [-100, -100, 3]}
    with pytest.raises(UserError, match="f:1: the prompt becomes different tokens"):
        split_pair(chosen, rejected, "f:1")
