"""Samples against the model itself: what was drawn is scored again by a plain forward pass of one sequence."""

import pytest
import torch

from ftkit.inference.sampling import sample

PROMPTS = [[5, 6, 7], [8], [9, 10, 11, 12, 13, 14, 15], [16, 17]]
END_ID, TURN_ID = 1, 2
FAMILIES = ["llama", "qwen2", "gpt2", "ftgpt", "gemma2"]


def drawn(model, tokenizer, prompts=PROMPTS, seed=0, **settings):
    settings = {"num_samples": 3, "max_new_tokens": 12, "end_ids": [END_ID, TURN_ID]} | settings
    return sample(model, tokenizer, prompts, generator=torch.Generator().manual_seed(seed), **settings)


def plain_log_probs(model, prompt: list[int], answer: list[int], temperature: float) -> torch.Tensor:
    """Of an answer's tokens, by one forward pass over prompt and answer, without padding and cache."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([prompt + answer]), use_cache=False).logits[0]
    scores = torch.log_softmax(logits[len(prompt) - 1 : -1].float() / temperature, dim=-1)
    return scores.gather(1, torch.tensor(answer)[:, None])[:, 0]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_the_log_probabilities_are_those_of_a_plain_forward_pass(make_model, tokenizer, family, temperature):
    model = make_model(family)
    groups = drawn(model, tokenizer, temperature=temperature, max_new_tokens=20, batch_size=6)
    assert [len(group) for group in groups] == [3] * len(PROMPTS)
    for prompt, group in zip(PROMPTS, groups, strict=True):
        for one in group:
            expected = plain_log_probs(model, prompt, one.ids, temperature)
            torch.testing.assert_close(torch.tensor(one.log_probs), expected, atol=1e-4, rtol=0)
    assert {one.is_ended for group in groups for one in group} == {True, False}


def test_tokens_are_drawn_as_often_as_the_model_says(make_model, tokenizer):
    model = make_model("llama")
    with torch.no_grad():
        expected = model(input_ids=torch.tensor([PROMPTS[0]])).logits[0, -1].softmax(dim=-1)
    group = drawn(model, tokenizer, PROMPTS[:1], num_samples=20_000, max_new_tokens=1)[0]
    counts = torch.bincount(torch.tensor([one.ids[0] for one in group]), minlength=len(expected))
    statistic = ((counts - 20_000 * expected) ** 2 / (20_000 * expected)).sum()
    assert statistic < 63 + 4 * (2 * 63) ** 0.5  # chi-squared of 64 tokens: mean 63, standard deviation 11


def test_an_answer_ends_with_its_end_token_or_is_cut(make_model, tokenizer):
    answers = [one for group in drawn(make_model("llama"), tokenizer, max_new_tokens=40) for one in group]
    assert any(one.is_ended for one in answers)
    for one in answers:
        assert not {END_ID, TURN_ID} & set(one.ids[:-1])
        assert one.is_ended == (one.ids[-1] in (END_ID, TURN_ID)) and (one.is_ended or len(one.ids) == 40)
        assert len(one.log_probs) == len(one.ids)
        assert one.text == tokenizer.decode(one.ids[:-1] if one.is_ended else one.ids).strip()


def test_the_context_ends_an_answer_and_the_generator_repeats_it(make_model, tokenizer):
    model = make_model("gpt2")
    prompts = [[5] * 126, [6] * 3]
    groups = drawn(model, tokenizer, prompts, max_new_tokens=10, end_ids=[])
    assert [len(group[0].ids) for group in groups] == [2, 10]
    assert drawn(model, tokenizer, prompts, max_new_tokens=10, end_ids=[]) == groups
    assert drawn(model, tokenizer, prompts, max_new_tokens=10, end_ids=[], seed=1) != groups


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": 0.0}, "the temperature above 0"),
        ({"num_samples": 0}, "must be at least 1"),
        ({"prompts": [[]]}, "a prompt has no tokens"),
        ({"prompts": [[5] * 128]}, "the model's context only 128"),
    ],
)
def test_what_can_not_be_sampled_is_refused(make_model, tokenizer, settings, message):
    with pytest.raises(ValueError, match=message):
        drawn(make_model("gpt2"), tokenizer, **settings)
