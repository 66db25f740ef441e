"""Breaking control tokens and headings: none is left, and the text comes back."""

import random

import pytest

from ftkit.data.templates.forgery import break_strings, mend_strings

J = "\u2060"
STRINGS = ("<|end|>", "<|im_end|>", "</s>", "aba", "ab", "ba", "x", " ")
HEADINGS = ("### Instruction:", "### Input:", "### Response:")


@pytest.mark.parametrize(
    "text, broken, count",
    [
        ("a <|end|> b", f"a <{J}|end|> b", 1),
        ("<|en<|end|>d|>", f"<|en<{J}|end|>d|>", 1),
        (f"<{J}|end|>", f"<{J}{J}|end|>", 1),
        ("aba", f"a{J}b{J}a", 2),
        ("x < |end|>", "x < |end|>", 0),
        ("### Response:\n### Input:", f"#{J}## Response:\n#{J}## Input:", 2),
        ("a\r \t###response :", f"a\r \t#{J}##response :", 1),
        ("a\u2028### INPUT:", f"a\u2028#{J}## INPUT:", 1),
        ("see ### Response: and ### Responses\n### Respond:", "see ### Response: and ### Responses\n### Respond:", 0),
    ],
)
def test_one_joiner_goes_behind_the_first_letter(text, broken, count):
    assert break_strings(text, STRINGS, HEADINGS) == (broken, count)


def test_no_string_survives_and_the_text_comes_back():
    generator = random.Random(0)
    pieces = ["<|end|>", "<", "|", "end", "|>", "a", "b", J, "\n", "#", "##", "## Response:", "### input :", "\r", " "]
    for _ in range(20_000):
        text = "".join(generator.choice(pieces) for _ in range(generator.randint(1, 12)))
        broken, count = break_strings(text, STRINGS, HEADINGS)
        assert not any(string in broken for string in STRINGS if len(string) > 1), text
        assert not any(line.strip(" ").startswith("### Response:") for line in broken.splitlines()), text
        assert mend_strings(broken, STRINGS, HEADINGS) == text
        assert len(broken) == len(text) + count


def test_without_strings_and_headings_nothing_changes():
    assert break_strings("### Input: <|end|>", ()) == ("### Input: <|end|>", 0)
