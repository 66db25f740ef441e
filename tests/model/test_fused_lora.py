"""A fused LoRA layer against PEFT's own: same outputs and gradients, and PEFT's forward wherever it is not plain LoRA."""

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from ftkit.model.fast.fused_lora import FusedLora, use_fused_lora


class Two(nn.Module):
    """Two linear layers, one with a bias."""

    def __init__(self, dtype=torch.float32):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(12, 20, dtype=dtype), nn.Linear(20, 6, bias=False, dtype=dtype)

    def forward(self, x):
        return self.second(torch.tanh(self.first(x)))


def adapted(dtype=torch.float32, **settings):
    """A PEFT model whose adapter is no no-op, and a fused copy of it."""
    model = get_peft_model(Two(dtype), LoraConfig(r=4, lora_alpha=6, target_modules=["first", "second"], **settings))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(1))
    fused = copy.deepcopy(model)
    use_fused_lora(fused)
    return model, fused


def run(model, autocast=False):
    """Output, gradient of the input, and of every trained weight."""
    x = torch.randn(2, 5, 12, generator=torch.Generator().manual_seed(2)).to(model.first.weight.dtype)
    x.requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        y = model(x)
    (y.float() * torch.arange(6.0)).sum().backward()
    return [y, x.grad, *(p.grad for p in model.parameters() if p.requires_grad)]


def count_calls(monkeypatch) -> list:
    calls, apply = [], FusedLora.apply
    monkeypatch.setattr(FusedLora, "apply", lambda *args: calls.append(1) or apply(*args))
    return calls


def test_outputs_and_gradients_are_pefts(monkeypatch):
    calls = count_calls(monkeypatch)
    model, fused = adapted()
    for wanted, given in zip(run(model), run(fused), strict=True):
        assert given.dtype == wanted.dtype
        torch.testing.assert_close(given, wanted, rtol=1e-5, atol=1e-5)
    assert len(calls) == 2


def test_under_autocast_they_are_pefts_within_bf16(monkeypatch):
    calls = count_calls(monkeypatch)
    model, fused = adapted()
    exact = run(copy.deepcopy(model))
    for wanted, given, true in zip(run(model, True), run(fused, True), exact, strict=True):
        assert given.dtype == wanted.dtype
        error = (given - true).norm() / true.norm()
        assert error < 0.02 and error < 1.5 * (wanted - true).norm() / true.norm() + 1e-3
    assert len(calls) == 2


def test_an_input_without_gradient_still_trains_the_adapter():
    model, fused = adapted()
    for each in (model, fused):
        each(torch.ones(3, 12)).sum().backward()
    torch.testing.assert_close(*(each.base_model.model.first.lora_A.default.weight.grad for each in (fused, model)))


@pytest.mark.parametrize(
    "settings", [{"lora_dropout": 0.5}, {"use_dora": True}, {"lora_bias": True, "target_modules": ["first"]}]
)
def test_what_is_more_than_plain_lora_stays_pefts(monkeypatch, settings):
    calls = count_calls(monkeypatch)
    settings = {"target_modules": ["first", "second"], **settings}
    model = get_peft_model(Two(), LoraConfig(r=4, **settings))
    use_fused_lora(model)
    model(torch.ones(1, 12))
    assert not calls


def test_disabled_merged_and_several_adapters_stay_pefts(monkeypatch):
    calls = count_calls(monkeypatch)
    model, fused = adapted()
    x = torch.ones(1, 12)
    with fused.disable_adapter(), model.disable_adapter():
        torch.testing.assert_close(fused(x), model(x), rtol=0, atol=0)
    for each in (model, fused):
        each.add_adapter("other", LoraConfig(r=2, target_modules=["first", "second"]))
        each.base_model.set_adapter(["default", "other"])
    assert not calls
    fused(x)
    assert not calls
    fused.set_adapter("default")
    fused(x)
    assert len(calls) == 2
    fused.merge_adapter(["default"])
    fused(x)
    assert len(calls) == 2


def test_a_coarser_base_outside_of_autocast_stays_pefts(monkeypatch):
    calls = count_calls(monkeypatch)
    model = get_peft_model(Two(torch.bfloat16), LoraConfig(r=4, target_modules=["first"]))
    assert model.first.lora_A.default.weight.dtype == torch.float32
    use_fused_lora(model)
    model(torch.ones(1, 12, dtype=torch.bfloat16))
    assert not calls


def test_a_trained_or_unknown_base_layer_is_not_fused():
    model = get_peft_model(Two(), LoraConfig(r=4, target_modules=["first", "second"]))
    model.first.base_layer.weight.requires_grad_(True)
    model.second.base_layer.register_forward_hook(lambda *args: None)
    assert use_fused_lora(model) == 0
