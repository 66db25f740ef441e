"""Kills by number: what counts as a moment, that a process ends at the one that is asked for, and what is compared."""

import os
import shutil
import signal

import pytest

from ftkit.config.jsonl import write_jsonl
from ftkit.runs.killing import Moments, Trial, fork, result_of


class Writes(Trial):
    """Stands for a training: writes, renames and removes files in OUT and beside it."""

    def run(self, kill_at, record=None):
        moments = Moments(self.folder, kill_at, self.work / "moments")
        moments.start()
        self.folder.mkdir()
        self.folder.mkdir(exist_ok=True)  # makes nothing
        (self.work / "beside").write_text("")
        (self.folder / "a").write_text("1")
        (self.folder / "a").read_text()
        os.replace(self.folder / "a", self.folder / "b")
        (self.folder / "sub").mkdir()
        (self.folder / "sub/c").touch()
        shutil.rmtree(self.folder / "sub")  # names what it removes relative to a folder
        own = {
            name: os.getpid() for name in ("peak_memory_gib", "useful_tokens_per_second", "sampled_tokens_per_second")
        }
        write_jsonl(self.folder / "metrics.jsonl", [{"step": 1, "loss": 2.5, **own}])
        (self.folder / "model.safetensors").write_bytes(b"weights")
        return int((self.folder / "left").exists())


@pytest.fixture
def trial(tmp_path):
    return Writes("sft", (), tmp_path)


MOMENTS = ["mkdir .", "open a", "rename a", "mkdir sub", "open sub/c", "rmtree sub", "remove sub/c", "rmdir sub"]


def test_what_changes_below_the_folder_is_a_moment(trial):
    assert trial.reference().moments[: len(MOMENTS)] == MOMENTS


@pytest.mark.parametrize("number", range(1, len(MOMENTS) + 1))
def test_the_process_is_killed_before_the_change_is_made(trial, number):
    assert trial.start(number) == -signal.SIGKILL
    assert trial.moments() == MOMENTS[:number]
    there = {str(path.relative_to(trial.folder)) for path in trial.folder.rglob("*")}
    expected = [set(), set(), {"a"}, {"b"}, {"b", "sub"}, {"b", "sub", "sub/c"}, {"b", "sub", "sub/c"}, {"b", "sub"}]
    assert there == expected[number - 1]


def test_a_run_that_goes_on_differently_or_not_at_all_is_wrong(trial):
    expected = trial.reference()
    assert result_of(trial.folder).differences(expected.result) == []
    point = trial.kill(expected, [1])
    assert point.is_right and point.at == ["mkdir ."] and point.status == 0
    point = trial.kill(expected, [3])  # it can't make the folder that is there
    assert point.status == 1 and not point.is_right and "FileExistsError" in point.log
    (trial.folder / "model.safetensors").write_bytes(b"others")
    (trial.folder / "left").touch()
    write_jsonl(trial.folder / "metrics.jsonl", [{"step": 1, "loss": 2.5000001}])
    (trial.folder / "b").touch()
    assert result_of(trial.folder).differences(expected.result) == ["losses", "weights", "files", "a", "left"]


class HalfCheckpoint(Trial):
    """Stands for a training that makes a checkpoint visible before it is whole, and is killed then."""

    def run(self, kill_at, record=None):
        Moments(self.folder, kill_at, self.work / "moments").start()
        os.makedirs(self.folder / "checkpoint-3", exist_ok=True)
        (self.folder / "checkpoint-3/manifest.json").touch()
        return 0


def test_a_visible_checkpoint_that_is_not_whole_is_named(tmp_path):
    trial = HalfCheckpoint("sft", (), tmp_path)
    point = trial.kill(trial.reference(), [3])
    assert point.at == ["open checkpoint-3/manifest.json"] and not point.is_right
    assert point.invalid == ["checkpoint-3/manifest.json: missing"]


def test_a_fork_keeps_its_errors_to_itself(tmp_path):
    process = fork(lambda: 1 / 0, tmp_path / "log")
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 1
    assert "ZeroDivisionError" in (tmp_path / "log").read_text()
