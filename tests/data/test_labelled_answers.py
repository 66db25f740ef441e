"""Answers with a label: read in the forms people have, made of pairs, mixed by seed, paired with others' answers."""

import pytest

from ftkit.config.errors import UserError
from ftkit.data.reading.records import Record
from ftkit.data.rows.checking import RowChecker
from ftkit.data.rows.kinds import LABELLED_ANSWERS, is_wanted, to_labelled_answer, unpaired
from ftkit.data.tokens.labelled_answers import interleaved, with_mismatched

USER = [{"role": "user", "content": "Q"}]


@pytest.mark.parametrize(
    ("label", "wanted"),
    [
        (True, True), (1, True), (1.0, True), ("1", True), ("true", True), ("TRUE", True), ("yes", True), ("👍", True),
        ("thumbs_up", True), ("Up", True), ("good", True), ("desirable", True),
        (False, False), (0, False), (0.0, False), (-1, False), ("0", False), ("false", False), ("No", False),
        ("👎", False), ("thumbs down", False), ("down", False), ("bad", False), ("undesirable", False),
    ],
)  # fmt: skip
def test_a_label_says_whether_an_answer_is_wanted(label, wanted):
    assert is_wanted(label, "f:1") is wanted


@pytest.mark.parametrize("label", [None, 4, 0.5, "maybe", "", ["up"]])
def test_a_label_that_says_neither_is_refused(label):
    with pytest.raises(UserError, match='f:1: "label" must be true or false .* say whether the answer is wanted'):
        is_wanted(label, "f:1")


@pytest.mark.parametrize("answer", ["", " ", None])
def test_an_empty_answer_is_refused(answer):
    with pytest.raises(UserError, match=r'f:1: "completion" is (empty|null)'):
        to_labelled_answer({"prompt": "Q", "completion": answer, "label": True}, "kto", "f:1")


def test_a_pair_becomes_a_wanted_and_an_unwanted_answer():
    pair = to_labelled_answer({"prompt": "Q", "chosen": "good", "rejected": "bad"}, "prompt", "f:1") | {"source": "f:1"}
    assert unpaired([pair]) == [
        {"prompt": USER, "source": "f:1", "completion": "good", "label": True},
        {"prompt": USER, "source": "f:1", "completion": "bad", "label": False},
    ]


TURNS = [*USER, {"role": "assistant", "content": "A"}]
FORMS = {
    "kto": {"prompt": "Q", "completion": "A", "label": 0},
    "kto, turns": {"prompt": USER, "completion": TURNS[1:], "label": 0},
    "other names": {"Question": "Q", "Answer": "A", "thumbs": "down"},
    "kto_messages": {"messages": TURNS, "label": False},
    "kto_sharegpt": {
        "conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}], "kto_tag": False
    },
    "kto_alpaca": {"instruction": "Q", "input": "", "output": "A", "label": "bad"},
}  # fmt: skip


@pytest.mark.parametrize("values", FORMS.values(), ids=FORMS)
def test_every_form_gives_the_same_row(values):
    checker = RowChecker("f", LABELLED_ANSWERS)
    (row,) = checker.rows([Record(values, 1)])
    assert row == {"prompt": USER, "completion": "A", "label": False, "source": "f:1"}


def test_a_labelled_conversation_that_ends_with_a_question_is_refused():
    with pytest.raises(UserError, match="f:1: the row ends with a user turn; end it with the answer of the label"):
        to_labelled_answer({"messages": [*TURNS, *USER], "label": True}, "kto_messages", "f:1")


def rows(num_wanted: int, num_unwanted: int) -> list[dict]:
    """Wanted rows first, as a sorted file has them."""
    labels = [True] * num_wanted + [False] * num_unwanted
    return [{"completion_ids": [number], "label": label} for number, label in enumerate(labels)]


@pytest.mark.parametrize(("num_wanted", "num_unwanted"), [(32, 32), (48, 16), (5, 59), (63, 1), (10, 0)])
@pytest.mark.parametrize("batch", [4, 8, 16])
def test_each_batch_holds_about_the_share_of_each_label(num_wanted, num_unwanted, batch):
    given = rows(num_wanted, num_unwanted)
    mixed = interleaved(given, seed=1)
    assert sorted(row["completion_ids"] for row in mixed) == [row["completion_ids"] for row in given]
    share = batch * num_wanted / len(given)
    batches = [mixed[start : start + batch] for start in range(0, len(mixed) // batch * batch, batch)]
    assert all(abs(sum(row["label"] for row in one) - share) <= 1 for one in batches)


def test_the_order_is_the_seeds_and_no_others():
    given = rows(20, 12)
    assert interleaved(given, 1) == interleaved(given, 1) != interleaved(given, 2)
    assert interleaved(given, 1) != given


def test_the_mismatched_answers_of_a_batch_are_its_own_turned_by_one():
    """As TRL's trainer does it: (x1, y3), (x2, y1), (x3, y2)."""
    given = rows(7, 0)
    found = [row["KL_completion_ids"] for row in with_mismatched(given, 3)]
    assert found == [[2], [0], [1], [5], [3], [4], [5]]  # a batch of one takes the answer before it, not its own
