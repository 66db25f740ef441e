"""Quotations are held word for word against the source that they name, and RAFT rows quote the right one."""

import random

import pytest
from made_up import passages

from ftkit.inference.synth.citations import check, is_faithful, quoted
from ftkit.inference.synth.raft import NOT_THERE, Grounded, distractors, final_answer, rows

SOURCES = [
    "No boats sail on Sunday.",
    "The ferry leaves at nine. It is slow,\nand old.",
    'He said "no" to all 12 of them.',
]


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ('"The ferry leaves at nine." [2]', [(2, True)]),
        ('So: "the ferry leaves at nine" [2]. And "No boats sail" [1].', [(2, True), (1, True)]),
        ("“It is slow, and old.” [2]", [(2, True)]),
        ("\"He said 'no' to all 12 of them.\" [3]", [(3, True)]),
        ('"The ferry leaves at nine." [1]', [(1, False)]),  # of another source
        ('"The ferry leaves at ten." [2]', [(2, False)]),  # a word changed
        ('"ferry leaves at" [2]', [(2, True)]),
        ('"erry leaves at ni" [2]', [(2, False)]),  # parts of words
        ('"The ferry is slow" [2]', [(2, False)]),  # words left out
        ('"all 1" [3]', [(3, False)]),
        ('"No boats sail" [0]', [(0, False)]),
        ('"No boats sail" [4]', [(4, False)]),
        ('"..." [1]', [(1, False)]),
        ("The ferry leaves at nine [2].", []),  # named, not quoted
        ('"The ferry leaves at nine."', []),
        ("", []),
    ],
)
def test_a_quotation_counts_where_its_source_says_it_word_for_word(answer, found):
    assert [(quote.number, quote.is_true) for quote in check(answer, SOURCES)] == found
    assert is_faithful(answer, SOURCES) == (bool(found) and all(true for _, true in found))


def test_what_keeps_text_from_being_structure_does_not_count():
    assert is_faithful('"The ferry leaves" [1]', ["The \u2060ferry leaves."])


def test_what_is_quoted_is_read_back_whatever_marks_it_holds():
    text = 'She said: "Nine, not ten!" and\nleft.'
    assert is_faithful(quoted(text, 1), [text])


def grounded(found):
    """The question of each passage, its answer and quotation."""
    return [
        Grounded(
            f"When does it open, number {place}?", f"at {place + 2} in the morning", one.text.split(". ")[0] + ".", one
        )
        for place, one in enumerate(found)
    ]


def test_every_raft_row_quotes_the_right_one_of_its_numbered_sources():
    found = passages(60)
    by_id = {one.id: one for one in found}
    for row, asked in zip(rows(grounded(found), found, share_without=0.3), grounded(found), strict=True):
        user, answer = (turn["content"] for turn in row["messages"])
        shown = [by_id[one] for one in row["sources"]]
        assert len(shown) == len(set(row["sources"])) == 4
        assert all(f"[{number}] " in user and one.text in user for number, one in enumerate(shown, start=1))
        assert user.endswith(asked.question)
        if row["has_passage"]:
            (quote,) = check(answer, shown)
            assert quote.is_true and row["sources"][quote.number - 1] == asked.passage.id
            assert final_answer(answer) == asked.answer
        else:
            assert asked.passage.id not in row["sources"] and answer == NOT_THERE


def test_so_large_a_share_of_raft_rows_lacks_the_passage():
    found = passages(50)
    shares = {
        share: sum(not row["has_passage"] for row in rows(grounded(found), found, share_without=share))
        for share in (0.0, 0.3, 1.0)
    }
    assert shares[0.0] == 0 and shares[1.0] == 50 and 8 <= shares[0.3] <= 22


def test_a_row_without_its_passage_may_hold_the_bare_answer():
    found = passages(10)
    made = list(rows(grounded(found), found, share_without=1.0, without="answer"))
    assert all(final_answer(row["messages"][-1]["content"]).endswith("in the morning") for row in made)
    assert not any('"' in row["messages"][-1]["content"] for row in made)


def test_what_says_the_same_is_no_distractor():
    found = passages(40)
    asked = grounded(found)[3]
    copy = found[10].__class__(**{**vars(found[10]), "text": f"Elsewhere: {asked.quote} So it is."})
    answers = found[11].__class__(**{**vars(found[11]), "text": f"The shop opens {asked.answer} too."})
    near = found[12].__class__(**{**vars(found[12]), "text": asked.quote.replace("5", "6")})
    planted = [*found[:10], copy, answers, near, *found[13:]]
    shown = [one.id for seed in range(50) for one in distractors(asked, planted, 3, random.Random(seed))]
    assert near.id in shown and not {asked.passage.id, copy.id, answers.id} & set(shown)
