"""Weights saved by shards are joined into the plain folder they came from; several processes: tests/test_multi_process.py."""

import shutil

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from ftkit.model.loading import load_model
from ftkit.training.sharded import SHARDS, join_shards, load_shards, save_shards


def test_shards_are_read_back_and_joined_into_the_same_plain_folder(tiny_folder, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(tiny_folder)
    save_shards(model, tmp_path)
    assert len(list((tmp_path / SHARDS).glob("*.safetensors"))) == 1  # of one process
    join_shards(tmp_path, tmp_path)
    joined, saved = load_file(tmp_path / "model.safetensors"), load_file(tiny_folder / "model.safetensors")
    assert joined.keys() == saved.keys()  # a tied head once
    assert all(torch.equal(joined[name], weight) for name, weight in saved.items())
    shutil.copy(tiny_folder / "config.json", tmp_path)
    other = load_model(tmp_path)
    for parameter in other.parameters():
        parameter.data.zero_()
    load_shards(other, tmp_path)
    ids = torch.arange(2, 22)[None]
    assert torch.equal(other(ids).logits, model(ids).logits)
