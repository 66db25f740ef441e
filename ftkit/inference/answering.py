"""Many questions answered in batches, each by every voice of an engine, in order and as they come.

for replies in answer_each(engine, questions, sampling, num_answers=1, batch_size=16, start=0): ...
"""

import dataclasses
from collections.abc import Iterator, Sequence

from ftkit.config.errors import UserError
from ftkit.data.rows.questions import Question
from ftkit.inference.asking import SEEDS, Sampling
from ftkit.inference.completion import Reply
from ftkit.inference.engine import Engine


def answer_each(
    engine: Engine,
    questions: Sequence[Question],
    sampling: Sampling,
    *,
    num_answers: int = 1,
    batch_size: int = 16,
    start: int = 0,
    num_top: int | None = None,
) -> Iterator[dict[str, list[Reply]]]:
    """Yield, for each question in order from place `start` on, `num_answers` replies of each voice by name.

    Each batch draws from a seed of its own, the same for all voices; the batches are the same wherever it starts.
    num_top: as in `Engine.replies`.
    Raises UserError, before anything is answered, where a question leaves no room for its answer.
    """
    prompts = {name: prompts_of(engine, name, questions) for name in engine.voices}
    step = max(1, batch_size // num_answers)
    for first in range(start // step * step, len(questions), step):
        drawn = dataclasses.replace(sampling, seed=((sampling.seed or 0) + first) % SEEDS)
        batch = {}
        for name, ids in prompts.items():
            repeated = [prompt for prompt in ids[first : first + step] for _ in range(num_answers)]
            found = engine.replies(repeated, drawn, name, batch_size=batch_size, num_top=num_top)
            batch[name] = [found[place : place + num_answers] for place in range(0, len(found), num_answers)]
        whole = [dict(zip(batch, replies, strict=True)) for replies in zip(*batch.values(), strict=True)]
        yield from whole[max(0, start - first) :]


def prompts_of(engine: Engine, name: str, questions: Sequence[Question]) -> list[list[int]]:
    """Token ids of each question as a voice is asked it. Raises UserError with the places of those that can't be."""
    prompts: list[list[int]] = []
    mistakes: list[str] = []
    for question in questions:
        try:
            prompts.append(engine.prompt_ids(question.messages, name))
        except UserError as error:
            mistakes.append(f"{question.source}: {error}")
    if mistakes:
        more = f" ({len(mistakes) - 1} more like it)" if len(mistakes) > 1 else ""
        raise UserError(mistakes[0] + more)
    return prompts
