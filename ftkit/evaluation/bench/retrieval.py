"""Questions whose passages an index should find, and the sources that generated answers stand on."""

from collections.abc import Sequence
from typing import Any

from ftkit.config.errors import UserError
from ftkit.data.index.passages import Passage
from ftkit.evaluation.bench.task_file import Task
from ftkit.evaluation.bench.task_items import TaskItem
from ftkit.evaluation.results import Item
from ftkit.metrics.retrieval import ndcg_at, recall_at, reciprocal_rank

DEPTH = 10  # passages that are looked at
UNIT = 32  # questions between two records


class RetrievalRun:
    """Questions that an index is searched for; no model answers."""

    num_cut, cut = 0, ""

    def __init__(self, task: Task, items: list[TaskItem], subject: Any):
        if subject.retriever is None:
            raise UserError(f"task {task.name} searches an index; give it: --index FOLDER")
        self.task, self.items, self.retriever = task, items, subject.retriever
        self.units = [list(range(len(items)))[start : start + UNIT] for start in range(0, len(items), UNIT)]

    def run(self, unit: list[int]) -> list[Item]:
        """The items of one unit, searched for and scored."""
        return [self.record(self.items[place]) for place in unit]

    def record(self, item: TaskItem) -> Item:
        """One item: what was found, and how early what is relevant came."""
        retriever = self.retriever
        found = retriever.index.search(item.prompts[0], DEPTH, retriever.method)
        names = [name_of(one.passage, item.relevant) for one in found]
        scores = {name: score(name, names, item.relevant) for name in self.task.metrics}
        extra = {"group": item.group} if item.group else {}
        prediction, reference = ", ".join(one.passage.id for one in found), ", ".join(item.relevant)
        return Item(item.item_id, scores, item.prompts[0], prediction, reference, extra=extra)


def name_of(passage: Passage, relevant: Sequence[str]) -> str:
    """What a passage is called by who says what is relevant: its id, or its source."""
    return passage.source if passage.source in relevant and passage.id not in relevant else passage.id


def score(metric: str, found: Sequence[str], relevant: Sequence[str]) -> float:
    """One metric of a ranking: mrr, recall_at_K or ndcg_at_K."""
    if metric == "mrr":
        return reciprocal_rank(found[:DEPTH], relevant)
    name, _, k = metric.partition("_at_")
    return {"recall": recall_at, "ndcg": ndcg_at}[name](found, relevant, int(k))
