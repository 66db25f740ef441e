"""Splits rows so that what belongs together stays on one side: rows of a group, the same question, nearly the same.

groups = question_groups(rows, near=0.8)
is_test = held_out_flags(groups, test_size=0.1, seed=0)
"""

import hashlib

from ftkit.config.errors import UserError
from ftkit.data.cleaning.near_duplicates import near_pairs, words
from ftkit.data.cleaning.overlap import question_of

HASH_RANGE = 2**64


def question_groups(rows: list[dict], near: float | None = None) -> list[str]:
    """A group for each row: rows with the same question share it, and with `near` those with similar questions.

    Case, punctuation and white space of a question don't count. Similarity is Jaccard's of runs of three words, and
    passes on: where a is near b and b near c, all three share a group.
    """
    names = [" ".join(words(question_of(row))) for row in rows]
    if near is None:
        return names
    distinct = list(dict.fromkeys(names))
    parents = list(range(len(distinct)))

    def root(number: int) -> int:
        while parents[number] != number:
            parents[number] = number = parents[parents[number]]
        return number

    for first, second in near_pairs(distinct, near):
        parents[max(root(first), root(second))] = min(root(first), root(second))
    number_of = {name: number for number, name in enumerate(distinct)}
    return [distinct[root(number_of[name])] for name in names]


def column_groups(values: list[dict], column: str, label: str) -> list[str]:
    """A group for each row: the value of a column; raise UserError where a row lacks it."""
    for number, row in enumerate(values, start=1):
        if row.get(column) is None:
            raise UserError(f'{label}: row {number} has no "{column}", so its group is unknown; fill it in')
    return [str(row[column]) for row in values]


def held_out_flags(groups: list[str], test_size: float, seed: int = 0) -> list[bool]:
    """Whether each row goes to the test side: its group's hash decides, so that rows added later move no others.

    test_size: expected share of the groups, between 0 and 1. Raises UserError if a side stays empty.
    """
    flags = [hash_share(group, seed) < test_size for group in groups]
    if len(set(flags)) < 2:
        raise UserError(
            f"{len(groups)} rows in {len(set(groups))} groups: with --test_size {test_size} a side stays empty; "
            "choose another size or seed, or finer groups"
        )
    return flags


def hash_share(group: str, seed: int) -> float:
    """A number in [0, 1) that depends on the group and the seed alone."""
    digest = hashlib.blake2b(f"{seed}\n{group}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / HASH_RANGE
