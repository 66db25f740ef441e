"""Tests, intervals and power of paired scores: by hand, from the literature, against scipy, and by simulation."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from ftkit.metrics.paired_tests import (
    best_of_bias,
    detectable_mean_difference,
    detectable_share_difference,
    expanded_confidence,
    holm,
    mcnemar_p,
    mcnemar_power,
    mean_difference,
    mean_of_tasks,
    share_difference,
    sign_flip_p,
    smallest_provable_share,
)


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (1, 7), (7, 1), (5, 0), (4, 4), (15, 4), (300, 251)])
def test_mid_p_is_the_exact_binomial_p_less_the_chance_of_the_result_itself(gained, lost):
    if gained == lost:
        assert mcnemar_p(gained, lost) == pytest.approx(1.0)
        return
    exact = stats.binomtest(gained, gained + lost).pvalue
    assert mcnemar_p(gained, lost) == pytest.approx(exact - stats.binom.pmf(gained, gained + lost, 0.5), abs=1e-12)


def test_p_and_interval_of_the_airway_data_are_those_in_the_literature():
    # Bentur et al., 21 children: 1 changed one way, 7 the other (Fagerland, Lydersen & Laake 2013 and 2014)
    assert mcnemar_p(1, 7) == pytest.approx(0.039, abs=5e-4)
    assert share_difference(1, 7, 21) == pytest.approx((-6 / 21, -0.517, -0.026), abs=5e-4)


def test_share_interval_is_mirrored_when_before_and_after_change_places():
    there, back = share_difference(9, 3, 40), share_difference(3, 9, 40)
    assert (-back.low, -back.high) == pytest.approx((there.high, there.low), abs=1e-6)


@pytest.mark.parametrize(("gained", "lost", "bound"), [(12, 0, 1.0), (0, 12, -1.0)])
def test_share_interval_reaches_the_end_where_every_item_changed_one_way(gained, lost, bound):
    interval = share_difference(gained, lost, 12)
    assert bound in (interval.low, interval.high) and interval.difference == bound


def test_a_p_value_below_5_percent_never_meets_an_interval_that_holds_0():
    for n in (12, 60):
        for gained, lost in itertools.product(range(n + 1), repeat=2):
            if gained + lost <= n and mcnemar_p(gained, lost) <= 0.05:
                interval = share_difference(gained, lost, n)
                assert not interval.low <= 0 <= interval.high, (gained, lost, n)


@pytest.mark.parametrize(("gained", "lost", "n"), [(-1, 2, 5), (3, 3, 5)])
def test_counts_that_do_not_fit_are_refused(gained, lost, n):
    with pytest.raises(ValueError, match=f"{gained} gained and {lost} lost of {n} items; give counts that fit"):
        share_difference(gained, lost, n)


def test_power_is_the_sum_over_all_outcomes_that_pass():
    n, difference, changed = 12, 0.4, 0.5
    up, down = (changed + difference) / 2, (changed - difference) / 2
    expected = sum(
        stats.multinomial.pmf([gained, lost, n - gained - lost], n, [up, down, 1 - changed])
        for gained, lost in itertools.product(range(n + 1), repeat=2)
        if gained + lost <= n and gained > lost and mcnemar_p(gained, lost) <= 0.05
    )
    assert mcnemar_power(n, difference, changed) == pytest.approx(expected, abs=1e-12)
    assert mcnemar_power(n, -difference, changed) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("difference", "changed", "n"), [(0.3, 0.2, 10), (0, 0.2, 10), (0.1, 0.2, 0)])
def test_power_of_an_impossible_difference_is_refused(difference, changed, n):
    with pytest.raises(ValueError, match=f"a difference of {difference} with {changed} of {n} items changed"):
        mcnemar_power(n, difference, changed)


def test_37_items_cannot_show_less_than_14_points():
    assert smallest_provable_share(37) == pytest.approx(5 / 37)  # 0.135
    assert mcnemar_p(5, 0) <= 0.05 < mcnemar_p(4, 0)


@pytest.mark.parametrize("n", [30, 100, 1000])
def test_the_detectable_difference_has_the_stated_power(n):
    found = detectable_share_difference(n, 0.2)
    assert mcnemar_power(n, found, max(0.2, found)) == pytest.approx(0.8, abs=1e-3)


def test_three_items_detect_nothing():
    assert detectable_share_difference(3, 0.5) is None
    assert smallest_provable_share(3) > 1


def test_so_few_items_that_no_signs_pass_detect_nothing():
    differences = np.random.default_rng(0).normal(size=8)
    assert detectable_mean_difference(differences) > 0
    assert detectable_mean_difference(differences[:6]) is None  # p is 2/64 at least: only where all signs agree
    assert detectable_mean_difference(differences, alpha=0.005) is None


def test_equal_weights_change_no_detectable_difference():
    differences = [0.1, -0.4, 0.3, 0.9]
    assert detectable_mean_difference(differences, [3, 3, 3, 3]) == pytest.approx(
        detectable_mean_difference(differences)
    )


def test_mean_difference_of_weighted_items_is_the_difference_of_weighted_means():
    result = mean_difference([1.0, 2.0, 4.0], [2.0, 2.0, 3.0], weights=[1, 1, 2])
    assert result.difference == pytest.approx((1 + 0 - 2) / 4)
    assert result.low <= result.difference <= result.high


def test_one_item_has_no_interval():
    assert mean_difference([1.0], [1.5]) == (0.5, -math.inf, math.inf)


def test_the_interval_of_few_items_is_students_of_all_and_of_one_changed_either_way():
    expected = stats.ttest_1samp([0.25, 0, 0, -0.25, 0.25], 0)  # three items, and a quarter up and down
    half = stats.t.ppf(0.975, 2) * expected.statistic**-1 * 0.05
    result = mean_difference([0.5, 0.5, 0.5], [0.75, 0.5, 0.5])
    assert result == pytest.approx((0.25 / 3, 0.05 - half, 0.05 + half))


def test_an_interval_has_a_width_where_nothing_changed():
    for n in (5, 50):
        interval = mean_difference([0.5] * n, [0.5] * n)
        assert interval.low < -0.02 and interval.high > 0.02


def test_quarter_steps_of_few_items_are_covered():
    generator = np.random.default_rng(0)
    covered = 0
    for _ in range(300):
        steps = generator.choice([0.25, -0.25, 0.0], p=[0.015, 0.005, 0.98], size=37)
        interval = mean_difference(np.zeros(37), steps)
        covered += interval.low <= 0.25 * 0.01 <= interval.high
    assert covered >= 0.935 * 300


def test_the_best_of_equally_good_runs_is_too_good_by_the_mean_of_the_largest_normal():
    assert best_of_bias(1) == 0
    assert best_of_bias(2) == pytest.approx(1 / math.sqrt(math.pi) / math.sqrt(2))  # of two: 1 / sqrt(pi)
    draws = np.random.default_rng(0).normal(size=(100_000, 4)).max(axis=1).mean()
    assert best_of_bias(4) == pytest.approx(draws / math.sqrt(2), abs=0.01)


def test_the_widened_bootstrap_is_the_t_interval_for_normal_differences():
    differences = np.random.default_rng(5).normal(size=30)
    expected = stats.ttest_1samp(differences, 0).confidence_interval()
    result = mean_difference(np.zeros(30), differences)
    width = expected.high - expected.low
    assert abs(result.low - expected.low) < 0.06 * width and abs(result.high - expected.high) < 0.06 * width
    assert expanded_confidence(1) == 0.95 < expanded_confidence(30) < expanded_confidence(5)


def test_sign_flips_of_few_items_are_all_tried():
    assert sign_flip_p([1.0, 2.0, 3.0]) == 2 / 8
    assert sign_flip_p([1.0, 2.0, -3.0]) == 1.0
    assert sign_flip_p([0.0, 0.0]) == 1.0


def test_sign_flips_of_many_items_agree_with_scipys_permutation_test():
    differences = np.random.default_rng(1).normal(size=60) + 0.25
    expected = stats.permutation_test(
        (differences, np.zeros(60)), lambda x, y, axis: (x - y).mean(axis=axis), permutation_type="samples",
        n_resamples=20_000, rng=np.random.default_rng(2),
    ).pvalue  # fmt: skip
    assert sign_flip_p(differences, num_resamples=20_000) == pytest.approx(expected, abs=0.01)


def test_sign_flips_do_not_depend_on_how_the_draws_are_chunked(monkeypatch):
    differences = np.random.default_rng(3).normal(size=30)
    whole = sign_flip_p(differences)
    monkeypatch.setattr("ftkit.metrics.paired_tests.CHUNK_ELEMENTS", 30 * 7)
    assert sign_flip_p(differences) == pytest.approx(whole, abs=0.02)


def test_holm_multiplies_by_the_number_of_tests_that_are_left():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def test_the_mean_of_tasks_counts_each_task_the_same():
    mean = mean_of_tasks([[1.0] * 10, [0.0] * 30])
    assert mean.difference.difference == pytest.approx(0.5)
    # one item gained and one lost added: means 10/12 and 0, variances by hand
    variance = (11 * (1 - 5 / 6) ** 2 + (1 + 5 / 6) ** 2) / 11 / 12 + (2 / 31) / 32
    half = 1.959964 * math.sqrt(variance) / 2
    assert mean.difference[1:] == pytest.approx((5 / 12 - half, 5 / 12 + half), abs=1e-6)
    assert mean.p == 2 / 2**10


def test_the_mean_of_tasks_stays_open_where_nothing_changed():
    mean = mean_of_tasks([[0.0] * 20, [0.0] * 20])
    assert mean.p == 1.0 and mean.difference.low < -0.02 < 0.02 < mean.difference.high


def test_the_mean_of_tasks_of_losses_is_that_of_their_means_and_variances():
    tasks = [np.random.default_rng(seed).normal(loc=0.3, size=40) for seed in (0, 1)]
    mean = mean_of_tasks(tasks)
    error = math.sqrt(sum(stats.sem(values) ** 2 for values in tasks)) / 2
    center = (tasks[0].mean() + tasks[1].mean()) / 2
    assert mean.difference == pytest.approx((center, center - 1.959964 * error, center + 1.959964 * error))


def test_items_asked_in_two_tasks_are_one():
    values, asked = [1.0] * 6 + [0.0] * 24, [str(n) for n in range(30)]
    apart, together = mean_of_tasks([values, values]), mean_of_tasks([values, values], [asked, asked])
    alone = mean_of_tasks([values])
    assert together.p == alone.p == 2 / 2**6 > apart.p
    assert together.difference.difference == pytest.approx(alone.difference.difference)
    assert apart.standard_error < together.standard_error <= alone.standard_error
