"""What every trainer gets beside TRL's own."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from ftkit.training.run_trainer import kept_precision


@pytest.fixture
def quantized_like(tiny_folder):
    """A model whose adapter is bf16 on a float32 base, as TRL makes that of a 4-bit model."""
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_folder), LoraConfig(task_type="CAUSAL_LM", r=2))
    for weight in trained(model):
        weight.data = torch.randn_like(weight).to(torch.bfloat16)
    return model


def trained(model):
    return [weight for weight in model.parameters() if weight.requires_grad]


def test_an_adapter_that_is_read_again_keeps_its_precision_and_bits(quantized_like, tmp_path):
    before = [weight.detach().clone() for weight in trained(quantized_like)]
    quantized_like.save_pretrained(tmp_path)
    quantized_like.load_adapter(tmp_path, "default", is_trainable=True)
    assert {weight.dtype for weight in trained(quantized_like)} == {torch.float32}  # what PEFT does by itself
    for weight in trained(quantized_like):
        weight.data = torch.zeros_like(weight).to(torch.bfloat16)
    with kept_precision(quantized_like):
        quantized_like.load_adapter(tmp_path, "default", is_trainable=True)
    assert all(
        torch.equal(old, new) and old.dtype == new.dtype
        for old, new in zip(before, trained(quantized_like), strict=True)
    )
