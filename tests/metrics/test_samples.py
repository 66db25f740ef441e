"""Scores of k out of n samples equal the mean over all subsets, counted one by one."""

import random
from collections import Counter
from itertools import combinations
from statistics import fmean

import pytest

from ftkit.metrics.samples import best_of_k, majority_of_k, sizes


def every_subset(n, k, value):
    return fmean(value(subset) for subset in combinations(range(n), k))


def best(subset, scores, ranks):
    top = max(ranks[place] for place in subset)
    return fmean(scores[place] for place in subset if ranks[place] == top)


def majority(subset, keys, scores):
    counts = Counter(keys[place] for place in subset if keys[place] is not None)
    if not counts:
        return fmean(scores[place] for place in range(len(keys)) if keys[place] is None)
    top = max(counts.values())
    won = [key for key, count in counts.items() if count == top]
    return fmean(fmean(score for other, score in zip(keys, scores, strict=True) if other == key) for key in won)


def test_by_hand():
    # of the 6 pairs of right, wrong, wrong, right only one holds no right one
    assert best_of_k([1, 0, 0, 1], 2) == pytest.approx(5 / 6)
    assert best_of_k([1, 0, 0, 1], 1) == 0.5
    # pass@k of n samples of which c are right is 1 - C(n - c, k) / C(n, k)
    assert best_of_k([1] * 3 + [0] * 7, 4) == pytest.approx(1 - 35 / 210)
    # four samples, a 5 twice (wrong): all three-subsets: {5,5,4}: 5; {5,5,3}: 5; {5,4,3} twice: one of three
    assert majority_of_k(["5", "5", "4", "3"], [0, 0, 1, 0], 3) == pytest.approx(2 * (1 / 3) / 4)
    # who says nothing has no vote, and is chosen only among its like
    assert majority_of_k([None, None, "4"], [0, 0, 1], 2) == pytest.approx(2 / 3)


@pytest.mark.parametrize("seed", range(12))
def test_every_subset_counts_once(seed):
    draw = random.Random(seed)
    n = draw.randint(2, 8)
    keys = [draw.choice([None, "a", "b", "c"]) for _ in range(n)]
    of_key = {key: draw.random() for key in (None, "a", "b", "c")}
    scores = [of_key[key] for key in keys]
    ranks = [draw.choice([None, 0.0, 1.0, 2.0]) for _ in range(n)]
    known = [float("-inf") if rank is None else rank for rank in ranks]
    for k in range(1, n + 1):
        assert best_of_k(scores, k, ranks) == pytest.approx(every_subset(n, k, lambda s: best(s, scores, known)))
        assert best_of_k(scores, k) == pytest.approx(every_subset(n, k, lambda s: best(s, scores, scores)))
        assert majority_of_k(keys, scores, k) == pytest.approx(every_subset(n, k, lambda s: majority(s, keys, scores)))


def test_one_sample_is_the_mean_and_all_are_what_is_chosen():
    keys, scores = ["4", "4", "5"], [1.0, 1.0, 0.0]
    assert best_of_k(scores, 1) == majority_of_k(keys, scores, 1) == pytest.approx(2 / 3)
    assert majority_of_k(keys, scores, 3) == best_of_k(scores, 3, [0.1, 0.3, 0.2]) == 1.0
    assert majority_of_k([object() for _ in range(64)], [1.0] * 64, 32) == pytest.approx(
        1.0
    )  # large, and all different


def test_the_sizes_of_a_curve():
    assert (sizes(1), sizes(6), sizes(8)) == ([1], [1, 2, 4, 6], [1, 2, 4, 8])
    with pytest.raises(ValueError, match="k is 5; with 4 samples give 1 to 4"):
        best_of_k([1, 0, 0, 1], 5)
