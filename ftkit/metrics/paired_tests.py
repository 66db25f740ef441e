"""Did paired scores change, and could so few items have shown it: tests, intervals, power, several tasks at once.

    mcnemar_p(num_gained=15, num_lost=4)           # 0.012
    share_difference(15, 4, num_items=100)         # 0.11 with its 95 % interval
    detectable_share_difference(100, 19 / 100)     # 0.13, found 4 times in 5

Row i of before and after is the same question. A 0/1 score has gained items (wrong, then right) and lost ones.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ftkit.metrics.intervals import (
    CHUNK_ELEMENTS,
    NUM_RESAMPLES,
    Difference,
    bootstrap_interval,
    check_confidence,
    paired_bootstrap_difference,
)

ALPHA = 0.05
TINY = 1e-12
Z = 1.959964  # standard errors on each side of a normal 95 % interval
FEW = 10  # items, below which drawing them again shows less than Student's t
POWER = 0.8  # a difference counts as detectable when it is found 4 times in 5


def mcnemar_p(num_gained: int, num_lost: int) -> float:
    """Two-sided mid-p value of McNemar's test: could as many gained and lost items come from a fair coin?

    Its false alarms stay near the nominal rate from few items on, where the exact test is needlessly conservative and
    the chi-square one too bold. 1.0 where nothing changed. Raises ValueError for negative counts.
    Source: Fagerland, Lydersen & Laake 2013, doi:10.1186/1471-2288-13-91.
    """
    from scipy.stats import binom

    check_counts(num_gained, num_lost, num_gained + num_lost)
    num_changed, fewer = num_gained + num_lost, min(num_gained, num_lost)
    return float(min(1.0, 2 * binom.cdf(fewer, num_changed, 0.5) - binom.pmf(fewer, num_changed, 0.5)))


def share_difference(num_gained: int, num_lost: int, num_items: int, confidence: float = 0.95) -> Difference:
    """Share after - share before, with Tango's score interval for paired shares.

    It leaves 0 out wherever `mcnemar_p` is at most 1 - confidence. Raises ValueError for counts that do not
    fit. Source: Tango 1998, Statistics in Medicine 17, 891-908.
    """
    from scipy.optimize import brentq
    from scipy.stats import norm

    check_confidence(confidence)
    check_counts(num_gained, num_lost, num_items)
    gained, lost, n = num_gained, num_lost, num_items
    z = norm.ppf((1 + confidence) / 2)
    estimate = (gained - lost) / n

    def distance(difference: float) -> float:
        """Standard errors between the estimate and a true difference, with the shares that fit it best."""
        b = (2 * n - gained + lost) * difference - gained - lost
        c = -lost * difference * (1 - difference)
        share_lost = (math.sqrt(max(0.0, b * b - 8 * n * c)) - b) / (4 * n)
        variance = n * (2 * share_lost + difference * (1 - difference))
        return (gained - lost - n * difference) / math.sqrt(max(variance, TINY))

    low = -1.0 if estimate == -1 else brentq(lambda x: distance(x) - z, TINY - 1, estimate - TINY)
    high = 1.0 if estimate == 1 else brentq(lambda x: distance(x) + z, estimate + TINY, 1 - TINY)
    return Difference(estimate, low, high)


def check_counts(num_gained: int, num_lost: int, num_items: int) -> None:
    """Raise ValueError for counts that can't be of so many items."""
    if num_gained < 0 or num_lost < 0 or num_gained + num_lost > num_items:
        raise ValueError(f"{num_gained} gained and {num_lost} lost of {num_items} items; give counts that fit")


def mcnemar_power(num_items: int, difference: float, share_changed: float, alpha: float = ALPHA) -> float:
    """Chance that `mcnemar_p` <= alpha, in the right direction, for a true difference of two paired shares. Exact.

    share_changed: of items that are answered right once only, at least |difference|. Raises ValueError otherwise.
    """
    from scipy.stats import binom

    if not 0 < abs(difference) <= share_changed <= 1 or num_items < 1:
        raise ValueError(
            f"a difference of {difference} with {share_changed} of {num_items} items changed; "
            "give 0 < |difference| <= share_changed <= 1 and at least 1 item"
        )
    spread = 8 * math.sqrt(num_items * share_changed * (1 - share_changed)) + 1
    center = num_items * share_changed
    changed = np.arange(max(0, int(center - spread)), min(num_items, int(center + spread) + 1) + 1)
    share_gained = min(1.0, (1 + abs(difference) / share_changed) / 2)
    found = binom.sf(critical_counts(changed, alpha) - 1, changed, share_gained)
    return float(binom.pmf(changed, num_items, share_changed) @ found)


