"""Batches of pairs in which no question or passage stands twice, drawn by seed and pass alone.

The ranking loss takes the other rows' passages of a batch as wrong answers; a row with the same question or passage
would be a false negative. A run that goes on draws the batches of its pass again, whatever came before.
"""

import random
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from torch.utils.data import BatchSampler

TRIED_BATCHES = 64  # that a row which clashes is tried in


class Texts(NamedTuple):
    """The texts of a row, by what is equal for equal texts. own: question and passage. every: with negatives."""

    own: frozenset
    every: frozenset


def clash(one: Texts, other: Texts) -> bool:
    """Whether a question or passage of one row is a text of the other, where it would count as wrong."""
    return not (one.own.isdisjoint(other.every) and other.own.isdisjoint(one.every))


def apart(rows: Sequence[Texts], batch_size: int, seed: int) -> tuple[list[list[int]], int]:
    """The numbers of all rows in batches, mixed by seed; and how many stand beside an equal text all the same.

    Rows that clash change places with rows of other batches, as far as that helps.
    """
    draw, order = random.Random(seed), list(range(len(rows)))
    draw.shuffle(order)
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    num_left = 0
    for batch in batches:
        for place in range(1, len(batch)):
            if not fits(rows, batch[place], batch[:place]):
                others = draw.sample(range(len(batches)), min(TRIED_BATCHES, len(batches)))
                num_left += not any(exchanged(rows, batch, place, batches[number]) for number in others)
    return batches, num_left


def fits(rows: Sequence[Texts], number: int, batch: Sequence[int]) -> bool:
    """Whether a row clashes with none of a batch."""
    return not any(clash(rows[number], rows[other]) for other in batch)


def exchanged(rows: Sequence[Texts], batch: list[int], place: int, other: list[int]) -> bool:
    """Exchange a row with one of another batch, if that leaves both without a clash."""
    if batch is other:
        return False
    rest = batch[:place] + batch[place + 1 :]
    for at, candidate in enumerate(other):
        if fits(rows, candidate, rest) and fits(rows, batch[place], other[:at] + other[at + 1 :]):
            batch[place], other[at] = candidate, batch[place]
            return True
    return False


class BatchesApart(BatchSampler):
    """Batches for a data loader; Trainer names the pass by `set_epoch`."""

    def __init__(self, rows: Sequence[Texts], batch_size: int, *, drop_last: bool, seed: int):
        super().__init__(range(len(rows)), batch_size, drop_last)
        self.rows, self.seed, self.epoch = rows, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Draw the batches of another pass from now on."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[list[int]]:
        batches, _ = apart(self.rows, self.batch_size, self.seed + self.epoch)
        yield from (batch for batch in batches if not self.drop_last or len(batch) == self.batch_size)
