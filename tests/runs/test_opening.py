"""The same command begins, goes on or does nothing; what changed is refused by name, or goes on by permission."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ftkit.config.output_folder import State, read_note, state_of

SAVES = ("--max_steps", "4", "--save_strategy", "steps", "--save_steps", "2", "--use_peft", "--lora_dropout", "0.1")


def weights(folder: Path) -> dict:
    return load_file(next(iter(folder.glob("*.safetensors"))))


def are_equal(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def finished(files, tmp_path_factory):
    """A finished LoRA run of four updates with checkpoints 2 and 4."""
    out = tmp_path_factory.mktemp("whole") / "out"
    files.run("sft", out, *SAVES)
    return out


@pytest.fixture
def killed(finished, tmp_path, unfinish):
    """The folder as a kill between checkpoint-2 and checkpoint-4 leaves it."""
    return unfinish(Path(shutil.copytree(finished, tmp_path / "out")), "checkpoint-4")


def test_the_same_command_goes_on_and_ends_with_the_same_bits(files, killed, finished, capsys):
    files.run("sft", killed, *SAVES)
    assert "resumed    at update 2 of 4" in capsys.readouterr().err
    assert are_equal(weights(killed), weights(finished))
    assert state_of(killed) is State.FINISHED
    assert read_note(killed).id == read_note(finished).id


def test_the_same_command_on_a_finished_run_says_so_and_changes_nothing(files, finished, capsys):
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.name != "lock"}
    assert files.run("sft", finished, *SAVES) is None
    assert "finished: " in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.name != "lock"} == before
