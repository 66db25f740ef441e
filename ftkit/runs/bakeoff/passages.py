"""Passages of the documents of a bake-off: those that a question finds, and rows that teach to quote them (RAFT).

    passages = Passages(asked)
    passages.found("When does the ferry leave?")     # [Found(passage, score), ...]
    passages.write_rows(OUT / "raft/train.jsonl")

A row's answer is looked for in the passages, so that no model is asked. Its quotation is the sentence that holds it.
"""

import logging
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ftkit.config.amounts import counted
from ftkit.config.errors import UserError
from ftkit.config.jsonl import read_jsonl, write_jsonl
from ftkit.data.rows.formats import INPUT_MARKER
from ftkit.data.rows.thoughts import without_thought
from ftkit.evaluation.bakeoff.answers import item_of_messages
from ftkit.evaluation.bench.task_items import TaskItem
from ftkit.inference.retrieval.index import Found, Index
from ftkit.inference.synth import raft
from ftkit.inference.synth.citations import comparable, is_said, sentences
from ftkit.runs.bakeoff.asked import Asked

logger = logging.getLogger(__name__)

NUM_SEARCHED = 16  # passages among which the right one is looked for, and distractors are chosen
FEWEST = 8  # rows that a passage answers, to train on
SHARE_WITHOUT = 0.2  # of the rows without the right passage (arXiv:2403.10131)


class Passages:
    """The index of a bake-off's documents."""

    def __init__(self, asked: Asked):
        self.asked, self.index = asked, Index.open(asked.index)
        self.method = "hybrid" if asked.embedder else "bm25"

    def found(self, question: str, num: int | None = None) -> list[Found]:
        """The passages that a question finds, the best first."""
        text = question.replace(INPUT_MARKER, "\n")
        return self.index.search(text, top_k=num or self.asked.top_k, method=self.method)

    def grounded(self, question: str, answer: str) -> raft.Grounded | None:
        """A question with the passage whose sentence says its answer; None where none does."""
        for one in self.found(f"{question} {answer}", NUM_SEARCHED):
            for sentence in sentences(one.passage.text):
                if is_said(answer, comparable(sentence)):
                    return raft.Grounded(question, answer, sentence, one.passage)
        return None

    def composed(self, one: raft.Grounded, share_without: float, number: int) -> tuple[dict, list]:
        """A row that teaches, or asks, to quote, and its passages in the order of their numbers."""
        near = [found.passage for found in self.found(one.question, NUM_SEARCHED)]
        settings = {
            "num_distractors": self.asked.top_k - 1, "share_without": share_without, "without_passage": raft.REFUSE
        }  # fmt: skip
        row = raft.composed(one, near, settings, random.Random(f"{self.asked.seed} {number}"))
        by_id = {passage.id: passage for passage in (*near, one.passage)}
        return row, [by_id[name] for name in row["sources"]]

    def write_rows(self, path: Path) -> Path:
        """Write the training rows whose answers a passage holds, each with its quotation; return the path.

        Raises UserError where these are too few.
        """
        asked = [question_and_answer(row) for row in read_jsonl(self.asked.data / "train.jsonl")]
        grounded = [self.grounded(*pair) for pair in asked]
        kept = [(number, one) for number, one in enumerate(grounded) if one]
        if len(kept) < FEWEST:
            raise UserError(
                f"passages hold the answers of {len(kept)} of {len(asked)} training rows word for word; RAFT needs "
                f"{FEWEST} that do"
            )
        if len(kept) < len(asked):
            logger.warning("%s whose answers no passage holds, left out", counted(len(asked) - len(kept), "row"))
        write_jsonl(path, ({"messages": self.composed(one, SHARE_WITHOUT, n)[0]["messages"]} for n, one in kept))
        return path

    def quoting_items(self, items: Sequence[TaskItem], *, has_passage: bool) -> tuple[list[TaskItem], dict]:
        """The items whose answer a passage holds, asked with it or without it among distractors, and the passages of
        each by its id. Without it the right answer is that the sources do not say."""
        asked, shown = [], {}
        for number, item in enumerate(items):
            if one := self.grounded(item.question, item.target):
                row, shown[item.item_id] = self.composed(one, 0.0 if has_passage else 1.0, number)
                made = item_of_messages(item, row["messages"][:-1])
                asked.append(made if has_passage else replace(made, target=raft.NOT_THERE))
        return asked, shown

    def share_found(self, items: Sequence[TaskItem], shown: dict[str, list]) -> float:
        """Share of the items of which a passage that is shown holds the answer."""
        hits = [any(is_said(item.target, comparable(one.text)) for one in shown[item.item_id]) for item in items]
        return sum(hits) / len(hits)


def question_and_answer(row: dict) -> tuple[str, str]:
    """The last question of a conversation, and its answer."""
    *_, question, answer = row["messages"]
    return question["content"], without_thought(answer["content"])
