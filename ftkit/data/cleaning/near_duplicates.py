"""Finds texts that are nearly the same: MinHash (datasketch) proposes pairs, and each is measured before it counts.

    matches = near_matches(texts, texts, threshold=0.8)

The measure is Jaccard's: of all runs of three words in either text, the share that is in both. Case, punctuation and
white space don't count. Source: Broder 1997, "On the resemblance and containment of documents".
"""

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple

NUM_WORDS = 3  # of a run; texts with fewer words are one run
NUM_PERMUTATIONS = 128
PROPOSED = 0.75  # times the threshold: the similarity from which MinHash proposes a pair
SEED = 1
WORD = re.compile(r"\w+|[^\w\s]+")


class Match(NamedTuple):
    """texts[index] is near candidates[other]. similarity: Jaccard's, 1 for the same runs of words."""

    index: int
    other: int
    similarity: float


def words(text: str) -> list[str]:
    """The words of a text in lower case; signs between them count only where there is no word at all."""
    found = WORD.findall(text.lower())
    return [word for word in found if word[0].isalnum() or word[0] == "_"] or found


def word_runs(text: str, num_words: int = NUM_WORDS) -> set[str]:
    """All runs of `num_words` words; the whole text where it has fewer."""
    found = words(text)
    return {" ".join(found[start : start + num_words]) for start in range(max(1, len(found) - num_words + 1))}


def jaccard(first: set, second: set) -> float:
    """Share of the elements of either set that are in both."""
    return len(first & second) / len(first | second) if first or second else 1.0


class NearIndex:
    """Texts that can be asked for near ones. threshold: similarity from which a text counts, in (0, 1]."""

    def __init__(self, threshold: float):
        from datasketch import MinHashLSH

        self.threshold = threshold
        # What is proposed is measured afterwards, so recall is all that counts: above 0.99 at the threshold itself.
        self.lsh = MinHashLSH(threshold=PROPOSED * threshold, num_perm=NUM_PERMUTATIONS, weights=(0.1, 0.9))
        self.texts: list[str] = []
        self.runs = lru_cache(maxsize=10_000)(word_runs)

    def add(self, text: str) -> None:
        """Add a text; it is known by its number, from 0."""
        self.lsh.insert(len(self.texts), signature(self.runs(text)), check_duplication=False)
        self.texts.append(text)

    def near(self, text: str) -> list[tuple[int, float]]:
        """(number, similarity) of all texts that are near, the most similar first."""
        runs = self.runs(text)
        found = [(key, jaccard(runs, self.runs(self.texts[key]))) for key in self.lsh.query(signature(runs))]
        return sorted((pair for pair in found if pair[1] >= self.threshold), key=lambda pair: (-pair[1], pair[0]))


def signature(runs: set[str]):
    """The MinHash of a set of runs; the same on every machine."""
    from datasketch import MinHash

    minhash = MinHash(num_perm=NUM_PERMUTATIONS, seed=SEED)
    minhash.update_batch([run.encode() for run in sorted(runs)])
    return minhash


def repeated_texts(texts: Iterable[str], threshold: float) -> list[Match]:
    """For each text that is near an earlier one that is kept, the match; texts that are not near any are kept.

    `index` and `other` count all texts, so that texts[other] is the kept one.
    """
    index, kept, matches = NearIndex(threshold), [], []
    for number, text in enumerate(texts):
        found = index.near(text)
        if found:
            other, similarity = found[0]
            matches.append(Match(number, kept[other], similarity))
        else:
            index.add(text)
            kept.append(number)
    return matches


def near_matches(texts: Iterable[str], candidates: Iterable[str], threshold: float) -> list[Match]:
    """For each text the most similar of the candidates, where one is near."""
    index = NearIndex(threshold)
    for candidate in candidates:
        index.add(candidate)
    matches = []
    for number, text in enumerate(texts):
        found = index.near(text)
        if found:
            matches.append(Match(number, *found[0]))
    return matches


def near_pairs(texts: Iterable[str], threshold: float) -> Iterator[tuple[int, int]]:
    """Every (earlier, later) pair of texts that are near each other."""
    index = NearIndex(threshold)
    for number, text in enumerate(texts):
        for other, _ in index.near(text):
            yield other, number
        index.add(text)
