"""Adapters as plain PEFT writes them, and what a registry's versions answer."""

import warnings
from pathlib import Path

import torch
from peft import get_peft_model
from transformers import AutoModelForCausalLM

IDS = torch.arange(2, 50).reshape(4, 12)


def make_adapter(base: Path, folder: Path, config, *, seed: int = 1, rows: int | None = None, **saving):
    """Save an adapter with random weights in all that is trained; return PEFT's own model, which has it."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_pretrained(base)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if rows:
            model.resize_token_embeddings(rows, mean_resizing=False)
        model = get_peft_model(model, config).eval()
        for parameter in model.parameters():
            if parameter.requires_grad:
                torch.nn.init.normal_(parameter, std=0.2)
        model.save_pretrained(folder, **saving)
    return model


@torch.inference_mode()
def logits_of(model) -> torch.Tensor:
    """Of IDS."""
    return model(input_ids=IDS, attention_mask=torch.ones_like(IDS)).logits


@torch.inference_mode()
def routed_logits(registry, version) -> torch.Tensor:
    """The same by a version of a registry."""
    with registry.router.routes([(version.parts or {}, slice(0, len(IDS)))]):
        return registry.model(input_ids=IDS, attention_mask=torch.ones_like(IDS)).logits
