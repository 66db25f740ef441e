"""What several samples of an answer are worth: the expected score of one chosen from k of them, from n >= k that were
drawn, without bias and without drawing anew.

    best_of_k([1, 0, 0, 1], k=2)                       # any right: pass@2 of 4 samples, of which 2 are right: 5/6
    best_of_k([1, 0, 0, 1], k=2, ranks=[.1, .7, .2, .9])   # the one that a reward model ranks first
    majority_of_k(["4", "5", None, "4"], [1, 0, 0, 1], k=3)   # the one that most of them say

Each is the mean over all subsets of k samples, computed by counting them.
"""

from collections.abc import Hashable, Sequence
from math import comb

import numpy as np


def best_of_k(scores: Sequence[float], k: int, ranks: Sequence[float | None] | None = None) -> float:
    """The expected score of the sample of highest rank among k; by default that of the highest score.

    Of equal ranks each counts the same. None is the lowest rank. For scores of 0 and 1 the default is pass@k.
    Source: Chen et al. 2021, arXiv:2107.03374. Raises ValueError for a k that is not from 1 to the number of samples.
    """
    n = len(scores)
    check(k, n)
    ranks = list(scores) if ranks is None else [float("-inf") if rank is None else rank for rank in ranks]
    expected, above = 0.0, 0
    for rank in sorted(set(ranks), reverse=True):
        own = [score for score, other in zip(scores, ranks, strict=True) if other == rank]
        # the subsets without a sample above, less those that also have none of this rank
        share = (comb(n - above, k) - comb(n - above - len(own), k)) / comb(n, k)
        expected += share * sum(own) / len(own)
        above += len(own)
    return expected


def majority_of_k(keys: Sequence[Hashable], scores: Sequence[float], k: int) -> float:
    """The expected score of the key that most of k samples have; of keys with as many each counts the same.

    keys: what each sample says; None says nothing and has no vote, so that it is chosen only among its like. A key's
    score is the mean over its samples. Source: Wang et al. 2023, arXiv:2203.11171, of all subsets.
    Raises ValueError for a k that is not from 1 to the number of samples.
    """
    n = len(scores)
    check(k, n)
    by_key: dict[Hashable, list[float]] = {}
    for key, score in zip(keys, scores, strict=True):
        by_key.setdefault(key, []).append(score)
    silent = by_key.pop(None, [])
    groups = [(len(own), sum(own) / len(own)) for own in by_key.values()]
    expected = comb(len(silent), k) * sum(silent) / len(silent) if silent else 0.0
    for most in range(1, max((count for count, _ in groups), default=0) + 1):
        expected += won_with(most, groups, len(silent), k)
    return expected / comb(n, k)


def won_with(most: int, groups: list[tuple[int, float]], num_silent: int, k: int) -> float:
    """Sum, over the subsets of k in which the largest key has `most` votes, of the mean score of the keys with as many.

    groups: samples and score of each key.
    """
    # ways[size, tied]: subsets of the groups so far by their size and by how many keys have `most`; sums: of the scores
    # of these keys
    ways, sums = np.zeros((k + 1, k // most + 1)), np.zeros((k + 1, k // most + 1))
    for size in range(min(num_silent, k) + 1):
        ways[size, 0] = comb(num_silent, size)
    for count, score in groups:
        new_ways, new_sums = ways.copy(), sums.copy()
        for votes in range(1, min(count, most, k) + 1):
            times, tied = comb(count, votes), int(votes == most)
            from_ways, from_sums = ways[: k + 1 - votes], sums[: k + 1 - votes]
            if tied:
                new_ways[votes:, 1:] += times * from_ways[:, :-1]
                new_sums[votes:, 1:] += times * (from_sums[:, :-1] + score * from_ways[:, :-1])
            else:
                new_ways[votes:] += times * from_ways
                new_sums[votes:] += times * from_sums
        ways, sums = new_ways, new_sums
    return sum(float(sums[k, tied]) / tied for tied in range(1, k // most + 1))


def sizes(n: int) -> list[int]:
    """How many samples a curve is shown for: 1, 2, 4, ... and n."""
    return sorted({2**power for power in range(n.bit_length()) if 2**power <= n} | {n})


def check(k: int, n: int) -> None:
    """Raise ValueError for a k that is not from 1 to n."""
    if not 1 <= k <= n:
        raise ValueError(f"k is {k}; with {n} samples give 1 to {n}")
