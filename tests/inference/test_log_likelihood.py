"""Shared computing gives what a plain forward gives, in every family; encoding follows lm-eval's rules."""

import pytest
import torch

from ftkit.inference import log_likelihood
from ftkit.inference.log_likelihood import (
    LikelihoodScorer,
    Question,
    common_prefix,
    encode_question,
    plan_packs,
    rolling_windows,
)

QUESTIONS = [
    Question([5, 6, 7, 8, 9], [[10], [11], [12, 13, 14]]),
    Question([5, 6, 7, 20], [[21, 22], [23]]),
    Question([5, 6, 7, 30, 31, 32, 33], [[34, 35, 36], [34, 35, 37], [38]]),
]
PREFIX = [5, 6, 7]


def reference(model, context: list[int], continuation: list[int]) -> float:
    """log p(continuation | context) by one forward of the bare sequence."""
    ids = context + continuation
    with torch.no_grad():
        log_probs = model(torch.tensor([ids[:-1]])).logits[0].float().log_softmax(dim=-1)
    places = range(len(context) - 1, len(ids) - 1)
    return sum(log_probs[place, token].item() for place, token in zip(places, continuation, strict=True))


def expected(model) -> list[list[float]]:
    return [[reference(model, question.context, ids) for ids in question.continuations] for question in QUESTIONS]


def close(found, wanted) -> bool:
    return all(one == pytest.approx(other, abs=1e-4) for one, other in zip(found, wanted, strict=True))


@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen2", "ftgpt"])
@pytest.mark.parametrize("prefix", [PREFIX, []], ids=["shared prefix", "no prefix"])
def test_questions_in_one_row_score_as_each_alone(make_model, family, prefix):
    model = make_model(family)
    scorer = LikelihoodScorer(model, 0)
    assert close(scorer.score(QUESTIONS, prefix), expected(model))
    assert scorer.shares and scorer.is_checked
    assert close(scorer.score(QUESTIONS[:2], prefix), expected(model)[:2])  # the kept prefix was not grown


def test_a_model_with_sliding_windows_is_scored_plainly(make_model):
    model = make_model("gemma2")
    scorer = LikelihoodScorer(model, 0)
    assert close(scorer.score(QUESTIONS, PREFIX), expected(model))
    assert scorer.plain is not None


def test_a_model_that_shares_wrongly_is_found_out(make_model, monkeypatch):
    wrong = log_likelihood.tree_mask
    monkeypatch.setattr(log_likelihood, "tree_mask", lambda *args: torch.zeros_like(wrong(*args)))
    model = make_model("llama")
    scorer = LikelihoodScorer(model, 0)
    assert close(scorer.score(QUESTIONS, PREFIX), expected(model))
    assert not scorer.shares


def test_an_adapter_is_scored_like_any_model(make_model):
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(make_model("llama"), LoraConfig(r=2, init_lora_weights=False, target_modules="all-linear"))
    scorer = LikelihoodScorer(model.eval(), 0)
    assert close(scorer.score(QUESTIONS, PREFIX), expected(model)) and scorer.shares


def test_a_context_that_is_too_long_loses_its_beginning(make_model):
    model = make_model("gpt2")  # 128 positions
    long = Question([3 + place % 60 for place in range(140)], [[7, 8], [9]])
    found = LikelihoodScorer(model, 0).score([long], [])[0]
    assert found[0] == pytest.approx(reference(model, long.context[-127:], [7, 8]), abs=1e-4)
    assert found[1] == pytest.approx(reference(model, long.context[-128:], [9]), abs=1e-4)


def test_a_long_text_is_scored_token_by_token_exactly_once(make_model):
    model = make_model("gpt2")
    ids = [3 + place % 50 for place in range(300)]
    windows = rolling_windows(ids, 1, 128)
    assert [count for _, count in windows] == [128, 128, 44]
    assert [window[0] for window, _ in windows] == [1, ids[127], ids[255]]
    found = LikelihoodScorer(model, 0).score_windows(windows)
    wanted = [reference(model, window[:-count], window[-count:]) for window, count in windows]
    assert found == pytest.approx(wanted, abs=1e-3)


def test_packs_take_the_longest_first_and_hold_every_place_once():
    packs = plan_packs([3, 9, 4, 4, 2, 20], 10)
    assert packs == [[5], [1], [2, 3], [0, 4]]


def test_spaces_that_end_a_context_move_to_the_continuation(tokenizer):
    question = encode_question(tokenizer, "w5 w6 ", ["w7", "w8 w9"])
    assert question == Question([5, 6], [[7], [8, 9]])


def test_an_empty_context_is_the_first_token(tokenizer):
    assert encode_question(tokenizer, "", ["w7 w8"]) == Question([1], [[7, 8]])  # eos, for want of bos


def test_a_continuation_without_tokens_is_an_error(tokenizer):
    with pytest.raises(ValueError, match="continuation ' ' has no token of its own"):
        encode_question(tokenizer, "w5", [" "])


def test_one_token_of_each_context_is_left_behind_the_prefix():
    assert common_prefix(QUESTIONS) == PREFIX
    assert common_prefix([Question([5, 6], [[7]]), Question([5, 6, 7], [[8]])]) == [5]


@pytest.mark.parametrize("shares", [True, False], ids=["packed", "plain"])
def test_forwards_that_memory_does_not_hold_are_done_in_halves(make_model, shares):
    model = make_model("gemma2" if not shares else "llama")
    scorer = LikelihoodScorer(model, 0)
    scorer.score(QUESTIONS[:1], PREFIX)  # the checks are over
    part = model if shares else model.model
    forward, sizes = part.forward, []

    def small(*args, **kwargs):
        sizes.append(kwargs["input_ids"].numel())
        if sizes[-1] > 12:
            raise torch.OutOfMemoryError("too much")
        return forward(*args, **kwargs)

    part.forward = small
    assert close(scorer.score(QUESTIONS, PREFIX), expected(make_model("gemma2" if not shares else "llama")))
    assert max(sizes) > 12
