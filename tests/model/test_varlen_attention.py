"""A GPU's attention for packed rows computes what sdpa does behind its mask, here by its CPU stand-in and wiring."""

import inspect
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from sys import modules

import pytest
import torch
from torch.nn.attention import varlen
from transformers import LlamaConfig

from ftkit.model.fast import varlen_attention
from ftkit.model.fast.varlen_attention import add_borders, has_varlen, packed_varlen, use_varlen_attention
from ftkit.training import facts

spec = spec_from_file_location("packed_models", Path(__file__).with_name("test_packed_attention.py"))
modules["packed_models"] = module_from_spec(spec)
spec.loader.exec_module(modules["packed_models"])
SIZES, make, packed = modules["packed_models"].SIZES, modules["packed_models"].make, modules["packed_models"].packed


@pytest.mark.parametrize("name", ["llama", "ftgpt", "gpt2"])
@pytest.mark.parametrize("recomputed", [False, True])
def test_logits_and_gradients_equal_those_of_sdpa(name, recomputed):
    model, position_ids = make(name).train(), packed([5, 9, 2], [1, 1, 14])
    ids = torch.randint(50, position_ids.shape, generator=torch.Generator().manual_seed(1))
    found = []
    for switch in (False, True):
        assert not switch or use_varlen_attention(model)
        if recomputed:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        model.zero_grad()
        logits = model(input_ids=ids, position_ids=position_ids, use_cache=False).logits
        logits.square().mean().backward()
        found.append((logits, [parameter.grad.clone() for parameter in model.parameters()]))
    (wanted, gradients), (given, others) = found
    assert torch.allclose(wanted, given, atol=1e-5)
    assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-6) for a, b in zip(gradients, others, strict=True))


def test_padded_batches_and_generation_go_through_sdpa():
    model = make("llama").eval()
    ids = torch.randint(2, 50, (2, 10), generator=torch.Generator().manual_seed(1))
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids).index_fill(1, torch.tensor([0]), 0)}
    before, said = model(**inputs).logits, model.generate(**inputs, max_new_tokens=4, do_sample=False, pad_token_id=0)
    assert use_varlen_attention(model)
    assert torch.allclose(model(**inputs).logits[:, 1:], before[:, 1:], atol=1e-6)
    assert torch.equal(model.generate(**inputs, max_new_tokens=4, do_sample=False, pad_token_id=0), said)


def test_borders_are_found_once_and_only_where_a_row_holds_several_documents():
    names = ("input_ids", "attention_mask", "position_ids")
    _, found = add_borders(names, None, (None, None, packed([3, 1, 2], [6])), {})
    assert found["cu_seq_lens_q"].tolist() == [0, 3, 4, 6, 12] and found["cu_seq_lens_q"].dtype == torch.int32
    assert found["max_length_q"] == 6
    assert add_borders(names, None, (), {"position_ids": packed([6], [6])}) is None
    mask = {"attention_mask": torch.ones(1, 6)}
    assert add_borders(names, None, (), {"position_ids": packed([3, 3])} | mask) is None


def older_kernel(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, is_causal=False, return_aux=None):
    """The signature of torch 2.10."""


@pytest.mark.parametrize("kernel", [varlen.varlen_attn, older_kernel])
def test_the_kernel_is_asked_as_its_torch_takes_it(kernel, monkeypatch):
    """What a GPU would run: the signature takes the call, the heads come in its shapes and autocast's precision."""
    heads = [torch.randn(1, number, 6, 8, generator=torch.Generator().manual_seed(1)) for number in (4, 2, 2)]
    borders = torch.tensor([0, 2, 6], dtype=torch.int32)
    signature, seen = inspect.signature(kernel), {}

    def kernel_of_a_gpu(*args, **kwargs):
        seen.update(signature.bind(*args, **kwargs).arguments)
        return varlen_attention.attend_by_document(*args[:3], borders, 4, kwargs.get("scale", 8**-0.5))

    monkeypatch.setattr(varlen, "varlen_attn", kernel_of_a_gpu)
    monkeypatch.setattr(varlen_attention, "kernel_settings", lambda: frozenset(signature.parameters))
    with torch.autocast("cpu", torch.bfloat16):
        dtype = varlen_attention.kernel_dtype(heads[0])
    flat = [one.transpose(1, 2).flatten(0, 1).to(dtype) for one in heads]
    mixed = varlen_attention.attend_on_gpu(*flat, borders, 4, 0.5)
    wanted = varlen_attention.attend_by_document(*flat, borders, 4, 0.5)
    assert mixed.dtype == torch.bfloat16 and torch.allclose(mixed.float(), wanted.float(), atol=0.02)
    assert seen["cu_seq_q"] is borders and (seen["max_q"], seen["max_k"]) == (4, 4)
    assert seen.get("window_size") == (-1, 0) or seen["is_causal"]
    assert seen["key"].shape == ((6, 2, 8) if seen.get("enable_gqa") else (6, 4, 8))


def test_dropout_is_refused_rather_than_left_out():
    heads = [torch.randn(1, 2, 4, 8) for _ in range(3)]
    with pytest.raises(ValueError, match=r"attention_dropout is 0.1; .* --attn_implementation sdpa"):
        packed_varlen(None, *heads, None, dropout=0.1, cu_seq_lens_q=torch.tensor([0, 2, 4], dtype=torch.int32))


def test_a_plan_for_a_gpu_takes_the_kernel_where_the_model_hands_on_the_borders(monkeypatch):
    assert has_varlen()
    config = LlamaConfig(**SIZES)
    assert facts.gpu_attention(config) == varlen_attention.NAME
    assert facts.gpu_attention(LlamaConfig(**SIZES, attention_dropout=0.1)) is None
    monkeypatch.setattr(varlen_attention, "add_borders", lambda *given: None)  # a model that loses them
    assert facts.gpu_attention(LlamaConfig(**SIZES, rms_norm_eps=1e-5)) is None  # one that was not tried yet
