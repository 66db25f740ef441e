"""FTGPT's forward pass: logits against transformers' own models, padding, caches, packing, training and mistakes."""

import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, Qwen2ForCausalLM, StaticCache

from ftkit.model import FTGPTForCausalLM

LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
YARN_ROPE = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 16}
LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 1e4,
    "factor": 4.0,
    "short_factor": [1.0, 1.1, 1.2, 1.3],
    "long_factor": [2.0, 3.0, 4.0, 5.0],
    "original_max_position_embeddings": 16,
}


def gap(left, right):
    return (left - right).abs().max().item()


def gpt2_weights(reference):
    """GPT2LMHeadModel's tensors under FTGPT's names, written out by hand."""
    named = {}
    for name, tensor in reference.state_dict().items():
        name = name.replace("transformer.", "model.").replace(".h.", ".layers.")
        name = name.replace("wte", "embed_tokens").replace("wpe", "embed_positions").replace("ln_f", "norm")
        name = name.replace("ln_1", "input_layernorm").replace("ln_2", "post_attention_layernorm")
        name = name.replace("mlp.c_fc", "mlp.up_proj").replace("mlp.c_proj", "mlp.down_proj")
        name = name.replace("attn.c_proj", "self_attn.o_proj")
        is_matrix = "proj.weight" in name or "c_attn.weight" in name
        tensor = tensor.t() if is_matrix else tensor
        if "c_attn" in name:
            for letter, part in zip("qkv", tensor.chunk(3), strict=True):
                named[name.replace("attn.c_attn", f"self_attn.{letter}_proj")] = part
        else:
            named[name] = tensor
    return named


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_gpt2_preset_gives_the_logits_and_loss_of_gpt2(attention, tiny_config, token_ids, spread):
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=97, n_embd=32, n_layer=2, n_head=4, n_positions=64, attn_implementation=attention)
    reference = spread(GPT2LMHeadModel(config).eval())
    model = FTGPTForCausalLM._from_config(tiny_config("gpt2"), attn_implementation=attention).eval()
    model.load_state_dict(gpt2_weights(reference))
    ids = token_ids(3, 64)
    expected, got = reference(ids, labels=ids), model(ids, labels=ids)
    assert expected.logits.std() > 0.5
    assert gap(expected.logits, got.logits) <= 1e-5
    assert got.loss.item() == pytest.approx(expected.loss.item(), abs=1e-6)


@pytest.mark.parametrize(
    "settings",
    [
        {"num_key_value_heads": 4},
        {"num_key_value_heads": 2},
        {"num_key_value_heads": 1, "head_dim": 12, "tie_word_embeddings": True},
        {"attention_bias": True, "mlp_bias": True},
        {"rope_parameters": LLAMA3_ROPE},
        {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}},
        {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}, "max_position_embeddings": 20},
        {"rope_parameters": YARN_ROPE},
        {"rope_parameters": LONGROPE},
    ],
    ids=["plain", "grouped", "one-kv-head", "biases", "llama3", "linear", "dynamic", "yarn", "longrope"],
)
def test_llama_preset_gives_the_logits_of_llama(settings, llama_twins, token_ids):
    reference, model = llama_twins(**settings)
    ids = token_ids(2, 40)
    assert reference(ids).logits.std() > 0.3
    assert gap(reference(ids).logits, model(ids).logits) <= 1e-5


def test_attention_bias_without_output_bias_gives_the_logits_of_qwen2(llama_twins, token_ids):
    reference, model = llama_twins(Qwen2ForCausalLM, rope_parameters={"rope_theta": 1e6})
    assert model.model.layers[0].self_attn.q_proj.bias.abs().max() > 0.1
    assert gap(reference(token_ids(2, 40)).logits, model(token_ids(2, 40)).logits) <= 1e-5


def test_sdpa_equals_eager_under_padding_in_logits_and_gradients(preset, tiny_model, token_ids):
    results = []
    ids, mask = token_ids(2, 12), torch.ones(2, 12, dtype=torch.long)
    mask[0, :5] = 0
    for attention in ("sdpa", "eager"):
        model = tiny_model(preset)
        model.set_attn_implementation(attention)
        logits = model(ids, attention_mask=mask).logits
        logits[mask.bool()].square().sum().backward()
        results.append((logits[mask.bool()], model.model.layers[0].self_attn.q_proj.weight.grad))
    assert gap(results[0][0], results[1][0]) <= 1e-5
    assert gap(results[0][1], results[1][1]) <= 1e-5 * results[0][1].abs().max().item()


@pytest.mark.slow
def test_flex_attention_gives_the_same_logits(tiny_model, token_ids):
    model, ids = tiny_model("llama", hidden_size=64), token_ids(2, 9)  # flex needs heads of 16 or more
    mask = torch.ones(2, 9, dtype=torch.long)
    mask[0, :4] = 0
    with torch.no_grad():  # flex has no backward on a CPU
        expected = model(ids, attention_mask=mask).logits
        model.set_attn_implementation("flex_attention")
        got = model(ids, attention_mask=mask).logits
    assert gap(got[mask.bool()], expected[mask.bool()]) <= 1e-5


