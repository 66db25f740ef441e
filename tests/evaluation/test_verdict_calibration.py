"""The verdict's error rates, by simulation: false alarms, coverage and power are what they are said to be."""

import importlib.util
import sys
from pathlib import Path

import pytest

from ftkit.metrics.paired_tests import detectable_share_difference

SCRIPT = Path(__file__).parents[1] / "benchmarks/verdict_calibration.py"
spec = importlib.util.spec_from_file_location("verdict_calibration", SCRIPT)
calibration = sys.modules["verdict_calibration"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(calibration)

SMALL = [30, 200]
ALL = [size for size in calibration.SIZES if size not in SMALL]


def check_sizes(num_items: int, num_runs: int) -> None:
    null = calibration.right_or_wrong(num_items, 0.0, num_runs)
    assert null["false alarms"].share <= 0.05 + 0.015
    assert null["covered"].share >= 0.935
    planted = detectable_share_difference(num_items, calibration.CHANGED)
    gain = calibration.right_or_wrong(num_items, planted, num_runs, changed=max(calibration.CHANGED, planted))
    assert gain["found"].share == pytest.approx(0.8, abs=0.03)
    assert gain["covered"].share >= 0.935


@pytest.mark.parametrize("num_items", SMALL)
def test_scores_of_0_and_1_keep_their_rates(num_items):
    check_sizes(num_items, 4000)


@pytest.mark.slow
@pytest.mark.parametrize("num_items", ALL)
def test_scores_of_0_and_1_keep_their_rates_at_all_sizes(num_items):
    check_sizes(num_items, 20_000)


def test_power_is_exact_for_other_gains_and_changes():
    found = calibration.right_or_wrong(150, 0.06, 4000, changed=0.1)["found"]
    assert found.share == pytest.approx(found.expected, abs=0.03)


@pytest.mark.slow
def test_graded_scores_keep_their_rates():
    null = calibration.graded(30, 0.0, 400)
    assert null["false alarms"].share <= 0.05 + 0.03  # 400 runs: two standard errors are 2.2 %
    assert null["covered"].share >= 0.92


@pytest.mark.slow
@pytest.mark.parametrize(("num_tasks", "num_befores"), [(1, 1), (4, 1), (1, 2), (4, 2)])
def test_whole_verdicts_raise_few_false_alarms(num_tasks, num_befores):
    outcomes = calibration.whole_verdicts(num_tasks, 100, num_befores, 0.0, 600)
    assert (outcomes.get("better", 0) + outcomes.get("worse", 0)) / 600 <= 0.05 + 0.015
