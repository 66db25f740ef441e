"""A training run in a log file: a line per logging step and evaluation, a sign of life between them, no bar."""

import sys
from types import SimpleNamespace

import pytest

from ftkit.training import progress
from ftkit.training.progress import ProgressBar, ProgressLines, progress_callback


def state_at(step, first=True):
    return SimpleNamespace(global_step=step, max_steps=80, is_world_process_zero=first)


@pytest.fixture
def lines():
    return ProgressLines(SimpleNamespace(last_record={"useful_tokens_per_second": 430.2}, training_seconds=11.67))


def test_a_logging_step_is_one_line(lines, capsys):
    lines.on_log(None, state_at(20), None, logs={"loss": 1.23444, "learning_rate": 1e-4, "grad_norm": 2.0})
    assert capsys.readouterr().err == "step 20/80  loss 1.234  lr 0.0001  430 tokens/s  0:35 left\n"
    lines.on_log(None, state_at(20, first=False), None, logs={"loss": 1.0})
    lines.on_log(None, state_at(20), None, logs={"train_runtime": 1.0})
    assert capsys.readouterr().err == ""


def test_the_time_left_counts_the_steps_since_a_resume(lines, capsys):
    lines.on_train_begin(None, state_at(60), None)
    lines.on_log(None, state_at(62), None, logs={"loss": 1.0})
    assert "left" not in capsys.readouterr().err  # the first steps are slower
    lines.on_log(None, state_at(70), None, logs={"loss": 1.0})
    assert capsys.readouterr().err.endswith("0:12 left\n")


def test_a_minute_without_a_logged_step_gets_a_line(lines, capsys, monkeypatch):
    lines.on_step_end(None, state_at(5), None)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(progress.time, "monotonic", lambda: lines.last_line + 61)
    lines.on_step_end(None, state_at(6), None)
    assert capsys.readouterr().err == "step 6/80  2:24 left\n"


@pytest.mark.parametrize(
    "logs, expected",
    [
        ({}, "step 4: evaluation loss 1.2500"),
        ({"eval_rewards/accuracies": 0.75}, "step 4: evaluation loss 1.2500, 75.0% of the pairs in the right order"),
        ({"eval_f1": 0.5, "eval_accuracy": 0.75}, "step 4: evaluation loss 1.2500, accuracy 75.0%, F1 0.500"),
        (
            {"eval_bits_per_byte": 1.5, "eval_perplexity": 3.49},
            "step 4: evaluation loss 1.2500, perplexity 3.49, 1.5000 bits per byte",
        ),
    ],
)
def test_an_evaluation_is_one_line(lines, capsys, logs, expected):
    lines.on_log(None, state_at(4), None, logs={"eval_loss": 1.25, **logs})
    assert capsys.readouterr().err == expected + "\n"


def test_a_bar_is_for_terminals_alone(monkeypatch):
    for isatty, kind in ((True, ProgressBar), (False, ProgressLines)):
        monkeypatch.setattr(sys.stderr, "isatty", lambda isatty=isatty: isatty, raising=False)
        assert type(progress_callback(None)) is kind
