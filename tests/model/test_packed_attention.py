"""Packed attention computes what sdpa computes behind its mask, forward and backward, and leaves other inputs alone."""

import types

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from ftkit.model.configuration_ftgpt import FTGPTConfig
from ftkit.model.fast.packed_attention import document_lengths, packed_sdpa, use_packed_attention
from ftkit.model.modeling_ftgpt import FTGPTForCausalLM

SIZES = {
    "vocab_size": 50, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64, "initializer_range": 0.3,
}  # fmt: skip
GPT2_SIZES = {"vocab_size": 50, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "initializer_range": 0.3}


def make(name: str):
    torch.manual_seed(0)
    no_dropout = {"attn_pdrop": 0.0, "resid_pdrop": 0.0, "embd_pdrop": 0.0}
    return {
        "llama": lambda: LlamaForCausalLM(LlamaConfig(**SIZES)),
        "ftgpt": lambda: FTGPTForCausalLM(FTGPTConfig.llama(**SIZES)),
        "gpt2": lambda: GPT2LMHeadModel(GPT2Config(**GPT2_SIZES, **no_dropout)),
    }[name]()


def packed(*rows: list[int]) -> torch.Tensor:
    return torch.tensor([[position for length in lengths for position in range(length)] for lengths in rows])


@pytest.mark.parametrize("name", ["llama", "ftgpt", "gpt2"])
@pytest.mark.parametrize("rows", [[[5, 9, 2]], [[5, 9, 2], [16]], [[1, 1, 14], [8, 8]]])
def test_logits_and_gradients_equal_those_of_sdpa(name, rows):
    model, position_ids = make(name), packed(*rows)
    ids = torch.randint(50, position_ids.shape, generator=torch.Generator().manual_seed(1))
    found = []
    for switch in (False, True):
        assert not switch or use_packed_attention(model)
        model.zero_grad()
        logits = model(input_ids=ids, position_ids=position_ids, use_cache=False).logits
        logits.square().mean().backward()
        found.append((logits, [parameter.grad.clone() for parameter in model.parameters()]))
    (wanted, gradients), (given, others) = found
    assert torch.allclose(wanted, given, atol=1e-5)
    assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-6) for a, b in zip(gradients, others, strict=True))


@pytest.mark.parametrize("name", ["llama", "ftgpt", "gpt2"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_padded_batches_and_generation_go_through_sdpa(name, side):
    model = make(name).eval()
    ids = torch.randint(2, 50, (2, 10), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    mask[1, slice(0, 4) if side == "left" else slice(6, None)] = 0
    inputs = {"input_ids": ids, "attention_mask": mask}
    before, said = model(**inputs).logits, model.generate(**inputs, max_new_tokens=4, do_sample=False, pad_token_id=0)
    assert use_packed_attention(model)
    kept = mask.bool()
    assert torch.allclose(model(**inputs).logits[kept], before[kept], atol=1e-6)
    assert torch.equal(model.generate(**inputs, max_new_tokens=4, do_sample=False, pad_token_id=0), said)


def test_the_documents_of_a_row_are_told_by_where_positions_restart():
    assert document_lengths(packed([3, 1, 2], [6])) == [[3, 1, 2], [6]]
    assert document_lengths(packed([6], [6])) is None


def test_a_model_on_another_attention_is_left_alone():
    model = make("llama")
    model.set_attn_implementation("eager")
    assert not use_packed_attention(model)


def test_the_choice_is_not_saved_with_the_model(tmp_path):
    model = make("llama")
    use_packed_attention(model)
    model.save_pretrained(tmp_path)
    assert "packed" not in (tmp_path / "config.json").read_text()
    assert LlamaForCausalLM.from_pretrained(tmp_path).config._attn_implementation == "sdpa"


def test_autocast_does_not_coarsen_the_attention_of_documents():
    position_ids = torch.tensor([[0, 1, 2, 0, 1]])
    heads = [torch.randn(1, 2, 5, 8, generator=torch.Generator().manual_seed(seed)) for seed in range(3)]
    module = types.SimpleNamespace(num_key_value_groups=1)
    wanted, _ = packed_sdpa(module, *heads, None, position_ids=position_ids)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        given, _ = packed_sdpa(module, *heads, None, position_ids=position_ids)
    assert torch.equal(given, wanted)
