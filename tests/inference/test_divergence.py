"""KL, top-1 agreement and logit differences equal values worked by hand, torch's and scipy's; chunks change nothing."""

import math

import pytest
import torch
from torch.nn import functional as F

from ftkit.inference import divergence, scoring
from ftkit.inference.divergence import compare_models, token_kl

IGNORE = -100
ROWS = [
    {"input_ids": [5, 9, 11, 30, 7, 41, 8], "labels": [IGNORE, IGNORE, IGNORE, 30, 7, IGNORE, 8]},
    {"input_ids": [6, 12, 13, 1], "labels": [IGNORE, IGNORE, 13, 1]},
    {"input_ids": [6, 12], "labels": [IGNORE, IGNORE]},
    {"input_ids": [21, 22, 23, 24, 25], "labels": [21, IGNORE, IGNORE, IGNORE, 25]},
]
SCORED = [(0, 2), (0, 3), (0, 5), (1, 1), (1, 2), (3, 3)]  # (row, position that predicts a scored label)


def test_kl_is_what_pencil_and_paper_give():
    p, q = [0.5, 0.25, 0.25], [0.25, 0.25, 0.5]
    # .5 ln 2 + .25 ln 1 + .25 ln 1/2 = .25 ln 2
    kl = token_kl(torch.tensor([p, p]).log() + 3.0, torch.tensor([q, p]).log() - 1.0)
    assert kl.tolist() == pytest.approx([0.25 * math.log(2), 0.0], abs=1e-7)


def test_kl_equals_torch_and_scipy_also_from_half_precision():
    entropy = pytest.importorskip("scipy.stats").entropy
    torch.manual_seed(0)
    a, b = torch.randn(6, 200) * 4, torch.randn(6, 200) * 4
    wanted = F.kl_div(b.log_softmax(-1), a.log_softmax(-1), log_target=True, reduction="none").sum(-1)
    torch.testing.assert_close(token_kl(a, b), wanted, rtol=1e-6, atol=0)
    assert token_kl(a, b).tolist() == pytest.approx(
        [entropy(x.double().softmax(-1).numpy(), y.double().softmax(-1).numpy()) for x, y in zip(a, b, strict=True)],
        rel=1e-5,
    )
    half = token_kl(a.bfloat16(), b.bfloat16())
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, token_kl(a.bfloat16().float(), b.bfloat16().float()), rtol=0, atol=0)


def test_a_token_that_one_model_rules_out_costs_nothing_where_the_reference_does_too():
    impossible = torch.tensor([[0.0, 0.0, -math.inf]])
    assert token_kl(impossible, impossible).item() == 0.0
    assert token_kl(impossible, torch.zeros(1, 3)).item() == pytest.approx(math.log(1.5))
    assert token_kl(torch.zeros(1, 3), impossible).item() == math.inf


@torch.inference_mode()
def logits_at(model, places):
    rows = [model(input_ids=torch.tensor([ROWS[row]["input_ids"]])).logits[0, position] for row, position in places]
    return torch.stack(rows).float()


@pytest.mark.parametrize("family", ["llama", "gpt2", "ftgpt", "gemma2"])  # gemma2 has no compact way to its logits
def test_models_are_compared_at_answer_tokens_only(family, make_model):
    a, b = make_model(family, seed=0), make_model(family, seed=1)
    found = compare_models(a, b, ROWS, pad_token_id=0, batch_size=2)
    of_a, of_b = logits_at(a, SCORED), logits_at(b, SCORED)
    kl = F.kl_div(of_b.log_softmax(-1), of_a.log_softmax(-1), log_target=True, reduction="none").sum(-1)
    assert (found.num_rows, found.num_tokens) == (3, 6)
    assert found.mean_kl == pytest.approx(kl.mean().item(), rel=1e-4)
    assert found.max_kl == pytest.approx(kl.max().item(), rel=1e-4)
    assert found.top1_agreement * 6 == (of_a.argmax(-1) == of_b.argmax(-1)).sum().item()
    assert found.max_logit_difference == pytest.approx((of_a - of_b).abs().max().item(), rel=1e-4)
    assert found.max_abs_logit == pytest.approx(of_a.abs().max().item(), rel=1e-4)


def test_a_model_is_at_no_distance_from_itself_and_keeps_its_mode(make_model):
    model = make_model().train()
    found = compare_models(model, model, ROWS, pad_token_id=0)
    assert (found.mean_kl, found.max_kl, found.top1_agreement, found.max_logit_difference) == (0.0, 0.0, 1.0, 0.0)
    assert model.training and model.model.layers[0].training


def test_chunks_change_nothing_and_pair_a_compact_with_a_full_scorer(make_model, monkeypatch):
    a, b = make_model("llama", seed=0), make_model("llama", seed=1)
    whole = compare_models(a, b, ROWS, pad_token_id=0)
    for module in (divergence, scoring):
        monkeypatch.setattr(module, "HEAD_CHUNK", 2)
    chunked = compare_models(a, b, ROWS, pad_token_id=0, batch_size=3)
    choose = divergence.choose_scorer
    monkeypatch.setattr(
        divergence, "choose_scorer", lambda model, ids: scoring.FullScorer(model) if model is a else choose(model, ids)
    )
    mixed = compare_models(a, b, ROWS, pad_token_id=0, batch_size=3)
    for found in (chunked, mixed):
        assert list(found.as_dict().values()) == pytest.approx(list(whole.as_dict().values()), rel=1e-5)


def test_rows_without_answers_and_unequal_vocabularies_are_refused(make_model):
    model = make_model()
    with pytest.raises(ValueError, match="no row has an answer token"):
        compare_models(model, model, ROWS[2:3], pad_token_id=0)
    with pytest.raises(ValueError, match=r"\(2, 3\) and \(2, 4\); one vocabulary is needed"):
        token_kl(torch.zeros(2, 3), torch.zeros(2, 4))