def critical_counts(changed: np.ndarray, alpha: float) -> np.ndarray:
    """The fewest gained of so many changed items that `mcnemar_p` finds; changed + 1 where none are enough."""
    from scipy.stats import binom

    fewest = changed + 1
    start = binom.isf(alpha / 2, changed, 0.5).astype(int)
    for gained in (start + 2, start + 1, start, start - 1):
        lost = changed - gained
        p = 2 * binom.cdf(lost, changed, 0.5) - binom.pmf(lost, changed, 0.5)
        fewest = np.where((lost >= 0) & (gained > lost) & (p <= alpha), gained, fewest)
    return fewest


def smallest_provable_share(num_items: int, alpha: float = ALPHA) -> float:
    """The smallest observed difference of two paired shares that can pass the test: only gained items, none lost.

    37 items can't show less than 5/37 = 14 points. Above 1 where no result can pass.
    """
    return math.ceil(math.log2(1 / alpha)) / num_items


def detectable_share_difference(
    num_items: int, share_changed: float, alpha: float = ALPHA, power: float = POWER
) -> float | None:
    """The smallest true difference of two paired shares found with this power; None where there is none.

    share_changed: the share of items that are answered right once only; a larger difference changes more.
    """

    def is_found(difference: float) -> bool:
        return mcnemar_power(num_items, difference, max(share_changed, difference), alpha) >= power

    return smallest_true(is_found) if is_found(1.0) else None


def smallest_true(holds: Callable[[float], bool], low: float = 0.0, high: float = 1.0) -> float:
    """Where `holds` turns true between low and high, by bisection to 1e-6; it holds at high."""
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def mean_difference(
    before: Sequence[float], after: Sequence[float], *, weights: Sequence[float] | None = None, seed: int = 0
) -> Difference:
    """Mean after - mean before with a 95 % interval, by the paired bootstrap over items; of few items, Student's t.

    Where few items changed two are added for it, see `with_both_ways`, and it is widened for few items. One item has
    none: its bounds are infinite. weights: of the items, such as tokens; the means are weighted ones. Raises
    ValueError as `paired_bootstrap_difference`.
    Source of the widening: Hesterberg 2015, doi:10.1080/00031305.2015.1089789, section 5.3 (expanded percentiles).
    """
    from scipy.stats import t

    old, new = (np.asarray(scores, dtype=np.float64) for scores in (before, after))
    sizes = np.ones_like(old) if weights is None else np.asarray(weights, dtype=np.float64)
    difference = paired_bootstrap_difference(old * sizes, new * sizes, weights=sizes, num_resamples=1).difference
    if len(old) < 2:
        return Difference(difference, -math.inf, math.inf)
    values, padded_sizes = with_both_ways(new - old, sizes, unchanged=max(1.0, abs(old).max()))
    num_effective = max(2.0, sizes.sum() ** 2 / (sizes**2).sum())  # so many of equal weight are as sure
    if len(old) < FEW:
        center = values @ padded_sizes / padded_sizes.sum()
        half = t.ppf(0.975, num_effective - 1) * standard_error(values, padded_sizes)
        low, high = center - half, center + half
    else:
        low, high = bootstrap_interval(
            values * padded_sizes, weights=padded_sizes, seed=seed, confidence=expanded_confidence(num_effective)
        )
    return Difference(difference, float(min(low, difference)), float(max(high, difference)))


