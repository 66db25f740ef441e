"""How one token is drawn, against transformers' own processors of logits."""

import pytest
import torch
from transformers import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from ftkit.inference.batching.drawing import Pen, cut
from ftkit.inference.batching.request import Drawing

PROMPT = [3, 4, 4, 9]
CPU = torch.device("cpu")


def logits(seed=0, num=50):
    return 3 * torch.randn(num, generator=torch.Generator().manual_seed(seed))


def pen(**settings):
    return Pen(Drawing(**settings), PROMPT, [1], CPU)


@pytest.mark.parametrize(
    "setting, warper",
    [
        ({"top_k": 7}, TopKLogitsWarper(7)),
        ({"top_p": 0.8}, TopPLogitsWarper(0.8)),
        ({"top_p": 1e-6}, TopPLogitsWarper(1e-6)),
        ({"min_p": 0.1}, MinPLogitsWarper(0.1)),
    ],
)
def test_what_is_cut_off_is_what_transformers_cuts_off(setting, warper):
    for seed in range(20):
        one = logits(seed)
        kept = cut(torch.softmax(one, dim=-1), Drawing(**setting)) > 0
        assert torch.equal(kept, warper(None, one[None])[0] > -torch.inf)


def test_the_repetition_penalty_is_that_of_transformers():
    one = pen(repetition_penalty=1.4)
    for token in (7, 7, 12):
        one.take(token)
    expected = RepetitionPenaltyLogitsProcessor(1.4)(torch.tensor([[*PROMPT, 7, 7, 12]]), logits()[None].clone())[0]
    torch.testing.assert_close(one.changed(logits()), expected)


def test_penalties_and_biases_are_taken_once_or_for_each_time():
    one = pen(presence_penalty=0.5, frequency_penalty=0.25, logit_bias={7: -1.0, 20: 2.0})
    for token in (7, 7, 12):
        one.take(token)
    expected = logits()
    expected[7] += -1.0 - 0.5 - 2 * 0.25
    expected[12] -= 0.5 + 0.25
    expected[20] += 2.0
    torch.testing.assert_close(one.changed(logits()), expected)


def test_tokens_come_as_often_as_the_distribution_says():
    one, count = pen(temperature=0.7, seed=1), torch.zeros(8)
    few = logits(num=8)
    for _ in range(4000):
        count[one.draw(few).id] += 1
    expected = 4000 * torch.softmax(few / 0.7, dim=-1)
    assert ((count - expected) ** 2 / expected).sum() < 30  # chi-squared with 7 degrees of freedom


def test_log_probabilities_are_the_models_before_any_setting():
    row = logits(3)
    one = pen(logit_bias={5: 100.0}, num_top=2).draw(row)
    assert torch.equal(row, logits(3)) and one.id == 5
    expected = torch.log_softmax(row, dim=-1)
    assert one.log_prob == pytest.approx(float(expected[5]))
    assert [token for token, _ in one.top] == row.topk(2).indices.tolist()
    assert pen(num_top=0).draw(row).top == ()


def test_top_p_of_a_flat_distribution_is_that_of_transformers():
    flat = 0.01 * logits(num=2000)  # more tokens are needed than are sorted at first
    kept = cut(torch.softmax(flat, dim=-1), Drawing(top_p=0.9)) > 0
    assert torch.equal(kept, TopPLogitsWarper(0.9)(None, flat[None])[0] > -torch.inf) and kept.sum() > 1000


class Only:
    """A constraint that allows one token after another."""

    def __init__(self, tokens):
        self.tokens = list(tokens)

    def mask(self, logits_V):
        kept = logits_V[self.tokens[0]].clone()
        logits_V.fill_(-torch.inf)
        logits_V[self.tokens[0]] = kept

    def accept(self, token):
        assert token == self.tokens.pop(0)

    def is_complete(self):
        return not self.tokens


def test_a_constraint_is_followed_token_by_token():
    one = pen(temperature=1.0, constraint=Only([9, 8, 7]))
    for expected in (9, 8, 7):
        token = one.draw(logits()).id
        one.take(token)
        assert token == expected
    assert one.drawing.constraint.is_complete()
