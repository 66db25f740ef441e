"""Asks a judge that is loaded here, batch by batch.

for index, reply in ask_local(engine, conversations, repeats, sampling, batch_size=8): ...
"""

import dataclasses
from collections.abc import Iterator, Sequence

from ftkit.inference.asking import Sampling
from ftkit.inference.completion import Reply
from ftkit.inference.engine import Engine

REPEAT_SEEDS = 100_000  # between repeats: more than there are batches in one


def ask_local(
    engine: Engine, conversations: Sequence[list[dict]], repeats: Sequence[int], sampling: Sampling, *, batch_size: int
) -> Iterator[tuple[int, Reply]]:
    """Yield (index, reply) of each conversation. repeats: how often each was asked before, for the seed."""
    for start in range(0, len(conversations), batch_size):
        batch = {}
        for index in range(start, min(start + batch_size, len(conversations))):
            ids = engine.voice().render(conversations[index])
            if engine.has_room(ids):
                batch[index] = ids
            else:
                yield index, Reply(failure="longer than the judge's context")
        drawn = dataclasses.replace(sampling, seed=(sampling.seed or 0) + start + REPEAT_SEEDS * repeats[start])
        yield from zip(batch, engine.replies(list(batch.values()), drawn), strict=True)
