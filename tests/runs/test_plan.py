"""`--plan` prints what a run would do, for this machine or another, loads no weights and writes nothing."""

import dataclasses

import pytest
import yaml

from ftkit.config.errors import UserError
from ftkit.config.hardware import PRESETS
from ftkit.config.parser import run
from ftkit.runs.recipe import found
from ftkit.runs.recipes import TRAINERS, load_recipe


@pytest.fixture
def plan(files, tmp_path, monkeypatch, capsys):
    """Plans a run whose weights can't be loaded; returns what it printed."""

    def load(run):
        raise AssertionError("weights were loaded")

    def start(command: str, *flags: str) -> str:
        recipe = load_recipe(command)
        planned = dataclasses.replace(recipe, method=dataclasses.replace(found(recipe.method), load=load))
        before = sorted(tmp_path.rglob("*"))
        capsys.readouterr()
        assert run(planned.main, [*files.flags(command, tmp_path / "out"), "--plan", *flags]) == 0
        assert sorted(tmp_path.rglob("*")) == before
        return capsys.readouterr().err

    return start


@pytest.mark.parametrize("command", TRAINERS)
def test_a_plan_loads_no_weights_and_writes_nothing(command, plan):
    printed = plan(command)
    for word in ("hardware", "model", "decided", "plan", "updates", "GiB at the peak"):
        assert word in printed
    assert not any(line.startswith("done") for line in printed.splitlines())


@pytest.mark.parametrize("command", TRAINERS)
def test_a_plan_for_a_gpu_is_made_without_one(command, plan):
    isolated = ["--isolate_documents"] if command == "pretrain" else []
    printed = plan(command, "--hardware", "h100-80gb", *isolated)
    assert "NVIDIA H100 80GB HBM3" in printed and "packed_sdpa" not in printed
    if command in ("sft", "pretrain"):
        assert "sdpa with a mask that keeps packed documents apart" in printed


def test_a_machine_is_described_in_a_file(plan, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(dataclasses.asdict(PRESETS["rtx4090-24gb"]) | {"name": "Mine", "memory_gib": 0.001}))
    printed = plan("sft", "--hardware", str(path))
    assert "Mine" in printed and "activation_checkpointing on: about" in printed


def test_another_machine_without_a_plan_is_refused(files, tmp_path):
    with pytest.raises(UserError, match="--hardware plans for another machine; add --plan"):
        files.parse("sft", tmp_path / "out", "--hardware", "h100-80gb")
