"""Whether a search finds what it should, and finds it early: recall, reciprocal rank and nDCG of one ranking.

    recall_at(["c", "a", "d"], {"a", "b"}, k=2)      # 0.5: one of two is among the first two
    reciprocal_rank(["c", "a", "d"], {"a", "b"})     # 0.5: the first of them stands second
    ndcg_at(["c", "a", "d"], {"a", "b"}, k=10)

As trec_eval has them, for judgements of relevant or not. A name that comes twice in a ranking counts where it comes
first, and takes up no second place.
"""

import math
from collections.abc import Collection, Sequence

import datasets

from ftkit.metrics.definition import TextMetric
from ftkit.metrics.text_match import mean

NAMES = datasets.Sequence(datasets.Value("string"))


class Retrieval(TextMetric):
    """Mean recall, reciprocal rank and nDCG of the first k. predictions: names found, the best first; references: the
    relevant ones."""

    about = "Mean recall, reciprocal rank and nDCG of rankings, 0 to 1."
    columns = {"predictions": NAMES, "references": NAMES}

    def score(self, predictions, references, k=10):
        pairs = list(zip(predictions, map(set, references), strict=True))
        return {
            f"recall_at_{k}": mean(recall_at(found, relevant, k) for found, relevant in pairs),
            "mrr": mean(reciprocal_rank(first(found, k), relevant) for found, relevant in pairs),
            f"ndcg_at_{k}": mean(ndcg_at(found, relevant, k) for found, relevant in pairs),
        }


def first(found: Sequence[str], k: int) -> list[str]:
    """The first k names of a ranking, each counted once."""
    if k < 1:
        raise ValueError(f"k is {k}; give at least 1")
    return list(dict.fromkeys(found))[:k]


def recall_at(found: Sequence[str], relevant: Collection[str], k: int) -> float:
    """The share of the relevant names that are among the first k. Raises ValueError where none is relevant."""
    check_relevant(relevant)
    return len(set(first(found, k)) & set(relevant)) / len(set(relevant))


def reciprocal_rank(found: Sequence[str], relevant: Collection[str]) -> float:
    """1 / the place of the first relevant name, 0 where none was found. Raises ValueError where none is relevant."""
    check_relevant(relevant)
    return next((1 / place for place, name in enumerate(dict.fromkeys(found), start=1) if name in relevant), 0.0)


def ndcg_at(found: Sequence[str], relevant: Collection[str], k: int) -> float:
    """Gains of the first k, each 1 / log2(place + 1), over those of the best ranking there is.

    Source: Jarvelin and Kekalainen 2002, doi:10.1145/582415.582418. Raises ValueError where none is relevant.
    """
    check_relevant(relevant)
    gained = [1 / math.log2(place + 1) for place, name in enumerate(first(found, k), start=1) if name in relevant]
    possible = [1 / math.log2(place + 1) for place in range(1, min(k, len(set(relevant))) + 1)]
    return math.fsum(gained) / math.fsum(possible)


def check_relevant(relevant: Collection[str]) -> None:
    """Raise ValueError where there is nothing to find, or a text stands where a list belongs."""
    if isinstance(relevant, str) or not relevant:
        raise ValueError("relevant is empty, or a text; give the names that should be found")
