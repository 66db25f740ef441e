"""Rewards of one text; the numbers are worked out by hand."""

import json
import re

import pytest

from ftkit.config.errors import UserError
from ftkit.metrics.rewards import named_reward


@pytest.mark.parametrize(
    ("name", "text", "said", "reward"),
    [
        ("exact_answer", " 42\n", "42", 1.0),
        ("exact_answer", "<think>\n40 + 2\n</think>\n\n42", "42", 1.0),
        ("exact_answer", "43", "42", 0.0),
        ("final_number", "So 40 + 2 = 42.", "#### 42", 1.0),
        ("final_number", "<think>42", "42", 0.0),  # cut in its thought, it has no answer
        ("token_f1", "a big cat", "big dog", 0.5),
        ("constraints", "YES", [{"kind": "all_uppercase"}, {"kind": "min_words", "value": 2}], 0.5),
        ("json", '{"a": 1}', None, 1.0),
        ("json", "{a: 1}", None, 0.0),
        (r"format:<b>.*</b>", " <b>two\nlines</b> ", None, 1.0),
        (r"format:<b>.*</b>", "<b>x</b> and more", None, 0.0),
        ("length:4-6", "one two", None, 0.5),
        ("length:4-6", "one two three four five", None, 1.0),
        ("length:4-6", "1 2 3 4 5 6 7 8 9 10 11 12", None, 0.5),
        ("length:-2", "", None, 1.0),
        ("length:2-", "", None, 0.0),
    ],
)
def test_a_reward_is_what_its_name_says(name, text, said, reward):
    assert named_reward(name).score(text, said) == pytest.approx(reward)


def test_a_schema_is_read_from_its_file(tmp_path):
    path = tmp_path / "schema.json"
    path.write_text(json.dumps({"type": "object", "required": ["name"]}))
    reward = named_reward(f"json_schema:{path}")
    assert [reward.score(text, None) for text in ('{"name": 1}', "```json\n{}\n```", "name")] == [1.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("exact_anser", 'unknown reward "exact_anser"; did you mean "exact_answer"'),
        ("exact_answer:4", 'exact_answer takes nothing after a colon; drop ":4"'),
        ("length", "give a range of words such as 20-60"),
        ("length:60-20", "give the smaller number first"),
        ("length:-", "give a range of words"),
        ("format:(", "give a regular expression"),
        ("json_schema:missing.json", "there is no file missing.json"),
    ],
)
def test_a_name_that_is_none_is_refused_in_one_line(name, message):
    with pytest.raises(UserError, match=re.escape(message)):
        named_reward(name)
