"""What the benchmarks compute: ratios and their interval, the report's sections, flops, and that the peers are the same model."""

import importlib
import math
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent


@pytest.fixture(autouse=True)
def benchmarks_on_path(monkeypatch):
    monkeypatch.syspath_prepend(str(HERE))


def test_a_paired_ratio_is_the_geometric_mean_with_students_interval():
    import measuring

    # logs: 0, ln 4; mean ln 2; standard error ln 2 (n = 2); t(0.975, 1) = 12.7062
    ratio = measuring.paired_ratio([1.0, 4.0], [1.0, 1.0])
    assert ratio.mean == pytest.approx(2.0)
    assert ratio.low == pytest.approx(2.0 * math.exp(-12.7062 * math.log(2)), rel=1e-4)
    assert ratio.high == pytest.approx(2.0 * math.exp(12.7062 * math.log(2)), rel=1e-4)


def test_noise_that_both_sides_share_does_not_widen_the_interval():
    import measuring

    ratio = measuring.paired_ratio([2.0, 20.0, 6.0], [1.0, 10.0, 3.0])
    assert (ratio.low, ratio.mean, ratio.high) == pytest.approx((2.0, 2.0, 2.0))


def test_every_method_runs_once_as_warm_up_and_once_in_every_round():
    import measuring

    calls = []
    times = measuring.alternate({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 3)
    assert len(times["a"]) == len(times["b"]) == 3
    assert calls[:4] == ["a", "b", "a", "b"] and calls[4:6] == ["b", "a"]
    assert calls.count("a") == calls.count("b") >= 4


def test_a_section_replaces_its_last_version_and_leaves_the_others(tmp_path):
    import measuring

    path = tmp_path / "RESULTS.md"
    path.write_text("# Measured\n\n## By hand\n\nkept\n")
    measuring.write_section("C1", "step", "first", path)
    measuring.write_section("C2", "other", "second", path)
    once = path.read_text()
    measuring.write_section("C1", "step", "first", path)
    assert path.read_text() == once
    measuring.write_section("C1", "step", "newer", path)
    text = path.read_text()
    assert "kept" in text and "second" in text and "newer" in text and "first" not in text
    assert text.index("By hand") < text.index("## C1: step") < text.index("## C2: other")


def test_peak_memory_of_work_is_what_it_allocates():
    import measuring

    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("needs Linux")
    grown = measuring.peak_of(lambda: bytearray(64 * 2**20))
    assert 60 < grown < 90


def test_flops_of_a_step_are_those_of_its_matrix_products():
    from train_step import Shape

    shape = Shape(vocab_size=10, batch=1, tokens=4, hidden_size=8, num_layers=1, num_heads=2, context=4)
    # forward a token: 2 * (12 * 8 * 8 + 10 * 8) for the weights, 2 * 2 * 4 * 8 for scores and mixing; backward is twice
    assert shape.flops == 4 * 3 * (2 * (12 * 64 + 80) + 2 * 2 * 4 * 8)


def test_all_methods_of_a_training_step_have_one_loss():
    import train_step
    from trl.trainer import utils as trl_utils

    if not hasattr(trl_utils, "add_fused_lm_head"):
        pytest.skip("needs TRL 1.16")

    shape = train_step.QUICK
    first, second = {}, {}
    for name in train_step.METHODS:
        step = train_step.make_step(name, shape)
        first[name], second[name] = step().item(), step().item()
    expected = first.pop(train_step.TUNED)
    first.pop(train_step.NOT_COMPARABLE)
    assert first == pytest.approx(dict.fromkeys(first, expected), rel=1e-5)
    after = second.pop(train_step.TUNED)
    second.pop(train_step.NOT_COMPARABLE)
    assert second == pytest.approx(dict.fromkeys(second, after), rel=1e-5)


def test_losses_that_part_stop_the_benchmark():
    import train_step

    losses = {name: [2.0, 1.9] for name in train_step.METHODS}
    assert train_step.check_losses(losses, 1e-4) == 0
    losses[train_step.NOT_COMPARABLE] = [3.0, 2.9]
    assert train_step.check_losses(losses, 1e-4) == 0
    losses[train_step.PLAIN] = [2.1, 1.9]
    with pytest.raises(SystemExit, match="the losses part"):
        train_step.check_losses(losses, 1e-4)


def test_the_heads_have_one_loss_and_one_gradient():
    import loss_head

    shape = loss_head.SHAPES["quick"]
    tensors = loss_head.inputs(shape, frozen=False)
    pytest.importorskip("trl.kernels")
    losses = [loss_head.METHODS[name](*tensors).item() for name in loss_head.METHODS]
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-5)
    assert loss_head.gradient_error(shape, frozen=False) < 1e-5


def test_every_benchmark_is_a_module_with_a_report_and_gpu_ones_are_skipped_without_one(monkeypatch, capsys):
    import run
    import torch

    for module, _ in run.BENCHMARKS.values():
        assert callable(importlib.import_module(module).report)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["run.py", "--only", "G1,g8,C4"])
    monkeypatch.setattr(run, "quiet", lambda: None)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    threads = torch.get_num_threads()
    run.main()
    torch.set_num_threads(threads)
    said = capsys.readouterr().err
    assert "G1: skipped, no CUDA device" in said and "G8: skipped" in said and "C4: skipped, needs --rows" in said


def test_an_unknown_benchmark_is_refused():
    import run

    with pytest.raises(SystemExit, match="C99: no such benchmark; allowed: C1"):
        run.chosen("C1,C99")
