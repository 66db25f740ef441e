"""The kernel of the compact loss head by itself: finite differences, ties, precision; it needs no TRL."""

import pytest
import torch

from ftkit.model.fast import chunked_log_probs as chunked
from ftkit.model.fast.chunked_log_probs import OUTPUTS, HeadSettings, LinearHead, chunked_log_probs

VOCAB_SIZE = 2500


@pytest.fixture(autouse=True)
def several_tiles(monkeypatch):
    monkeypatch.setattr(chunked, "VOCABULARY_TILE", 1024)  # the last of three is partial


@pytest.mark.parametrize("case", ["frozen", "trained", "softcap", "replaced_rows"])
def test_gradients_agree_with_finite_differences(case, monkeypatch):
    monkeypatch.setattr(chunked, "VOCABULARY_TILE", 4)
    torch.manual_seed(0)
    double = dict(dtype=torch.float64)
    hidden, weight = torch.randn(5, 3, **double, requires_grad=True), torch.randn(11, 3, **double)
    bias, rows, ids = torch.randn(11, **double), torch.randn(2, 3, **double), torch.tensor([2, 9])
    targets = torch.tensor([0, 2, 9, 10, 2])
    settings = HeadSettings(("log_probs", "entropy"), 0.8, 0.5, 1.5 if case == "softcap" else None, chunk_size=2)
    if case == "replaced_rows":
        parts = (hidden, rows.requires_grad_())
        heads = lambda given: LinearHead(weight, bias, ids, given[0])  # noqa: E731
    elif case == "frozen":
        parts, heads = (hidden,), lambda given: LinearHead(weight, bias)
    else:
        parts = (hidden, weight.requires_grad_(), bias.requires_grad_())
        heads = lambda given: LinearHead(*given)  # noqa: E731

    def log_probs_and_entropy(hidden, *given):
        return chunked_log_probs(hidden, heads(given), targets, settings)[:2]

    assert torch.autograd.gradcheck(log_probs_and_entropy, parts, nondet_tol=1e-12)
    assert torch.autograd.gradcheck(lambda *given: log_probs_and_entropy(*given)[0].sum(), parts, nondet_tol=1e-12)


def test_of_equal_logits_the_first_token_is_top1():
    weight = torch.zeros(2100, 4)
    weight[[1500, 1600, 5, 1499]] = torch.tensor([2.0, 2.0, 1.0, 1.0])[:, None]
    hidden = torch.ones(4, 4)
    settings = HeadSettings(("log_probs", "is_top1"))
    targets = torch.tensor([1500, 1600, 5, 1499])
    assert chunked_log_probs(hidden, LinearHead(weight), targets, settings)[4].tolist() == [True, False, False, False]
    weight[5] = 2.0  # a tie with an earlier tile
    assert chunked_log_probs(hidden, LinearHead(weight), targets, settings)[4].tolist() == [False, False, True, False]


def test_autocast_multiplies_in_its_own_precision():
    torch.manual_seed(0)
    hidden, weight, targets = torch.randn(9, 8), torch.randn(VOCAB_SIZE, 8), torch.randint(0, VOCAB_SIZE, (9,))
    settings = HeadSettings(OUTPUTS)
    with torch.autocast("cpu", torch.bfloat16):
        got = chunked_log_probs(hidden, LinearHead(weight), targets, settings)
    expected = chunked_log_probs(hidden.bfloat16(), LinearHead(weight.bfloat16()), targets, settings)
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))
