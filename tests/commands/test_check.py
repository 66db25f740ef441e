"""`ftkit check RUN --resume`: a short piece of a run is killed and goes on; mistakes are one line."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ftkit.cli import dispatch
from ftkit.config.jsonl import write_jsonl
from ftkit.config.parser import run
from ftkit.config.run_folder import RunRecord, write_run_yaml
from ftkit.runs import killing, resume_check
from ftkit.runs.killing import FreshTrial, Trial
from ftkit.runs.resume_check import chosen_moments, short_piece

ASKED = {
    "model_name_or_path": "M", "dataset_name": "D", "num_train_epochs": 3, "push_to_hub": True, "output_dir": "OUT",
    "save_steps": 500, "learning_rate": 0.5, "report_to": "wandb", "max_tokens": 1e6,
}  # fmt: skip
MOMENTS = ["mkdir .", "open run.yaml", "gradients of step 1", "end of step 1", "gradients of step 2", "end of step 2"]
MOMENTS += [f"open {number}" for number in range(6)]


@pytest.fixture
def run_folder(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    write_run_yaml(str(folder), RunRecord("sft", ASKED, {"eval_strategy": "epoch"}))
    return folder


class Pretended(Trial):
    """Stands for a training. What goes on after the kill at `bad_kill` ends with `status` and has `weights`."""

    attempts: list = []
    bad_kill, status, weights = -1, 0, b"good"

    def start(self, kill_at):
        is_bad = self.attempts[-1:] == [self.bad_kill]
        self.attempts.append(kill_at)
        self.folder.mkdir(exist_ok=True)
        (self.folder / "run.yaml").write_text("decided")
        (self.folder / "model.safetensors").write_bytes(self.weights if is_bad else b"good")
        (self.work / "moments").write_text("\n".join(MOMENTS[: kill_at or None]) + "\n")
        (self.work / "log").write_text("first line\nthe last line")
        return -signal.SIGKILL if kill_at else self.status * is_bad


@pytest.fixture
def pretended(monkeypatch):
    """Trials of which none trains, and what they were asked for."""
    monkeypatch.setattr(
        resume_check,
        "make_trial",
        lambda command, work, use_cpu: Pretended(command, ("--config", str(work / "run.yaml")), work),
    )
    monkeypatch.setattr(Pretended, "attempts", [])
    return Pretended


def test_steps_and_events_are_killed_and_one_line_says_that_all_went_on(pretended, run_folder, capsys):
    dispatch(["check", str(run_folder), "--resume", "--kills", "4"])
    assert pretended.attempts == [0, 4, 0, 6, 0, 7, 0, 11, 0]  # the reference, then each kill and what goes on
    printed = capsys.readouterr()
    assert printed.out == (
        f"{run_folder}: 4 kills; every checkpoint whole, the same command went on, same losses and weights\n"
    )
    assert "killed at end of step 1: as if never killed" in printed.err


OUTCOMES = {
    "weights": ({"weights": b"other"}, "goes on, with different weights"),
    "no end": ({"status": 2}, "the same command ends with 2: the last line"),
}


@pytest.mark.parametrize(("outcome", "line"), OUTCOMES.values(), ids=OUTCOMES)
def test_a_kill_that_changes_the_result_is_exit_1(outcome, line, pretended, run_folder, capsys, monkeypatch):
    for name, value in (outcome | {"bad_kill": 5}).items():
        monkeypatch.setattr(pretended, name, value)
    with pytest.raises(SystemExit) as ended:
        dispatch(["check", str(run_folder), "--resume", "--kills", "2"])
    printed = capsys.readouterr()
    assert ended.value.code == 1 and f"killed at gradients of step 2: {line}\n" in printed.err
    assert printed.out == f"{run_folder}: 1 of 2 kills changed the result\n"


def test_runs_that_differ_without_a_kill_are_named_as_such(pretended, run_folder, capsys, monkeypatch):
    real, runs = pretended.start, []

    def start(trial, kill_at):
        status = real(trial, kill_at)
        runs.append(kill_at)
        (trial.folder / "model.safetensors").write_bytes(str(len(runs)).encode())
        return status

    monkeypatch.setattr(pretended, "start", start)
    with pytest.raises(SystemExit):
        dispatch(["check", str(run_folder), "--resume", "--kills", "1"])
    assert runs == [0, 9, 0, 0]  # once more without a kill
    first, second = capsys.readouterr().out.strip().split("\n")
    assert first.endswith("1 of 1 kills changed the result")
    assert second.startswith("two runs that nobody killed differ as well") and "--full_determinism" in second


def test_the_piece_has_the_settings_of_the_run_but_its_length(run_folder):
    piece = short_piece(resume_check.trained_run(run_folder)[1])
    assert piece == {
        "model_name_or_path": "M", "dataset_name": "D", "learning_rate": 0.5, "max_steps": 6, "save_strategy": "steps",
        "save_steps": 2, "logging_strategy": "steps", "logging_steps": 1, "disable_tqdm": True, "eval_strategy": "steps",
        "eval_steps": 2,
    }  # fmt: skip


def test_where_each_evaluation_saves_no_steps_of_saving_are_asked_for():
    piece = short_piece(RunRecord("classify", {"early_stopping_patience": 2}, {"eval_strategy": "epoch"}))
    assert piece["eval_steps"] == 2 and not {"save_strategy", "save_steps"} & piece.keys()


def test_moments_are_chosen_evenly_from_steps_and_events():
    assert chosen_moments(MOMENTS, 4) == [4, 6, 7, 11]
    assert chosen_moments(MOMENTS, 1) == [9]
    assert chosen_moments(MOMENTS, 100) == list(range(1, len(MOMENTS) + 1))


MISTAKES = {
    "no folder": (["nosuch", "--resume"], "nosuch: no such folder; give the output folder of a training run"),
    "no run": (["empty", "--resume"], "empty: holds no run.yaml; give the output folder of a training run"),
    "a file": (["file", "--resume"], "file: no such folder"),
    "no trainer": (["bench", "--resume"], "bench/run.yaml: of no trainer (bench); known are sft, "),
    "nothing to check": (["run"], "what is to be checked is missing; give ftkit check run --resume"),
    "no kills": (["run", "--resume", "--kills", "0"], "--kills is 0; give 1 or more"),
    "can't be trained": (["run", "--resume"], "run: a short piece of this run can't be trained: the last line"),
}  # fmt: skip


@pytest.mark.parametrize(("argv", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line_and_exit_2(argv, message, pretended, run_folder, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pretended, "start", lambda *_: 2)
    monkeypatch.setattr(pretended, "last_lines", lambda _: "the last line")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "bench").mkdir()
    write_run_yaml("bench", RunRecord("bench", {}))
    assert run(dispatch, ["check", *argv]) == 2
    last = capsys.readouterr().err.strip().split("\n")[-1]
    assert message in last


@pytest.mark.parametrize(("accelerator", "use_cpu", "kind"), [(True, False, FreshTrial), (True, True, Trial), (False, False, Trial)])  # fmt: skip
def test_runs_are_forked_on_a_cpu_alone(accelerator, use_cpu, kind, monkeypatch, tmp_path):
    monkeypatch.setattr("ftkit.config.launch.has_accelerator", lambda: accelerator)
    monkeypatch.setattr(resume_check, "get_ready", lambda *_, **__: None)
    monkeypatch.setattr(sys, "platform", "linux")
    assert type(resume_check.make_trial("sft", tmp_path, use_cpu=use_cpu)) is kind


@pytest.mark.slow
@pytest.mark.parametrize("fresh", [False, True], ids=["forks", "processes"])
def test_a_real_run_is_killed_and_goes_on(fresh, tiny_folder, word_rows, tmp_path):
    write_jsonl(tmp_path / "rows.jsonl", word_rows)
    dispatch([
        "sft", "--model_name_or_path", str(tiny_folder), "--dataset_name", str(tmp_path / "rows.jsonl"), "--output_dir",
        str(tmp_path / "run"), *"--template alpaca --max_steps 1 --use_peft --lora_dropout 0.1 --test_size 4".split(),
    ])  # fmt: skip
    code = "import sys; from ftkit.cli import main; main()"
    if fresh:
        code = f"from ftkit.config import launch; launch.has_accelerator = lambda: True; {code}"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(killing.__file__).parents[2])}
    command = [sys.executable, "-c", code, "check", str(tmp_path / "run"), "--resume", "--kills", "2"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("2 kills; every checkpoint whole, the same command went on, same losses and weights\n")
    assert done.stderr.count("as if never killed") == 2
    assert yaml.safe_load((tmp_path / "run/run.yaml").read_text())["asked"]["max_steps"] == 1  # the run is left alone
