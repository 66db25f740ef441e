"""A run that can't fit on the disk ends before its weights are loaded; one that fits takes what was estimated."""

import dataclasses

import pytest
import yaml

from ftkit.config import disk
from ftkit.config.errors import UserError
from ftkit.runs.recipe import found
from ftkit.runs.recipes import TRAINERS, load_recipe


@pytest.mark.parametrize("command", TRAINERS)
def test_too_little_room_is_said_before_weights_are_loaded(command, files, tmp_path, monkeypatch):
    def load(run):
        raise AssertionError("weights were loaded")

    monkeypatch.setattr(disk.shutil, "disk_usage", lambda _: disk.shutil._ntuple_diskusage(10**9, 0, 1000))
    recipe = load_recipe(command)
    recipe = dataclasses.replace(recipe, method=dataclasses.replace(found(recipe.method), load=load))
    with pytest.raises(UserError, match="out: needs .* for two checkpoints, 1 kB free; free some space"):
        recipe.train(files.parse(command, tmp_path / "out", "--max_steps", "20"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("flags", [(), ("--use_peft",)], ids=["full", "lora"])
def test_a_checkpoint_takes_what_was_estimated(flags, files, tmp_path):
    files.run("sft", tmp_path / "out", "--max_steps", "1", *flags)
    saved = tmp_path / "out" / "checkpoint-1"
    size = sum(path.stat().st_size for path in (*saved.glob("*.safetensors"), saved / "optimizer.pt"))
    estimate = yaml.safe_load((tmp_path / "out" / "run.yaml").read_text())["decided"]["checkpoint_bytes"]
    assert (0.95 if not flags else 0.6) * size < estimate < size