@pytest.mark.parametrize("attention", ["flash_attention_2", "flex_attention", "sdpa", "eager"])
def test_every_attention_backend_is_declared(attention):
    flag = {"flash_attention_2": "_supports_flash_attn", "flex_attention": "_supports_flex_attn"}.get(attention)
    assert getattr(FTGPTForCausalLM, flag or "_supports_sdpa") is True
    assert FTGPTForCausalLM._supports_attention_backend and FTGPTForCausalLM._can_compile_fullgraph


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_does_not_change_the_logits_of_the_tokens(side, preset, tiny_model, token_ids):
    model, ids = tiny_model(preset), token_ids(1, 9)
    amount = (4, 0) if side == "left" else (0, 4)
    padded = torch.nn.functional.pad(ids, amount)
    mask = torch.nn.functional.pad(torch.ones_like(ids), amount)
    got = model(padded, attention_mask=mask).logits[mask.bool()]
    assert gap(got, model(ids).logits[0]) <= 1e-5


@pytest.mark.parametrize("cache", ["dynamic", "static"])
def test_tokens_fed_one_by_one_through_a_cache_give_the_same_logits(cache, preset, tiny_model, token_ids):
    model, ids = tiny_model(preset), token_ids(2, 10)
    mask = torch.ones(2, 10, dtype=torch.long)
    mask[0, :3] = 0
    expected = model(ids, attention_mask=mask, use_cache=False).logits
    past = StaticCache(config=model.config, max_cache_len=16) if cache == "static" else None
    steps = []
    for start, end in [(0, 6), (6, 7), (7, 9), (9, 10)]:
        output = model(ids[:, start:end], attention_mask=mask[:, :end], past_key_values=past, use_cache=True)
        past = output.past_key_values
        steps.append(output.logits)
    assert gap(torch.cat(steps, dim=1)[mask.bool()], expected[mask.bool()]) <= 1e-5


@pytest.mark.parametrize("use_cache", [False, True])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_packed_documents_equal_separate_ones(attention, use_cache, preset, tiny_model, token_ids):
    model = tiny_model(preset)
    model.set_attn_implementation(attention)
    documents = [token_ids(1, length, seed=length) for length in (5, 1, 8)]
    packed = torch.cat(documents, dim=1)
    positions = torch.cat([torch.arange(document.shape[1]) for document in documents])[None]
    got = model(packed, position_ids=positions, use_cache=use_cache).logits
    expected = torch.cat([model(document).logits for document in documents], dim=1)
    assert gap(got, expected) <= 1e-5


def test_logits_to_keep_projects_the_last_or_the_named_positions(preset, tiny_model, token_ids):
    model, ids = tiny_model(preset), token_ids(2, 9)
    every = model(ids).logits
    assert gap(model(ids, logits_to_keep=2).logits, every[:, -2:]) <= 1e-6
    assert gap(model(ids, logits_to_keep=torch.tensor([0, 4])).logits, every[:, [0, 4]]) <= 1e-6


def test_hidden_states_and_attentions_are_returned_on_request(preset, tiny_model, token_ids):
    model, ids = tiny_model(preset, attn_implementation="eager"), token_ids(2, 9)
    output = model(ids, output_hidden_states=True, output_attentions=True)
    assert [state.shape for state in output.hidden_states] == [(2, 9, 32)] * 3
    assert gap(model.lm_head(output.hidden_states[-1]), output.logits) <= 1e-6
    assert [weights.shape for weights in output.attentions] == [(2, 4, 9, 9)] * 2
    assert gap(output.attentions[0].sum(-1), torch.ones(2, 4, 9)) <= 1e-6
    assert output.attentions[0].triu(1).abs().max() == 0
    assert isinstance(model(ids, return_dict=False), tuple)


@pytest.mark.parametrize("tied", [True, False])
def test_saving_and_loading_keeps_logits_and_ties(tied, preset, tiny_model, token_ids, tmp_path):
    model, ids = tiny_model(preset, tie_word_embeddings=tied), token_ids(2, 9)
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert type(loaded) is FTGPTForCausalLM and not loaded.training
    assert gap(loaded(ids).logits, model(ids).logits) <= 1e-6
    assert (loaded.lm_head.weight is loaded.model.embed_tokens.weight) is tied
    halved = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert halved(ids).logits.dtype == torch.bfloat16
    assert gap(halved(ids).logits.float(), model(ids).logits) < 0.1


def test_a_resized_vocabulary_stays_tied_and_accepts_the_new_ids(preset, tiny_model):
    model = tiny_model(preset)
    model.resize_token_embeddings(100)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert model(torch.tensor([[98, 99]])).logits.shape == (1, 2, 100)
