"""Generation: every strategy gives the tokens that transformers' own model gives with the same weights and seed."""

import pytest
import torch
from transformers import ContinuousBatchingConfig, GenerationConfig, pipeline

STRATEGIES = {
    "greedy": {"do_sample": False},
    "sampling": {"do_sample": True, "temperature": 0.8},
    "top-k": {"do_sample": True, "top_k": 5},
    "top-p": {"do_sample": True, "top_k": 0, "top_p": 0.6},
    "several": {"do_sample": True, "num_return_sequences": 3},
    "beams": {"do_sample": False, "num_beams": 3, "num_return_sequences": 2},
    "repetition-penalty": {"do_sample": False, "repetition_penalty": 1.5},
    "static-cache": {"do_sample": False, "cache_implementation": "static", "disable_compile": True},
    "no-cache": {"do_sample": False, "use_cache": False},
}


def seeded(model, *args, **kwargs):
    torch.manual_seed(11)
    return model.generate(*args, max_new_tokens=12, **kwargs)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_each_strategy_gives_llamas_tokens(strategy, llama_twins, token_ids):
    reference, model = llama_twins(pad_token_id=0)
    ids, mask = token_ids(2, 7), torch.ones(2, 7, dtype=torch.long)
    ids[0, :3], mask[0, :3] = 0, 0
    expected = seeded(reference, ids, attention_mask=mask, **STRATEGIES[strategy])
    got = seeded(model, ids, attention_mask=mask, **STRATEGIES[strategy])
    assert got.shape == (2 * STRATEGIES[strategy].get("num_return_sequences", 1), 19)
    assert torch.equal(got, expected)


def test_greedy_takes_the_largest_logit_of_the_whole_prefix(preset, tiny_model, token_ids):
    model, ids = tiny_model(preset), token_ids(1, 7)
    expected = ids
    for _ in range(12):
        expected = torch.cat([expected, model(expected, use_cache=False).logits[:, -1:].argmax(-1)], dim=1)
    assert torch.equal(seeded(model, ids, do_sample=False), expected)


def test_a_left_padded_batch_gives_each_rows_own_tokens(preset, tiny_model, token_ids):
    model = tiny_model(preset, pad_token_id=0)
    short, long = token_ids(1, 4), token_ids(1, 9, seed=5)
    batch = torch.cat([torch.cat([torch.zeros(1, 5, dtype=torch.long), short], dim=1), long])
    mask = torch.ones(2, 9, dtype=torch.long)
    mask[0, :5] = 0
    got = seeded(model, batch, attention_mask=mask, do_sample=False)
    assert torch.equal(got[0, 9:], seeded(model, short, do_sample=False)[0, 4:])
    assert torch.equal(got[1, 9:], seeded(model, long, do_sample=False)[0, 9:])


@pytest.mark.parametrize("do_sample", [False, True])
def test_assisted_generation_gives_llamas_tokens(do_sample, llama_twins, token_ids):
    (reference, model), (assistant, own_assistant) = llama_twins(), llama_twins(seed=1)
    ids = token_ids(1, 7)
    expected = seeded(reference, ids, do_sample=do_sample, assistant_model=assistant)
    assert torch.equal(seeded(model, ids, do_sample=do_sample, assistant_model=own_assistant), expected)


def test_assisted_greedy_generation_changes_no_token(preset, tiny_model, token_ids):
    model, assistant, ids = tiny_model(preset), tiny_model(preset, seed=4, num_hidden_layers=1), token_ids(1, 7)
    plain = seeded(model, ids, do_sample=False)
    assert torch.equal(seeded(model, ids, do_sample=False, assistant_model=assistant), plain)
    assert torch.equal(seeded(model, ids, do_sample=False, prompt_lookup_num_tokens=3), plain)


