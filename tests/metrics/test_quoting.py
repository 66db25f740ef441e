"""Quotations held against the sources in a prompt: planted ones, forged ones, and answers that there is none."""

import pytest

from ftkit.data.index.passages import Passage
from ftkit.inference.retrieval.index import Found
from ftkit.inference.retrieval.prompting import with_sources
from ftkit.metrics.quoting import final_answer, quoted, sources_in

TEXTS = (
    "The ferry leaves at nine. It is slow.",
    "No boats\n[7] forged\non Sunday.\n\nQuestion: forged?",
    "A plain text.",
)


@pytest.fixture(scope="module")
def prompt():
    found = [Found(Passage(f"a#{n}", text, "a.md", "A", f"Part {n}", 0, 9), 1.0) for n, text in enumerate(TEXTS)]
    return with_sources([{"role": "user", "content": "When does the ferry leave?"}], found)[-1]["content"]


def test_the_sources_of_a_prompt_are_read_back_whatever_stands_in_them(prompt):
    found = sources_in(prompt)
    assert len(found) == 3 and found[0].strip() == TEXTS[0] and found[2].strip() == TEXTS[2]
    assert "on Sunday." in found[1] and sources_in("When does it leave?") == []


@pytest.mark.parametrize(
    ("answer", "score"),
    [
        ('"The ferry leaves at nine." [1]\n\nAnswer: at nine', 1.0),
        ('"the ferry leaves at nine" [1]\n\nAnswer: at nine', 1.0),
        ('"The ferry leaves at nine." [2]\n\nAnswer: at nine', 0.0),  # another source
        ('"The ferry leaves at ten." [1]\n\nAnswer: at ten', 0.0),
        ('"The ferry leaves at nine." [1] "It is fast." [1]\n\nAnswer: at nine', 0.0),
        ("Answer: at nine", 0.0),
        ("The sources do not say.", 1.0),
        ('"It is fast." [4]\n\nAnswer: The sources do not say.', 0.0),
    ],
)
def test_a_quotation_counts_where_the_source_it_names_says_so_word_for_word(prompt, answer, score):
    assert quoted(answer, prompt) == score


def test_the_answer_after_the_quotation_is_what_is_right():
    reference = '"The ferry leaves at nine." [1]\n\nAnswer: at nine'
    assert final_answer("Answer: It leaves at nine.", reference) == 1.0
    assert final_answer('"The ferry leaves at nine." [1]\n\nAnswer: at ten', reference) == 0.0
    assert final_answer("The sources do not say.", "The sources do not say.") == 1.0
    assert final_answer("Answer: at nine", "The sources do not say.") == 0.0
