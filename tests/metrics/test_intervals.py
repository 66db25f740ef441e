"""Intervals against scipy's, and by hand where the answer is plain."""

import numpy as np
import pytest
from scipy import stats

from ftkit.metrics.intervals import bootstrap_interval, paired_bootstrap_difference, wilson_interval


@pytest.mark.parametrize(("successes", "n"), [(0, 1), (1, 1), (0, 25), (7, 25), (152, 204), (204, 204)])
@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_wilson_interval_equals_scipys(successes, n, confidence):
    expected = stats.binomtest(successes, n).proportion_ci(confidence_level=confidence, method="wilson")
    assert wilson_interval(successes, n, confidence) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_interval_of_half_of_ten_is_the_textbook_one():
    assert wilson_interval(5, 10) == pytest.approx((0.2366, 0.7634), abs=5e-5)


@pytest.mark.parametrize(("successes", "n"), [(3, 2), (-1, 2), (0, 0)])
def test_wilson_interval_refuses_impossible_counts(successes, n):
    with pytest.raises(ValueError, match=f"{successes} successes of {n} trials"):
        wilson_interval(successes, n)


@pytest.mark.parametrize("confidence", [0, 1, 95])
def test_confidence_must_be_a_probability(confidence):
    with pytest.raises(ValueError, match=f"confidence is {confidence}; give a number between 0 and 1"):
        wilson_interval(1, 2, confidence)


def test_bootstrap_interval_of_a_mean_equals_scipys_percentile_bootstrap():
    values = np.random.default_rng(1).exponential(size=60)
    expected = stats.bootstrap(
        (values,), np.mean, method="percentile", confidence_level=0.9, n_resamples=20_000, rng=np.random.default_rng(2)
    ).confidence_interval
    low, high = bootstrap_interval(values, seed=3, confidence=0.9, num_resamples=20_000)
    # two runs with 20,000 draws differ by about 2 % of the interval's width
    assert abs(low - expected.low) < 0.03 * (expected.high - expected.low)
    assert abs(high - expected.high) < 0.03 * (expected.high - expected.low)


def test_weighted_bootstrap_equals_scipys_bootstrap_of_the_ratio_of_sums():
    generator = np.random.default_rng(4)
    tokens = generator.integers(1, 9, size=50)
    losses = tokens * generator.exponential(size=50)
    expected = stats.bootstrap(
        (losses, tokens), lambda x, y, axis: x.sum(axis=axis) / y.sum(axis=axis), paired=True, method="percentile",
        n_resamples=20_000, rng=np.random.default_rng(5),
    ).confidence_interval  # fmt: skip
    low, high = bootstrap_interval(losses, weights=tokens, seed=6, num_resamples=20_000)
    assert abs(low - expected.low) < 0.03 * (expected.high - expected.low)
    assert abs(high - expected.high) < 0.03 * (expected.high - expected.low)


def test_bootstrap_interval_does_not_depend_on_how_the_draws_are_chunked(monkeypatch):
    values = list(range(30))
    whole = bootstrap_interval(values, seed=7, num_resamples=500)
    monkeypatch.setattr("ftkit.metrics.intervals.CHUNK_ELEMENTS", 300)
    assert bootstrap_interval(values, seed=7, num_resamples=500) == pytest.approx(whole, abs=1e-12)


def test_bootstrap_interval_of_equal_values_is_that_value():
    assert bootstrap_interval([2.5] * 8) == (2.5, 2.5)


def test_same_seed_gives_the_same_interval_and_another_seed_another():
    values = [0.3, 1.7, 1.1, 0.9, 2.2, 0.1, 0.5, 3.3]
    assert bootstrap_interval(values, seed=1) == bootstrap_interval(values, seed=1)
    assert bootstrap_interval(values, seed=1, num_resamples=99) != bootstrap_interval(values, seed=2, num_resamples=99)


def test_paired_difference_cancels_what_both_rows_have_in_common():
    hardness = np.random.default_rng(8).normal(size=40) * 100
    result = paired_bootstrap_difference(hardness, hardness + 1.0)
    assert result == pytest.approx((1.0, 1.0, 1.0), abs=1e-9)


def test_paired_difference_equals_scipys_bootstrap_of_the_differences():
    generator = np.random.default_rng(9)
    before = generator.integers(0, 2, size=80)
    after = np.maximum(before, generator.integers(0, 2, size=80))
    expected = stats.bootstrap(
        (after - before,), np.mean, method="percentile", n_resamples=20_000, rng=np.random.default_rng(10)
    ).confidence_interval
    difference, low, high = paired_bootstrap_difference(before, after, seed=11, num_resamples=20_000)
    assert difference == pytest.approx(after.mean() - before.mean())
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=0.0126)  # one row of 80


def test_the_sign_of_the_difference_is_after_minus_before():
    assert paired_bootstrap_difference([0, 0, 0], [1, 1, 1]).difference == 1.0


@pytest.mark.parametrize(
    ("values", "weights", "message"),
    [
        ([], None, "no values"),
        ([1.0, float("nan")], None, "not a finite number"),
        ([1.0, 2.0], [1.0], "2 values and 1 weights"),
        ([1.0, 2.0], [0, 0], "must not all be 0"),
        ([1.0, 2.0], [-1, 2], "must not be negative"),
    ],
)
def test_bootstrap_refuses_values_without_a_mean(values, weights, message):
    with pytest.raises(ValueError, match=message):
        bootstrap_interval(values, weights=weights)


def test_paired_difference_refuses_unequal_lengths():
    with pytest.raises(ValueError, match="2 values before and 1 after"):
        paired_bootstrap_difference([1, 2], [1])
