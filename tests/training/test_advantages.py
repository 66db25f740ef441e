"""Advantages of several rewards and of missing ones, and what of a batch counts in the denominator, worked out by hand."""

import math
import statistics

import pytest
import torch

from ftkit.config.settings.grpo import EACH, SUM
from ftkit.training.advantages import advantages, denominator_factor, teaches

NAN = math.nan
ONE, OTHER = [0.0, 1.0, 0.0, 1.0], [900.0, 0.0, 0.0, 900.0]


def found(*rewards, weights=None, group=None, aggregation=SUM, scale="none") -> list[float]:
    """The advantages of answers with some rewards each, given reward by reward."""
    rewards_BK = torch.tensor(rewards, dtype=torch.float64).T
    weights_K = torch.tensor(weights or [1.0] * len(rewards), dtype=torch.float64)
    settings = {"num_generations": group or len(rewards[0]), "aggregation": aggregation, "scale": scale}
    return advantages(rewards_BK, weights_K, **settings).tolist()


def normalised(values: list[float]) -> list[float]:
    return [(one - statistics.mean(values)) / (statistics.stdev(values) + 1e-4) for one in values]


def test_rewards_that_are_normalised_each_weigh_what_their_weights_say_whatever_their_scale():
    expected = normalised([a + 0.5 * b for a, b in zip(normalised(ONE), normalised(OTHER), strict=True)])
    assert found(ONE, OTHER, weights=[1.0, 0.5], aggregation=EACH) == pytest.approx(expected)
    summed = found(ONE, OTHER, aggregation=SUM, scale="group")
    assert summed == pytest.approx(normalised(OTHER), abs=2e-3)  # the larger one has swallowed the other


@pytest.mark.parametrize(("scale", "wanted"), [
    ("none", [-0.5, 0.5, -3.0, 3.0]),
    ("group", [-0.5 / (0.5**0.5 + 1e-4), 0.5 / (0.5**0.5 + 1e-4), -3 / (18**0.5 + 1e-4), 3 / (18**0.5 + 1e-4)]),
    ("batch", [one / (statistics.stdev([0, 1, 2, 8]) + 1e-4) for one in (-0.5, 0.5, -3.0, 3.0)]),
])  # fmt: skip
def test_an_answer_is_held_against_its_own_group(scale, wanted):
    assert found([0.0, 1.0, 2.0, 8.0], group=2, scale=scale) == pytest.approx(wanted)


@pytest.mark.parametrize("aggregation", [SUM, EACH])
def test_a_missing_reward_is_missing_and_not_zero(aggregation):
    values = found([1.0, 0.0, NAN, 1.0], aggregation=aggregation)
    assert values[2] == pytest.approx(0, abs=1e-9) and values[0] == pytest.approx(values[3])
    assert sum(values) == pytest.approx(0, abs=1e-9)  # zero in its place would have lowered the mean of the group
    if aggregation == SUM:
        assert values == pytest.approx([1 / 3, -2 / 3, 0, 1 / 3])
    assert found([NAN] * 4, aggregation=aggregation) == [0.0] * 4


def test_what_teaches_has_a_reward_in_a_group_whose_rewards_differ():
    rewards = torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 2.0], [2.0, 2.0], [1.0, 1.0], [NAN, NAN]])
    weights = torch.ones(2)
    assert teaches(rewards, weights, 2, EACH).tolist() == [True, True, False, False, False, False]
    assert teaches(rewards, weights, 2, SUM).tolist() == [False] * 6  # 1 + 0 is 0 + 1


@pytest.mark.parametrize(
    ("loss_type", "factor"),
    [("dapo", 20 / 6), ("cispo", 20 / 6), ("grpo", 2.0), ("dr_grpo", 2.0), ("rloo", 2.0), ("bnpo", 1.0)],
)
def test_the_denominator_counts_what_teaches(loss_type, factor):
    lengths, taught = torch.tensor([2, 4, 6, 8]), torch.tensor([True, True, False, False])
    assert denominator_factor(loss_type, taught, lengths) == pytest.approx(factor)
    assert denominator_factor(loss_type, torch.zeros(4, dtype=torch.bool), lengths) == 1.0
