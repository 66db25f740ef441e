"""What checkpoints need on the disk is worked out by hand, before a weight is loaded."""

from types import SimpleNamespace

import pytest
from asked import asked
from transformers import LlamaConfig

from ftkit.config import disk
from ftkit.config.errors import UserError
from ftkit.config.estimate import Shape
from ftkit.training.fitting import checkpoint_bytes
from ftkit.training.space import check_room, num_at_once

SMALL = Shape.of(  # SmolLM2-135M
    LlamaConfig(
        hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9, num_key_value_heads=3,
        vocab_size=49_152, tie_word_embeddings=True,
    ),
    134_515_008,
)  # fmt: skip
# Rank 16 on q, k, v, o, gate, up, down of 30 layers, counted by PEFT: 4,884,480 weights.
LORA = 4_884_480
SIZES = {  # settings, precision of the weights: bytes of a checkpoint
    "all weights and two moments": ({}, "float32", 12 * 134_515_008),
    "in bfloat16": ({}, "bfloat16", 6 * 134_515_008),
    "the model alone": ({"save_only_model": True}, "float32", 4 * 134_515_008),
    "no checkpoint": ({"save_strategy": "no"}, "float32", 4 * 134_515_008),
    "some layers frozen": ({"num_frozen_layers": 5}, "float32", 4 * 134_515_008),
    "an optimizer of unknown size": ({"optim": "adafactor"}, "float32", 4 * 134_515_008),
    "modules that are named": ({"use_peft": True, "lora_target_modules": ["q_proj"]}, "float32", 0),
    "another adapter, trained on": ({"use_peft": True, "adapter": "a"}, "float32", 0),
}


@pytest.mark.parametrize("name", SIZES)
def test_the_least_size_of_a_checkpoint(name):
    settings, dtype, expected = SIZES[name]
    assert checkpoint_bytes(asked("sft", **settings), SMALL, dtype) == expected


def test_an_adapter_is_estimated_below_what_it_takes():
    estimate = checkpoint_bytes(asked("sft", use_peft=True, lora_r=16), SMALL, "bfloat16")
    assert 0.7 * 12 * LORA < estimate < 12 * LORA


COUNTS = {  # strategy, save_steps, save_total_limit, by clock: how many lie there at once, of 40 updates in 3 epochs
    ("steps", 10, None, False): 4,
    ("steps", 10, 1, False): 2,
    ("steps", 10, 2, False): 3,
    ("steps", 0.25, None, False): 4,
    ("steps", 100, 5, False): 1,
    ("steps", 4, 2, True): 2,
    ("epoch", 500, None, False): 3,
    ("epoch", 500, 1, False): 2,
    ("best", 500, 1, False): 1,
    ("no", 500, None, False): 0,
}


def decided(strategy, steps, limit, by_clock, **more):
    return SimpleNamespace(
        save_strategy=strategy, save_steps=steps, save_total_limit=limit, saves_by_clock=by_clock, num_updates=40,
        max_steps=-1, checkpoint_bytes=406_000_000, **more,
    )  # fmt: skip


@pytest.mark.parametrize("setting", COUNTS)
def test_checkpoints_that_lie_there_at_once(setting):
    assert num_at_once(decided(*setting), 3) == COUNTS[setting]


def run_into(folder, *setting):
    settings = SimpleNamespace(training=SimpleNamespace(num_train_epochs=3))
    return SimpleNamespace(output_dir=str(folder), decided=decided(*setting), settings=settings)


def test_a_disk_without_room_is_said_with_need_and_fix_and_what_is_there_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda _: disk.shutil._ntuple_diskusage(10**9, 0, 300_000_000))
    with pytest.raises(UserError) as caught:
        check_room(run_into(tmp_path / "new", "steps", 10, 1, False))
    assert str(caught.value) == (
        f"{tmp_path}/new: needs 812 MB for two checkpoints, 300 MB free; free some space, or choose another "
        "--output_dir"
    )
    with pytest.raises(UserError, match="needs 1.22 GB for three checkpoints, 300 MB free; .*lower --save_total_limit"):
        check_room(run_into(tmp_path / "new", "steps", 10, 2, False))
    with pytest.raises(UserError, match="needs 406 MB for the result"):
        check_room(run_into(tmp_path / "new", "no", 10, 2, False))
    for step in (10, 20):
        (tmp_path / f"checkpoint-{step}").mkdir()
        with (tmp_path / f"checkpoint-{step}" / "model.safetensors").open("wb") as file:
            file.truncate(300_000_000)
    check_room(run_into(tmp_path, "steps", 10, 1, False))  # 212 MB more at the most
