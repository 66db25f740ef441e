"""The same command begins, goes on or does nothing; what changed is refused by name, or goes on by permission."""

import dataclasses
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from ftkit.config.errors import UserError
from ftkit.config.output_folder import State, read_note, state_of
from ftkit.runs import decisions
from ftkit.training.checkpoints import list_checkpoints

HOLD = """
import sys
from ftkit.config.output_folder import held
with held(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""
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


def test_a_folder_of_something_else_is_refused(files, tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(UserError, match="holds files that are not of a run; choose another --output_dir"):
        files.run("sft", tmp_path, *SAVES, "--overwrite")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_run_that_another_process_holds_is_refused_in_one_line(files, finished, tmp_path):
    out = Path(shutil.copytree(finished, tmp_path / "out"))
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(out)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=f"process {other.pid} on .* is writing there; wait for it, or choose"):
            files.run("sft", out, *SAVES)
        other.kill()


def test_without_a_checkpoint_it_starts_again_with_whatever_settings(files, killed, capsys):
    shutil.rmtree(killed / "checkpoint-2")
    trainer = files.run("sft", killed, *SAVES[2:], "--max_steps", "1", "--learning_rate", "1e-3")
    assert trainer.state.global_step == 1
    assert "from the start: no update was saved" in capsys.readouterr().err


def test_hidden_leftovers_alone_are_an_empty_folder(files, tmp_path):
    (tmp_path / ".run.yaml.4242").write_text("schema: 2\n")
    (tmp_path / ".staging/checkpoint-2").mkdir(parents=True)
    assert files.run("sft", tmp_path, *SAVES[2:], "--max_steps", "1").state.global_step == 1


def test_overwrite_starts_over(files, finished, tmp_path):
    out = Path(shutil.copytree(finished, tmp_path / "out"))
    (out / "notes.txt").write_text("mine")
    trainer = files.run("sft", out, *SAVES[2:], "--max_steps", "1", "--overwrite")
    assert trainer.state.global_step == 1 and (out / "notes.txt").is_file()
    assert [path.name for path in list_checkpoints(out)] == ["checkpoint-1"]
    assert read_note(out).id != read_note(finished).id


def test_a_mistake_beside_overwrite_loses_nothing(files, finished, tmp_path):
    out = Path(shutil.copytree(finished, tmp_path / "out"))
    with pytest.raises(UserError, match="nosuch"):
        files.run("sft", out, *SAVES, "--overwrite", "--dataset_name", "nosuch.jsonl")
    assert sorted(path.name for path in out.iterdir()) == sorted(path.name for path in finished.iterdir())


def test_a_checkpoint_of_another_run_is_passed_over(files, killed, finished, tmp_path, caplog):
    stranger = tmp_path / "stranger"
    files.run("sft", stranger, *SAVES, "--learning_rate", "1e-3")
    shutil.copytree(stranger / "checkpoint-4", killed / "checkpoint-4")
    files.run("sft", killed, *SAVES)
    assert "checkpoint-4 is skipped: manifest.json: written by another run" in caplog.text
    assert are_equal(weights(killed), weights(finished))


def test_a_checkpoint_of_another_folder_is_compared_too(files, finished, tmp_path):
    named = ("--resume_from_checkpoint", str(finished / "checkpoint-2"))
    with pytest.raises(
        UserError, match=r"rests on something else \(seed: 42 then, 7 now\); --allow_changes seed goes on"
    ):
        files.run("sft", tmp_path / "out", *SAVES, *named, "--seed", "7")
    files.run("sft", tmp_path / "out", *SAVES, *named)
    assert are_equal(weights(tmp_path / "out"), weights(finished))


def test_more_steps_go_on_by_permission_at_the_rate_of_the_longer_schedule(files, finished, tmp_path, capsys):
    out = Path(shutil.copytree(finished, tmp_path / "out"))
    longer = (*SAVES, "--max_steps", "8")
    with pytest.raises(UserError, match="max_steps: 4 then, 8 now"):
        files.run("sft", out, *longer)
    trainer = files.run("sft", out, *longer, "--allow_changes", "max_steps", "--logging_steps", "1")
    printed = capsys.readouterr().err
    assert "learning rate" in printed and "laid over 8 updates" in printed
    rates = [line["learning_rate"] for line in trainer.state.log_history if "learning_rate" in line][-4:]
    assert rates == pytest.approx([2e-3 * left / 8 for left in (4, 3, 2, 1)])


def test_a_new_learning_rate_is_used_from_the_next_update(files, killed):
    flags = (*SAVES, "--learning_rate", "1e-3", "--allow_changes", "learning_rate", "--logging_steps", "1")
    trainer = files.run("sft", killed, *flags)
    rates = [line["learning_rate"] for line in trainer.state.log_history if "learning_rate" in line][-2:]
    assert rates == pytest.approx([1e-3 * left / 4 for left in (2, 1)])


def test_a_name_that_is_none_is_refused_with_the_nearest(files, killed):
    with pytest.raises(
        UserError, match='--allow_changes: "max_step" is nothing a run rests on; did you mean "max_steps"'
    ):
        files.run("sft", killed, *SAVES, "--allow_changes", "max_step")


def test_on_another_machine_it_goes_on_as_it_was_decided_and_says_that_bits_may_differ(
    files, killed, finished, monkeypatch, capsys
):
    fast = dataclasses.replace(decisions.probe(use_cpu=True), name="CPU that is fast in bf16", bf16_speedup=4.0)
    monkeypatch.setattr(decisions, "hardware_of", lambda training: fast)
    trainer = files.run("sft", killed, *SAVES)
    assert next(trainer.model.parameters()).dtype == torch.float32  # a new run would load the frozen base as bfloat16
    printed = capsys.readouterr().err
    assert "decided    as when this run began" in printed and "bits may differ from an uninterrupted run" in printed
    assert are_equal(weights(killed), weights(finished))


def test_on_another_kind_of_device_what_belongs_to_the_device_is_decided_there(files, killed, capsys):
    path = killed / "run.yaml"
    content = yaml.safe_load(path.read_text())
    content["hardware"] |= {"device": "cuda", "name": "NVIDIA H100 80GB HBM3"}
    content["decided"] |= {"attention": "sdpa", "use_cpu": False, "fused_lora": False, "block_length": 320}
    path.write_text(yaml.safe_dump(content))
    trainer = files.run("sft", killed, *SAVES)
    assert trainer.args.use_cpu and trainer.args.max_length == 320
    printed = capsys.readouterr().err
    assert "changed    attention: sdpa in this run until now, packed_sdpa here" in printed
    assert "it began on NVIDIA H100 80GB HBM3" in printed


def test_saving_may_be_chosen_for_what_is_left(files, tmp_path, unfinish):
    flags = ("--max_steps", "4", "--use_peft")
    files.run("sft", tmp_path / "out", *flags)  # saves as it is decided
    unfinish(tmp_path / "out", "checkpoint-4")
    trainer = files.run("sft", tmp_path / "out", *flags, "--save_strategy", "steps", "--save_steps", "3")
    assert not trainer.saves_by_clock and trainer.args.save_steps == 3