def with_both_ways(
    differences: np.ndarray, weights: np.ndarray, unchanged: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Differences and weights; where half of the differences or more are alike, which mostly means 0, with two more
    items of mean weight, changed up and down by as much as the largest change.

    Few changes among many items say little about those not met, and with none the spread would be 0. unchanged:
    by how much, where no item changed.
    Source of the idea: Bonett & Price 2012, doi:10.3102/1076998611411915, for scores of 0 and 1.
    """
    if np.median(abs(differences - np.median(differences))) > TINY:
        return differences, weights
    step = abs(differences).max() or unchanged
    return np.append(differences, [step, -step]), np.append(weights, [weights.mean()] * 2)


def expanded_confidence(num_items: float, confidence: float = 0.95) -> float:
    """The percentile bootstrap's confidence that makes up for its being too short by sqrt((n - 1) / n) and no t."""
    from scipy.stats import norm, t

    if num_items < 2:
        return confidence
    tail = norm.cdf(-math.sqrt(num_items / (num_items - 1)) * t.ppf((1 + confidence) / 2, num_items - 1))
    return float(1 - 2 * max(tail, TINY))


def sign_flip_p(differences: Sequence[float], *, seed: int = 0, num_resamples: int = NUM_RESAMPLES) -> float:
    """Two-sided p value of the sum of paired differences: how often random signs give as large a sum.

    All 2^n signs are tried where they are no more than num_resamples, else so many are drawn. Zeros change nothing.
    Source: Fisher's randomisation test of paired differences, The Design of Experiments 1935, section 21.
    """
    values = np.asarray(differences, dtype=np.float64)
    values = values[values != 0]
    n = len(values)
    if n == 0:
        return 1.0
    bound = abs(values.sum()) * (1 - 1e-12) - 1e-15
    if 2**n <= num_resamples:
        signs = 1 - 2 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
        return float((abs(signs @ values) >= bound).mean())
    generator = np.random.default_rng(seed)
    num_extreme, chunk = 0, max(1, CHUNK_ELEMENTS // n)
    for start in range(0, num_resamples, chunk):
        size = (min(chunk, num_resamples - start), n)
        signs = generator.integers(0, 2, size=size, dtype=np.int8)
        num_extreme += int((abs(2 * (signs @ values) - values.sum()) >= bound).sum())
    return (num_extreme + 1) / (num_resamples + 1)


def detectable_mean_difference(
    differences: Sequence[float],
    weights: Sequence[float] | None = None,
    alpha: float = ALPHA,
    power: float = POWER,
) -> float | None:
    """The smallest true difference of two paired means found with this power, from the spread seen.

    None where there are so few items that `sign_flip_p` finds next to nothing: with n of them it is 2 / 2^n at least.
    weights as in `mean_difference`. By the t distribution: (t(1 - alpha/2) + t(power)) standard errors.
    """
    from scipy.stats import t

    n = len(differences)
    if 2 / 2**n > alpha / 4:
        return None
    sizes = np.ones(n) if weights is None else np.asarray(weights, dtype=np.float64)
    steps = t.ppf(1 - alpha / 2, n - 1) + t.ppf(power, n - 1)
    return float(steps * standard_error(*with_both_ways(np.asarray(differences, dtype=np.float64), sizes)))


def standard_error(differences: Sequence[float], weights: Sequence[float] | None = None) -> float:
    """Of the (weighted) mean of at least two differences."""
    values = np.asarray(differences, dtype=np.float64)
    sizes = np.ones_like(values) if weights is None else np.asarray(weights, dtype=np.float64)
    return float(math.sqrt((residuals(values, sizes) ** 2).sum()))


def residuals(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """What each value adds to the error of the weighted mean; the squares sum up to its variance."""
    n = len(values)
    return weights * (values - values @ weights / weights.sum()) / weights.sum() * math.sqrt(n / (n - 1))


def best_of_bias(num_runs: int) -> float:
    """How many standard errors of a paired difference the best of several equally good runs before is too good.

    The mean of the largest of as many standard normals, over sqrt(2), as half of a difference's variance is of the run
    before; for runs that err independently, more than enough for others.
    """
    from scipy.integrate import quad
    from scipy.stats import norm

    if num_runs < 2:
        return 0.0
    mean = quad(lambda x: x * num_runs * norm.pdf(x) * norm.cdf(x) ** (num_runs - 1), -9, 9)[0]
    return float(mean / math.sqrt(2))


@dataclass(frozen=True)
class MeanOfTasks:
    """The mean of several tasks' differences of shares, each task counting the same. standard_error: of that mean."""

    difference: Difference
    p: float
    standard_error: float


def mean_of_tasks(
    differences: Sequence[Sequence[float]], questions: Sequence[Sequence[str]] | None = None, *, seed: int = 0
) -> MeanOfTasks:
    """Mean over tasks of the mean difference of their items' scores, which lie between 0 and 1.

    questions: of each item, what is asked; items that ask the same in several tasks are taken as one, as they change
    together. Interval: normal, see also `with_both_ways`. p: by `sign_flip_p`.
    """
    tasks = [np.asarray(values, dtype=np.float64) for values in differences]
    if questions is None:
        questions = [[f"{number} {index}" for index in range(len(values))] for number, values in enumerate(tasks)]
    gains, errors, centers = Counter(), Counter(), []
    for number, (values, asked) in enumerate(zip(tasks, questions, strict=True)):
        padded, sizes = with_both_ways(values, np.ones(len(values)))
        centers.append(padded.mean())
        for question, value in zip(asked, values, strict=True):
            gains[question] += value / len(values) / len(tasks)
        added = [(number, place) for place in range(len(asked), len(padded))]
        for question, error in zip([*asked, *added], residuals(padded, sizes) / len(tasks), strict=True):
            errors[question] += error
    error = math.sqrt(sum(value**2 for value in errors.values()))
    half = Z * error
    difference, center = math.fsum(gains.values()), float(np.mean(centers))
    interval = Difference(difference, min(center - half, difference), max(center + half, difference))
    return MeanOfTasks(interval, sign_flip_p(list(gains.values()), seed=seed), error)


def holm(p_values: Sequence[float]) -> list[float]:
    """The p values corrected for being several, in their order: below alpha means found, with one false alarm in all
    in at most that share of cases. Source: Holm 1979, Scandinavian Journal of Statistics 6, 65-70.
    """
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted
