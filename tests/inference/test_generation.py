"""Batched answers against transformers' own generate, one prompt at a time."""

import pytest
import torch

from ftkit.inference.generation import answer_text, generate_ids, prefix_cache, shared_prefix

PROMPTS = [[5, 6, 7], [8], [9, 10, 11, 12, 13, 14, 15], [16, 17], [5, 6, 7, 20], [21] * 9]
PREFIX = [30, 31, 32, 33, 34]
PAD_ID, END_ID, TURN_ID = 0, 1, 2
FAMILIES = ["llama", "qwen2", "gpt2", "ftgpt"]


def generate_answers(model, tokenizer, prompts, **settings) -> list[str]:
    return [answer_text(ids, [], tokenizer) for ids in generate_ids(model, tokenizer, prompts, **settings)]


def answers_one_by_one(model, tokenizer, prompts, max_new_tokens=8, end_ids=(END_ID,)) -> list[str]:
    """transformers' generate on single prompts without padding."""
    texts = []
    for prompt in prompts:
        output = model.generate(
            input_ids=torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            max_new_tokens=max_new_tokens, do_sample=False, eos_token_id=list(end_ids), pad_token_id=PAD_ID,
        )  # fmt: skip
        texts.append(tokenizer.decode(output[0, len(prompt) :], skip_special_tokens=True))
    return texts


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("batch_size", [1, 2, 32])
def test_batched_greedy_answers_equal_single_ones_in_order(make_model, tokenizer, family, batch_size):
    model = make_model(family)
    answers = generate_answers(
        model, tokenizer, PROMPTS, max_new_tokens=8, eos_token_ids=[END_ID], batch_size=batch_size
    )
    assert answers == answers_one_by_one(model, tokenizer, PROMPTS)
    assert len(set(answers)) > 3  # else the order could not be seen


@pytest.mark.parametrize("family", FAMILIES)
def test_shared_prefix_gives_the_same_greedy_answers(make_model, tokenizer, family):
    model = make_model(family, seed=1)
    prompts = [PREFIX + prompt for prompt in PROMPTS]
    settings = {"max_new_tokens": 8, "eos_token_ids": [END_ID], "batch_size": 4}
    answers = generate_answers(model, tokenizer, prompts, share_prefix=True, **settings)
    assert answers == generate_answers(model, tokenizer, prompts, **settings)
    assert answers == answers_one_by_one(model, tokenizer, prompts)


def test_shared_prefix_is_computed_once(make_model, tokenizer):
    model = make_model()
    seen = []
    model.model.embed_tokens.register_forward_hook(lambda module, inputs, output: seen.append(tuple(inputs[0].shape)))
    prompts = [PREFIX + [number] for number in range(10, 16)]
    generate_answers(model, tokenizer, prompts, max_new_tokens=1, eos_token_ids=[], batch_size=3, share_prefix=True)
    assert seen == [(1, 5), (3, 1), (3, 1)]


def test_shared_prefix_leaves_a_token_of_every_prompt():
    assert shared_prefix([[1, 2, 3], [1, 2, 3, 4]]) == [1, 2]
    assert shared_prefix([[1, 2, 3], [1, 5, 3]]) == [1]
    assert shared_prefix([[1], [1, 2]]) == []


def test_sliding_windows_and_soft_prompts_have_no_shared_cache(make_model):
    from peft import PromptTuningConfig, get_peft_model

    assert prefix_cache(make_model("llama"), PREFIX).get_seq_length() == len(PREFIX)
    assert prefix_cache(make_model("gemma2"), PREFIX) is None
    soft = get_peft_model(make_model(), PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4))
    assert prefix_cache(soft, PREFIX) is None


def test_soft_prompt_model_answers_a_batch_as_single_prompts_and_with_a_shared_prefix(make_model, tokenizer):
    from peft import PromptTuningConfig, get_peft_model

    model = get_peft_model(make_model(), PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4))
    prompts = [PREFIX + prompt for prompt in PROMPTS]
    settings = {"max_new_tokens": 6, "eos_token_ids": [END_ID]}
    answers = generate_answers(model, tokenizer, prompts, share_prefix=True, **settings)
    assert answers == [generate_answers(model, tokenizer, [prompt], **settings)[0] for prompt in prompts]


def test_answer_ends_before_the_first_end_token_even_if_it_is_plain_text(make_model, tokenizer):
    model = make_model()
    whole = answers_one_by_one(model, tokenizer, PROMPTS[:1], end_ids=())[0].split()
    stop = int(whole[3].removeprefix("w"))
    answer = generate_answers(model, tokenizer, PROMPTS[:1], max_new_tokens=8, eos_token_ids=[stop, TURN_ID])
    assert answer == [" ".join(whole[: whole.index(whole[3])])]


def test_end_token_that_is_none_is_ignored(make_model, tokenizer):
    answer = generate_answers(make_model(), tokenizer, [[5]], max_new_tokens=3, eos_token_ids=[None, END_ID])
    assert len(answer) == 1