def test_static_cache_changes_no_token(preset, tiny_model, token_ids):
    model, ids = tiny_model(preset), token_ids(2, 7)
    static = seeded(model, ids, do_sample=False, cache_implementation="static", disable_compile=True)
    assert torch.equal(static, seeded(model, ids, do_sample=False))


@pytest.mark.slow
def test_a_compiled_static_cache_step_gives_the_same_tokens(preset, tiny_model, token_ids):
    model, ids = tiny_model(preset), token_ids(2, 7)
    plain = seeded(model, ids, do_sample=False)
    model.forward = torch.compile(model.forward, fullgraph=True, backend="aot_eager")
    static = seeded(model, ids, do_sample=False, cache_implementation="static", disable_compile=True)
    assert torch.equal(static, plain)


def test_continuous_batching_gives_each_prompts_own_tokens(preset, tiny_model, token_ids):
    model = tiny_model(preset, pad_token_id=0)
    prompts = [token_ids(1, 5)[0].tolist(), token_ids(1, 9, seed=4)[0].tolist()]
    settings = GenerationConfig(max_new_tokens=6, do_sample=False, eos_token_id=-1, pad_token_id=0)
    small = ContinuousBatchingConfig(num_blocks=8, max_batch_tokens=64, page_size=16)
    outputs = model.generate_batch(prompts, generation_config=settings, continuous_batching_config=small)
    for prompt, output in zip(prompts, outputs.values(), strict=True):
        expected = model.generate(torch.tensor([prompt]), max_new_tokens=6, do_sample=False)[0, len(prompt) :]
        assert output.generated_tokens == expected.tolist()


def test_a_stop_string_ends_generation(preset, tiny_model, token_ids, character_tokenizer):
    model, ids = tiny_model(preset), token_ids(1, 7)
    plain = seeded(model, ids, do_sample=False)[0, 7:]
    text, stop = character_tokenizer.decode(plain), character_tokenizer.decode(plain[1:3])
    got = seeded(model, ids, do_sample=False, stop_strings=[stop], tokenizer=character_tokenizer)
    assert character_tokenizer.decode(got[0, 7:]) == text[: text.index(stop) + len(stop)] != text


def test_generation_starts_from_embeddings_too(preset, tiny_model, token_ids):
    model, ids = tiny_model(preset), token_ids(2, 7)
    embeddings = model.get_input_embeddings()(ids)
    got = seeded(model, inputs_embeds=embeddings, do_sample=False)
    assert torch.equal(got, seeded(model, ids, do_sample=False)[:, 7:])


def test_generating_past_the_context_is_refused(preset, tiny_model, token_ids):
    model, ids = tiny_model(preset), token_ids(1, 60)
    assert model.generate(ids, max_new_tokens=5, do_sample=False).shape == (1, 65)  # the last token is never read
    with pytest.raises(ValueError, match="generate fewer tokens"):
        model.generate(ids, max_new_tokens=6, do_sample=False)


def test_dynamic_rope_outgrows_the_context(tiny_model, token_ids):
    rope = {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 1e4}
    model = tiny_model("llama", rope_parameters=rope)
    assert model.generate(token_ids(1, 60), max_new_tokens=20, do_sample=False).shape == (1, 80)


def test_text_generation_pipeline_continues_a_batch(preset, tiny_model, character_tokenizer):
    model = tiny_model(preset, pad_token_id=0)
    generate = pipeline("text-generation", model=model, tokenizer=character_tokenizer, device="cpu")
    prompts = ["Hello there", "Hi"]
    outputs = generate(prompts, max_new_tokens=5, do_sample=False, batch_size=2, return_full_text=False)
    for prompt, [output] in zip(prompts, outputs, strict=True):
        ids = character_tokenizer(prompt, return_tensors="pt").input_ids
        expected = model.generate(ids, max_new_tokens=5, do_sample=False)[0, ids.shape[1] :]
        assert output["generated_text"] == character_tokenizer.decode(expected, skip_special_tokens=True)
