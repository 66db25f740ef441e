"""The bundled base model: it is what its card says, reads English better than chance, and loads without ftkit."""

import math
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors import safe_open

from ftkit.config.assets import bundled_base
from ftkit.data.reading.documents import load_documents
from ftkit.data.templates.lock import LockState, verify_lock
from ftkit.data.tokens.blocks import tokenize_documents
from ftkit.model.loading import load_model, load_tokenizer


@pytest.fixture(scope="module")
def base():
    return load_model("base").eval(), load_tokenizer("base")


def test_it_is_small_and_in_bfloat16(base):
    model, tokenizer = base
    assert model.num_parameters() == 4_000_000 and len(tokenizer) == model.config.vocab_size == 4096
    weights = bundled_base() / "model.safetensors"
    assert weights.stat().st_size < 8.1e6
    with safe_open(weights, "pt") as file:
        assert {file.get_slice(name).get_dtype() for name in file.keys()} == {"BF16"}
    assert verify_lock(bundled_base(), tokenizer) is LockState.LOCKED


def test_it_reads_held_out_text_as_well_as_when_it_was_bundled(base):
    """The first window of each document of the bundled sample's test split, which has more word games than the whole."""
    model, tokenizer = base
    documents = tokenize_documents([row["text"] for row in load_documents("corpus").test], tokenizer)
    windows = [torch.tensor(ids[:512].astype("int64"))[None] for ids in documents.ids]
    with torch.no_grad():
        losses = [model(input_ids=window, labels=window, use_cache=False).loss.item() for window in windows]
    scored = [window.numel() - 1 for window in windows]
    nats_per_token = sum(loss * number for loss, number in zip(losses, scored, strict=True)) / sum(scored)
    bits_per_byte = nats_per_token / math.log(2) * documents.num_tokens / documents.num_bytes
    assert bits_per_byte == pytest.approx(1.086, abs=0.01)


@pytest.mark.processes
def test_it_loads_and_writes_without_ftkit(tmp_path):
    shutil.copytree(bundled_base(), tmp_path / "copy")
    code = """
import sys
sys.modules["ftkit"] = None
from transformers import AutoModelForCausalLM, AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained("copy", trust_remote_code=True)
model = AutoModelForCausalLM.from_pretrained("copy", trust_remote_code=True)
inputs = tokenizer("And it came to pass", return_tensors="pt")
print(tokenizer.decode(model.generate(**inputs, max_new_tokens=12)[0]))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("And it came to pass")
