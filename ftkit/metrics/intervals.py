"""How sure a score is: confidence intervals for shares, means and paired differences, with numpy alone."""

from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

NUM_RESAMPLES = 9999  # scipy's default too
CHUNK_ELEMENTS = 2_000_000  # indices drawn at a time: 16 MB


class Difference(NamedTuple):
    """after - before with its confidence interval."""

    difference: float
    low: float
    high: float


def check_confidence(confidence: float) -> None:
    """Raise ValueError for a confidence that is not between 0 and 1."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}; give a number between 0 and 1, such as 0.95")


def wilson_interval(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return (low, high) for a share of `successes` in `n` trials, both between 0 and 1.

    Unlike the textbook interval it is right near 0 and 1 and for small n. Raises ValueError unless 0 <= successes <= n
    and n > 0. Source: Wilson 1927, doi:10.2307/2276774, without continuity correction.
    """
    check_confidence(confidence)
    if not 0 <= successes <= n or n == 0:
        raise ValueError(f"{successes} successes of {n} trials; give 0 <= successes <= n and n > 0")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = successes / n
    center = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * (share * (1 - share) / n + z**2 / (4 * n**2)) ** 0.5
    # rounding would leave 1e-17 where the bound is exactly 0 or 1
    low = 0.0 if successes == 0 else center - half
    high = 1.0 if successes == n else center + half
    return float(low), float(high)


def bootstrap_interval(
    values: Sequence[float],
    *,
    weights: Sequence[float] | None = None,
    seed: int = 0,
    confidence: float = 0.95,
    num_resamples: int = NUM_RESAMPLES,
) -> tuple[float, float]:
    """Return (low, high) of the mean of `values` by the percentile bootstrap over rows.

    With `weights` the statistic is sum(values) / sum(weights): mean loss per token from each row's summed loss and
    number of tokens. Raises ValueError for no values, unequal lengths, a value that is not a finite number, and weights
    that are negative or all 0.
    Source: Efron & Tibshirani 1993, chapter 13.
    """
    check_confidence(confidence)
    rows = _rows(values, weights)
    return _percentiles(_resampled_ratios([rows], seed, num_resamples)[0], confidence)


def paired_bootstrap_difference(
    before: Sequence[float],
    after: Sequence[float],
    *,
    weights: Sequence[float] | None = None,
    seed: int = 0,
    confidence: float = 0.95,
    num_resamples: int = NUM_RESAMPLES,
) -> Difference:
    """Return mean(after) - mean(before) with its interval; row i of both is the same question.

    The same rows are drawn for both, so what they have in common cancels. An interval that holds 0 means: no difference
    seen. `weights` as in `bootstrap_interval`, the same for both. Raises ValueError as there, and for unequal lengths.
    """
    check_confidence(confidence)
    if len(before) != len(after):
        raise ValueError(f"{len(before)} values before and {len(after)} after; give one pair per row")
    both = [_rows(before, weights), _rows(after, weights)]
    old, new = (rows[0].sum() / rows[1].sum() for rows in both)
    resampled = _resampled_ratios(both, seed, num_resamples)
    return Difference(float(new - old), *_percentiles(resampled[1] - resampled[0], confidence))


def bootstrap_statistic(
    statistic: Callable[[np.ndarray], dict[str, float]],
    num_rows: int,
    *,
    seed: int = 0,
    confidence: float = 0.95,
    num_resamples: int = NUM_RESAMPLES,
) -> dict[str, tuple[float, float]]:
    """Return (low, high) of each number that `statistic` names, by the percentile bootstrap over rows.

    statistic: called with the numbers of the drawn rows, (num_rows,) integers; NaN where they allow none. For a paired
    difference let it compute both scores on the same rows. Raises ValueError for no rows.
    """
    check_confidence(confidence)
    if num_rows < 1:
        raise ValueError("no rows; give at least one")
    generator = np.random.default_rng(seed)
    found = [statistic(generator.integers(num_rows, size=num_rows)) for _ in range(num_resamples)]
    return {name: _percentiles(np.array([values[name] for values in found]), confidence) for name in found[0]}


def _rows(values: Sequence[float], weights: Sequence[float] | None) -> np.ndarray:
    """(2, n) float64: values and weights. Raises ValueError where no ratio can be formed."""
    numbers = np.asarray(values, dtype=np.float64)
    shares = np.ones_like(numbers) if weights is None else np.asarray(weights, dtype=np.float64)
    if numbers.ndim != 1 or numbers.size == 0:
        raise ValueError("no values; give at least one row")
    if shares.shape != numbers.shape:
        raise ValueError(f"{numbers.size} values and {shares.size} weights; give one weight per value")
    if not np.isfinite(numbers).all() or not np.isfinite(shares).all():
        raise ValueError("a value or weight is not a finite number; leave that row out and say so")
    if (shares < 0).any() or shares.sum() == 0:
        raise ValueError("weights must not be negative and must not all be 0")
    return np.stack([numbers, shares])


def _resampled_ratios(samples: list[np.ndarray], seed: int, num_resamples: int) -> np.ndarray:
    """(samples, num_resamples) ratios sum(values) / sum(weights); all samples see the same draws."""
    generator = np.random.default_rng(seed)
    n = samples[0].shape[1]
    ratios = np.empty((len(samples), num_resamples))
    chunk = max(1, CHUNK_ELEMENTS // n)
    for start in range(0, num_resamples, chunk):
        stop = min(start + chunk, num_resamples)
        drawn = generator.integers(n, size=(stop - start, n))
        for ratio, (values, weights) in zip(ratios, samples, strict=True):
            with np.errstate(invalid="ignore"):  # a draw of rows without a token has no ratio
                ratio[start:stop] = values[drawn].sum(axis=1) / weights[drawn].sum(axis=1)
    return ratios


def _percentiles(ratios: np.ndarray, confidence: float) -> tuple[float, float]:
    tail = (1 - confidence) / 2
    low, high = np.nanquantile(ratios, [tail, 1 - tail])
    return float(low), float(high)
