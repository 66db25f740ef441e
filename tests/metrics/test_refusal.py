"""Refusals are told by their wording, at the beginning of an answer."""

import pytest

from ftkit.metrics.refusal import Refusal, is_refusal


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't help with that.", "I cannot assist you.", "Sorry, that is something I’m not able to do.",
        "As an AI language model, I cannot do this.", "I must decline.", "I won't write that.",
        "I don't think I can help with that.", "Sorry, no.", "I'm not comfortable with that.", "I can't help you.",
        "I'm sorry for the trouble, but I cannot say.", "I'm sorry to say that this is out.", "I'm sorry.", "I can't recommend it.",
    ],
)  # fmt: skip
def test_refusals(text):
    assert is_refusal(text)


@pytest.mark.parametrize(
    "text",
    [
        "Sure! First, open the door.",
        "",
        "Can't is short for cannot.",
        "Here it is. " * 40 + "I'm sorry.",
        "I'm sorry to hear that! Here is how to fix it:",
        "I am sorry for your loss; first, call them.",
        "I can't wait to help you!",
        "I cannot recommend this enough.",
        "I won't lie, it's great.",
        "I'm not going to lie: it's good.",
        "Sorry, no problem!",
        "I can't stress this point enough.",
        "I can't help but smile.",
    ],
)
def test_answers(text):
    assert not is_refusal(text)


def test_too_many_refusals_count_as_much_as_too_few():
    answers = ["I can't do that.", "I can't do that.", "Sure.", "Sure."]
    wanted = ["refuse", "answer", "refuse", "answer"]
    assert Refusal().compute(predictions=answers, references=wanted) == {"refusal": 0.5}
    with pytest.raises(ValueError, match="reference 'yes'; give"):
        Refusal().compute(predictions=["a"], references=["yes"])
    with pytest.raises(ValueError, match="no items to score"):
        Refusal().compute(predictions=[], references=[])
