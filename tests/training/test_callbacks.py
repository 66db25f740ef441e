"""metrics.jsonl holds what the trainer logged, once; samples are kept."""

import json
from types import SimpleNamespace

import pytest
import torch

from ftkit.training.callbacks import MetricsCallback, SampleCallback, one_line, peak_memory_gib


def state_at(step):
    return SimpleNamespace(global_step=step, is_world_process_zero=True)


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_log_becomes_one_line_with_the_contract_keys(tmp_path):
    callback = MetricsCallback(str(tmp_path))
    callback.training_seconds = 2.0
    logs = {"loss": 1.5, "learning_rate": 1e-4, "grad_norm": 0.5, "num_tokens": 300.0, "entropy": 1.0}
    callback.on_log(None, state_at(10), None, logs=logs)
    callback.on_log(None, state_at(10), None, logs={"eval_loss": 1.25, "eval_runtime": 3.0})
    first, second = lines(tmp_path / "metrics.jsonl")
    assert first.pop("peak_memory_gib") > 0.01
    assert first == {
        "step": 10, "loss": 1.5, "learning_rate": 1e-4, "grad_norm": 0.5, "tokens": 300,
        "useful_tokens_per_second": 150.0,
    }  # fmt: skip
    assert second == {"step": 10, "eval_loss": 1.25}


def test_tokens_per_second_cover_the_time_since_the_last_line(tmp_path):
    callback = MetricsCallback(str(tmp_path))
    for step, (seconds, tokens) in enumerate([(1.0, 100.0), (3.0, 500.0)], start=1):
        callback.training_seconds = seconds
        callback.on_log(None, state_at(step), None, logs={"loss": 1.0, "num_tokens": tokens})
    assert [line["useful_tokens_per_second"] for line in lines(tmp_path / "metrics.jsonl")] == [100.0, 200.0]


def test_a_gradient_norm_that_is_no_number_is_null(tmp_path):
    MetricsCallback(str(tmp_path)).on_log(None, state_at(7), None, logs={"loss": 1.0, "grad_norm": float("nan")})
    assert lines(tmp_path / "metrics.jsonl")[0]["grad_norm"] is None


def test_a_resumed_run_drops_the_lines_it_does_again(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(f'{{"step": {step}, "loss": 1.0}}\n' for step in (1, 2, 3)))
    MetricsCallback(str(tmp_path)).on_train_begin(None, state_at(2), None)
    assert [line["step"] for line in lines(path)] == [1, 2]


@pytest.mark.parametrize("name", ["metrics.jsonl", "samples.jsonl"])
def test_records_are_rolled_back_to_the_checkpoint_and_a_cut_line_goes(tmp_path, name):
    path = tmp_path / name
    callback = MetricsCallback(str(tmp_path)) if name == "metrics.jsonl" else SampleCallback(str(tmp_path), [], list)
    whole = "".join(f'{{"step": {step}, "loss": 1.0}}\n' for step in (0, 1, 1, 2))
    for tail in ('{"step": 3, "lo', '{"step": 3}', "\x00\x00"):
        path.write_text(whole + tail)
        callback.on_train_begin(None, state_at(1), None)
        assert [line["step"] for line in lines(path)] == [0, 1, 1]
    callback.on_train_begin(None, state_at(0), None)  # nothing that was done before a first checkpoint
    assert path.read_text() == ""


def test_the_first_speed_after_a_resume_counts_the_tokens_since(tmp_path):
    callback = MetricsCallback(str(tmp_path), lambda: 900)
    callback.on_step_begin(None, state_at(3), None)
    callback.training_seconds = 2.0
    callback.on_log(None, state_at(4), None, logs={"loss": 1.0, "num_tokens": 1000.0})
    assert lines(tmp_path / "metrics.jsonl")[0]["useful_tokens_per_second"] == 50.0


def test_samples_are_answered_printed_and_kept(tmp_path, capsys):
    questions = [{"prompt": "Plural of\nmouse?", "reference": "mice"}]
    callback = SampleCallback(str(tmp_path), questions, answer=lambda model: [f"{model} says mice"])
    callback.on_evaluate(None, state_at(4), None, model="model")
    assert lines(tmp_path / "samples.jsonl") == [{"step": 4, **questions[0], "answer": "model says mice"}]
    assert "Plural of mouse?" in capsys.readouterr().err


def test_one_line_cuts_and_flattens():
    assert one_line("a\n b", 10) == "a b"
    assert one_line("abcdefgh", 5) == "abcd…"


def test_peak_memory_is_this_process():
    assert 0.05 < peak_memory_gib() < 64


def test_peak_memory_of_a_run_on_the_cpu_of_a_gpu_machine_is_not_the_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 0)
    assert peak_memory_gib() > 0.05
