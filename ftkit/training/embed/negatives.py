"""Passages that are near a question and not its own: hard negatives, from an index or from the rows themselves.

    rows = from_index(rows.train, Index.open("X"), 1)          # the words and, with an encoder, the meaning decide
    rows = from_rows(rows.train, encoder, 1, margin=0.05)      # sentence-transformers' mine_hard_negatives

Each row comes back with as many "negatives" as were asked for, before those it had; where nothing near is left that may
not be right as well, a passage of another row is drawn.
"""

import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from typing import Any, NamedTuple

from ftkit.data.cleaning.overlap import single_spaced

SPARE = 20  # passages that are looked at beyond those asked for, as some are the answer itself
BATCH_SIZE = 32


class Mined(NamedTuple):
    """rows: with their negatives. num_filled: negatives that were drawn, as nothing near was left."""

    rows: list[dict]
    num_filled: int


def from_index(rows: Sequence[dict], index: Any, num: int, seed: int = 0) -> Mined:
    """Mine each question's negatives among the passages of an index, the best found first.

    A passage is left out where it holds the row's own passage or lies in it, or belongs to another row of the question.
    """
    right = passages_of_questions(rows)
    near = []
    for row in rows:
        found = (one.passage.text for one in index.search(row["anchor"], top_k=num + SPARE))
        near.append([text for text in found if not any(holds(text, own) for own in right[row["anchor"]])][:num])
    return filled(rows, near, num, seed)


def from_rows(
    rows: Sequence[dict], encoder: Any, num: int, *, margin: float, prompts: tuple[str, str] = ("", ""), seed: int = 0,
) -> Mined:  # fmt: skip
    """Mine them among the passages of all rows, by the similarities of an encoder; margin: see --negative_margin."""
    from datasets import Dataset
    from sentence_transformers.util import mine_hard_negatives

    right = passages_of_questions(rows)
    pairs = Dataset.from_dict({name: [row[name] for row in rows] for name in ("anchor", "positive")})
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):  # it prints, and draws bars, whatever it is asked
        mined = mine_hard_negatives(
            pairs, encoder, relative_margin=margin, num_negatives=num, range_max=num + SPARE, sampling_strategy="top",
            batch_size=BATCH_SIZE, output_format="triplet", verbose=False, query_prompt=prompts[0] or None,
            corpus_prompt=prompts[1] or None,
        )  # fmt: skip
    near = defaultdict(list)
    for row in mined:
        if row["negative"] not in right[row["anchor"]]:
            near[row["anchor"], row["positive"]].append(row["negative"])
    return filled(rows, [near[row["anchor"], row["positive"]] for row in rows], num, seed)


def passages_of_questions(rows: Iterable[dict]) -> dict[str, set[str]]:
    """All passages that some row gives a question."""
    found = defaultdict(set)
    for row in rows:
        found[row["anchor"]].add(row["positive"])
    return found


def holds(text: str, own: str) -> bool:
    """Whether one of two texts lies in the other, white space aside."""
    one, other = single_spaced(text), single_spaced(own)
    return one in other or other in one


def filled(rows: Sequence[dict], near: Sequence[list[str]], num: int, seed: int) -> Mined:
    """The rows with `num` negatives each before their own; those that are missing are drawn from the other rows."""
    draw, right = random.Random(seed), passages_of_questions(rows)
    passages = list(dict.fromkeys(row["positive"] for row in rows))
    found, num_filled = [], 0
    for row, texts in zip(rows, near, strict=True):
        texts = list(dict.fromkeys(texts))[:num]
        allowed = set(passages) - right[row["anchor"]] - set(texts) if len(texts) < num else set()
        drawn = draw.sample(sorted(allowed), min(num - len(texts), len(allowed)))
        num_filled += len(drawn)
        found.append(row | {"negatives": [*texts, *drawn, *row["negatives"]]})
    return Mined(found, num_filled)
