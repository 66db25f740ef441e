"""Scores of pairs equal log-probabilities taken from full logits, and their summary is worked out by hand."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from ftkit.evaluation.held_out.preferences import PairScore, preference_results, results_line, score_pairs


def test_scores_are_the_summed_log_probabilities_of_each_answer():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=50, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=32, initializer_range=0.3,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    prompt, answers = [5, 6, 7], ([8, 9, 1], [10, 1])
    sequences = [{"input_ids": prompt + answer, "labels": [-100] * 3 + answer} for answer in answers]
    (score,) = score_pairs(model, sequences, pad_token_id=0)
    for total, number, answer in zip(score[:2], score[2:], answers, strict=True):
        log_probs = model(torch.tensor([prompt + answer])).logits.log_softmax(-1)[0, 2:-1]
        expected = log_probs.gather(-1, torch.tensor(answer)[:, None]).sum().item()
        assert total == pytest.approx(expected, rel=1e-5) and number == len(answer)


def test_the_summary_ranks_per_token_before_and_after_and_by_the_gain_over_the_reference():
    before = [PairScore(-4.0, -1.0, 2, 1), PairScore(-1.0, -4.0, 1, 2)]  # per token: -2 < -1, then -1 > -2
    after = [PairScore(-1.0, -3.0, 2, 1), PairScore(-3.0, -5.0, 1, 2)]  # -0.5 > -3, then -3 < -2.5
    results = preference_results(before, after)
    assert [row["share"] for row in results["rows"]] == [0.5, 0.5, 0.5]  # gains: 3 > -2, then -2 < -1
    assert results["rows"][0]["logps/chosen"] == -2.5 and results["rows"][1]["logps/rejected"] == -4.0
    assert results["change"]["difference"] == 0.0
    assert "(2): 50.0% before, 50.0% after" in results_line(results)


def test_an_unchanged_share_has_an_interval_of_some_width():
    results = preference_results(*[[PairScore(-1.0, -2.0, 1, 1)] * 20] * 2)
    low, high = results["change"]["low"], results["change"]["high"]
    assert results["change"]["difference"] == 0.0
    assert (low, high) == pytest.approx((-3.8416 / 23.8416, 3.8416 / 23.8416), abs=1e-4)  # z^2 / (n + z^2)


def test_the_change_counts_gained_and_lost_pairs():
    right, wrong = PairScore(-1.0, -2.0, 1, 1), PairScore(-2.0, -1.0, 1, 1)
    change = preference_results([wrong] * 6 + [right] * 4, [right] * 6 + [wrong] + [right] * 3)["change"]
    assert change["difference"] == pytest.approx(0.5) and change["low"] < 0.5 < change["high"]
