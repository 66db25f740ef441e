"""The bundled base with two small adapters that PEFT alone has written.

Tests here may import `batcher_answers` and `made_adapters`.
"""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

from ftkit.inference.asking import ModelSettings
from ftkit.inference.batching.batcher import Batcher
from ftkit.inference.batching.request import Limits

for name in ("batcher_answers", "made_adapters"):
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])


@pytest.fixture(scope="session")
def base_adapters(tmp_path_factory):
    """Folders of LoRA adapters of the bundled base, by name; each moves its answers far from the others'."""
    from peft import LoraConfig, get_peft_model

    from ftkit.model.loading import load_model, load_tokenizer, local_model_folder

    folder, found = local_model_folder("base"), {}
    for seed, name in enumerate(("first", "second"), start=1):
        model = load_model(folder, dtype="float32")
        torch.manual_seed(seed)
        adapted = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules="all-linear"))
        for key, tensor in adapted.named_parameters():
            if "lora_B" in key:
                torch.nn.init.normal_(tensor, std=0.2)
        found[name] = str(tmp_path_factory.mktemp("adapters") / name)
        adapted.save_pretrained(found[name])
        tokenizer = load_tokenizer(folder)
        tokenizer.save_pretrained(found[name])
    return found


@pytest.fixture(scope="session")
def batcher(base_adapters):
    """Of the bundled base and both adapters."""
    settings = ModelSettings("base", adapters=base_adapters, template="alpaca", dtype="float32")
    running = Batcher.load(settings, Limits(num_slots=4))
    yield running
    running.close()
