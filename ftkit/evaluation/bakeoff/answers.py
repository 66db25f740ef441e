"""Held-out questions answered by a contestant of a bake-off, with tokens and memory counted.

run_benchmark(subject, chosen, results, folder, kinds=RUNS | {"generation": partial(CountedRun, watch=watch)})
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ftkit.evaluation.bakeoff.contest import QUOTED
from ftkit.evaluation.bench.task_items import TaskItem, conversation, examples_of, system_of
from ftkit.evaluation.bench.units import GenerationRun, mean
from ftkit.evaluation.results import Item
from ftkit.training.callbacks import peak_memory_gib

TOKENS = "tokens"  # of an item, in its `extra`: read and written


@dataclass
class Watch:
    """Peak memory up to the last answer, in GiB."""

    memory_gib: float = 0.0


class CountedRun(GenerationRun):
    """As GenerationRun, with tokens and memory noted."""

    def __init__(self, task, items, subject, *, watch: Watch):
        super().__init__(task, items, subject)
        self.watch = watch

    def run(self, unit: list[int]) -> list[Item]:
        """The items of one unit, answered and scored, each with the tokens that were read and written."""
        items = super().run(unit)
        for place, item in zip(unit, items, strict=True):
            item.extra[TOKENS] = [len(self.prompts[place]), self.num_tokens[place]]
        self.watch.memory_gib = peak_memory_gib()
        return items


def asked_with(items: Sequence[TaskItem], put: Callable[[TaskItem, list[dict]], list[dict]]) -> list[TaskItem]:
    """The items under their own ids, each asked by the messages that `put` makes of it and its messages."""
    return [item_of_messages(item, put(item, conversation(item, item.prompts[0]))) for item in items]


def item_of_messages(item: TaskItem, messages: list[dict]) -> TaskItem:
    """An item asked by other messages, of which the last is the question."""
    *earlier, question = messages
    return dataclasses.replace(
        item, prompts=[question["content"]], description=system_of(earlier), examples=examples_of(earlier)
    )


def mean_tokens(items: Sequence[Item]) -> tuple[float, float]:
    """Tokens read and written for an answer, the mean."""
    read, written = zip(*(item.extra[TOKENS] for item in items), strict=True)
    return mean(read), mean(written)


def share_quoted(items: Sequence[Item]) -> float | None:
    """Of the answers that say something, those that quote what is there; None for none."""
    found = [item.extra[QUOTED] for item in items if QUOTED in item.extra]
    return mean(found) if found else None
