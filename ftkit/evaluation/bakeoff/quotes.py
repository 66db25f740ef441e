"""Answers of a contestant that was trained to quote: the quotations are held against the passages in its prompt."""

import dataclasses
from collections.abc import Mapping, Sequence

from ftkit.evaluation.bakeoff.answers import CountedRun, Watch
from ftkit.evaluation.bakeoff.contest import QUOTED
from ftkit.evaluation.bench.task_items import TaskItem
from ftkit.evaluation.results import Item
from ftkit.inference.synth.citations import is_faithful
from ftkit.inference.synth.raft import NOT_THERE, QUOTE_TOKENS, final_answer


class QuotingRun(CountedRun):
    """As CountedRun, of a model that quotes a passage before it answers: the answer is scored, the quotes are held
    against the passages that stood in its prompt.

    passages: of each item, by its id, in the order of their numbers.
    """

    def __init__(self, task, items, subject, *, watch: Watch, passages: Mapping[str, Sequence]):
        super().__init__(
            dataclasses.replace(task, max_new_tokens=task.max_new_tokens + QUOTE_TOKENS), items, subject, watch=watch
        )
        self.passages = passages

    def record(self, item: TaskItem, reply: str) -> Item:
        """One item with the scores of its answer; the whole reply is kept."""
        made = super().record(item, final_answer(reply))
        made.extra["reply"] = reply
        if final_answer(reply) != NOT_THERE:
            made.extra[QUOTED] = is_faithful(reply, self.passages[item.item_id])
        return made
