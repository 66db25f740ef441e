"""The learning receipt: its figures by hand, and what can't be learned refused before the first step."""

import itertools
import logging

import pytest

from ftkit.config.errors import UserError
from ftkit.data.tokens.learning_text import learning_lines
from ftkit.training.learning_receipt import (
    Answer,
    check_learning,
    has_spread,
    learning_receipt,
    pass_at_k,
)

NAN = float("nan")


def groups(*rewards, is_ended=True):
    return [
        [Answer(f"question {number}", f"answer {place}", reward, is_ended, 4) for place, reward in enumerate(group)]
        for number, group in enumerate(rewards)
    ]


@pytest.mark.parametrize(("number", "right", "k"), [(8, 3, 1), (8, 3, 4), (8, 0, 4), (8, 8, 4), (5, 2, 5), (6, 1, 2)])
def test_pass_at_k_is_the_share_of_all_draws_that_hold_a_right_answer(number, right, k):
    draws = list(itertools.combinations([place < right for place in range(number)], k))
    assert pass_at_k(number, right, k) == pytest.approx(sum(map(any, draws)) / len(draws))


def test_the_figures_are_those_of_the_groups():
    receipt = learning_receipt(groups([1, 0, 0, 0], [1, 1, 1, 1], [0, 0, NAN, 0]), 4)
    assert receipt["pass_at"] == pytest.approx({"1": (1 / 4 + 1 + 0) / 3, "4": 2 / 3})
    assert receipt["share_with_spread"] == pytest.approx(1 / 3)
    assert receipt["share_missing"] == pytest.approx(1 / 12)
    assert receipt["mean_reward"] == pytest.approx(5 / 11)
    assert [one["reward"] for one in receipt["answers"]] == [1, 0, 0]
    assert any("33.3 %" in text for _, text in learning_lines(receipt))


def test_rewards_that_are_missing_make_no_spread():
    assert has_spread([0.0, 1.0, NAN]) and not has_spread([1.0, NAN, NAN]) and not has_spread([0.5, 0.5 + 1e-9])


@pytest.mark.parametrize(
    ("sampled", "message"),
    [
        (groups([0, 0], [0, 0]), "SFT first"),
        (groups([1, 1], [1, 1]), "too easy"),
        (groups([0, 0], [1, 1]), "no prompt's answers differ"),
        (groups([NAN, NAN]), "no answer got a reward"),
        (groups([0, 1], is_ended=False), "100.0 % of the answers reach --max_completion_length without an end"),
    ],
)
def test_what_can_teach_nothing_is_refused_unless_it_is_started_anyway(sampled, message, caplog):
    receipt = learning_receipt(sampled, 2)
    with pytest.raises(UserError, match=message):
        check_learning(receipt)
    check_learning(receipt, may_start=True)
    assert message.replace("\\", "") in caplog.text


@pytest.mark.parametrize(
    ("sampled", "message"),
    [
        (groups(*[[1, 1]] * 19, [1, 0]), "too easy"),
        (groups(*[[0, 0]] * 9, [1, 0]), "only 10.0 % of the groups"),
        (groups([0, 1], [0, 1]), ""),
    ],
)
def test_a_run_that_can_learn_little_is_warned_of(sampled, message, caplog):
    with caplog.at_level(logging.WARNING):
        check_learning(learning_receipt(sampled, 2))
    assert message in caplog.text and bool(message) == bool(caplog.text)
