"""Ranked lists made one: reciprocal rank fusion, and the best of what is scored in parts."""

import heapq
from collections.abc import Iterable, Sequence

METHODS = ("hybrid", "bm25", "dense")  # ways to search: by both, by words, by meaning
FUSION_CONSTANT = 60  # of Cormack et al. 2009, doi:10.1145/1571941.1572114

Scored = tuple[int, float]  # number of a passage, and its score


def fused(rankings: Iterable[Sequence[Scored]], top_k: int) -> list[Scored]:
    """The best of several rankings, each passage by the sum of 1 / (60 + its place) over those that hold it.

    Equal sums stand in the order of their numbers.
    """
    sums: dict[int, float] = {}
    for ranking in rankings:
        for place, (number, _) in enumerate(ranking, start=1):
            sums[number] = sums.get(number, 0.0) + 1 / (FUSION_CONSTANT + place)
    return best(sums.items(), top_k)


def best(scored: Iterable[Scored], top_k: int) -> list[Scored]:
    """The highest scores, highest first; equal ones in the order of their numbers."""
    return heapq.nsmallest(top_k, scored, key=lambda one: (-one[1], one[0]))