def test_sampling_repeats_with_a_seed_and_leaves_the_global_generator_alone(make_model, tokenizer):
    model = make_model()
    settings = {"max_new_tokens": 8, "eos_token_ids": [END_ID], "temperature": 1.5}
    state = torch.get_rng_state()
    first = generate_answers(model, tokenizer, PROMPTS, seed=3, **settings)
    assert torch.equal(torch.get_rng_state(), state)
    assert generate_answers(model, tokenizer, PROMPTS, seed=3, **settings) == first
    assert generate_answers(model, tokenizer, PROMPTS, seed=4, **settings) != first


def test_top_k_of_one_samples_the_greedy_answer(make_model, tokenizer):
    model = make_model()
    settings = {"max_new_tokens": 8, "eos_token_ids": [END_ID]}
    greedy = generate_answers(model, tokenizer, PROMPTS, **settings)
    assert generate_answers(model, tokenizer, PROMPTS, temperature=2.0, top_k=1, seed=0, **settings) == greedy


def test_settings_of_the_models_own_generation_config_do_not_leak_in(make_model, tokenizer):
    model = make_model()
    expected = generate_answers(model, tokenizer, PROMPTS, max_new_tokens=8, eos_token_ids=[END_ID])
    model.generation_config.repetition_penalty = 3.0
    model.generation_config.do_sample = True
    model.generation_config.max_length = 4
    assert generate_answers(model, tokenizer, PROMPTS, max_new_tokens=8, eos_token_ids=[END_ID]) == expected


def test_each_module_has_the_mode_it_had_before(make_model, tokenizer):
    model = make_model().train()
    model.model.layers[1].eval()
    before = [module.training for module in model.modules()]
    generate_answers(model, tokenizer, [[5, 6]], max_new_tokens=2, eos_token_ids=[END_ID])
    assert [module.training for module in model.modules()] == before
    with pytest.raises(ValueError):
        generate_answers(model, tokenizer, [[]], max_new_tokens=2, eos_token_ids=[END_ID])
    assert [module.training for module in model.modules()] == before


def test_dropout_is_off_while_answering(make_model, tokenizer):
    model = make_model("gpt2")
    expected = generate_answers(model, tokenizer, PROMPTS, max_new_tokens=8, eos_token_ids=[END_ID])
    assert generate_answers(model.train(), tokenizer, PROMPTS, max_new_tokens=8, eos_token_ids=[END_ID]) == expected


def test_no_prompts_give_no_answers(make_model, tokenizer):
    assert generate_answers(make_model(), tokenizer, [], max_new_tokens=2, eos_token_ids=[END_ID]) == []


def test_empty_prompt_is_named(make_model, tokenizer):
    with pytest.raises(ValueError, match="prompt 1 has no tokens"):
        generate_answers(make_model(), tokenizer, [[5], []], max_new_tokens=2, eos_token_ids=[END_ID])


@pytest.mark.parametrize("wrong", [{"max_new_tokens": 0}, {"batch_size": 0}, {"temperature": -1.0}])
def test_numbers_out_of_range_are_refused(make_model, tokenizer, wrong):
    with pytest.raises(ValueError, match="must be at least 1, the temperature 0 or more"):
        generate_answers(make_model(), tokenizer, [[5]], **{"max_new_tokens": 2, "eos_token_ids": [END_ID]} | wrong)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_long_prompt_does_not_shorten_the_answers_beside_it(make_model, tokenizer, family):
    model = make_model(family)  # 128 positions
    crowded = [[5 + place % 50 for place in range(length)] for length in (126, 123, 123)]
    prompts = [PROMPTS[0], *crowded, PROMPTS[2]]
    answers = generate_answers(model, tokenizer, prompts, max_new_tokens=8, eos_token_ids=[END_ID])
    for prompt, answer in zip(prompts, answers, strict=True):
        assert answer == answers_one_by_one(model, tokenizer, [prompt], min(8, 128 - len(prompt)))[0]


def test_a_prompt_that_fills_the_context_is_refused_before_any_is_answered(make_model, tokenizer):
    model = make_model()
    model.generate = None
    with pytest.raises(ValueError, match="the prompt has 128 tokens and the model's context only 128"):
        generate_answers(model, tokenizer, [[5], [7] * 128], max_new_tokens=2, eos_token_ids=[])


def test_a_batch_that_memory_does_not_hold_is_answered_in_halves(make_model, tokenizer):
    model = make_model()
    settings = {"max_new_tokens": 8, "eos_token_ids": [END_ID]}
    expected = generate_answers(model, tokenizer, PROMPTS, **settings)
    generate, sizes = model.generate, []

    def small(input_ids, **others):
        sizes.append(len(input_ids))
        if len(input_ids) > 2:
            raise torch.OutOfMemoryError("too much")
        return generate(input_ids=input_ids, **others)

    model.generate = small
    assert generate_answers(model, tokenizer, PROMPTS, **settings) == expected
    assert sizes == [6, 3, 1, 2, 3, 1, 2]


def test_a_single_prompt_that_memory_does_not_hold_is_an_error(make_model, tokenizer):
    model = make_model()

    def fail(**others):
        raise torch.OutOfMemoryError("too much")

    model.generate = fail
    with pytest.raises(torch.OutOfMemoryError):
        generate_answers(model, tokenizer, [[5], [6]], max_new_tokens=2, eos_token_ids=[])
