"""RAFT: a question with numbered passages, of which one holds the answer, and an answer that quotes it.

    row = {"messages": [user: passages and question, assistant: '"The ferry leaves at nine." [2]\\n\\nAnswer: at nine'],
           "sources": [ids in the order of their numbers], "has_passage": True}

In a share of the rows the passage is missing, and the answer says so (or stands without a quotation, as in the paper).
Source: Zhang et al. 2024, arXiv:2403.10131.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ftkit.data.cleaning.near_duplicates import words
from ftkit.data.index.passages import searched
from ftkit.inference.retrieval.index import Found
from ftkit.inference.retrieval.prompting import with_sources
from ftkit.inference.synth.citations import comparable, is_said, quoted
from ftkit.inference.synth.items import Draft, Item, Material, Steps, user
from ftkit.inference.synth.questions import asked_about

REFUSE, ANSWER = WITHOUT = ("refuse", "answer")
NOT_THERE = "The sources do not say."
MARK = "Answer: "
NUM_LOOKED_AT = 64  # passages that distractors are chosen from
QUOTE_TOKENS = 120  # of an answer's quotation, at most
MIN_TELLING_WORDS = 2  # of an answer that no distractor may hold


@dataclass(frozen=True)
class Grounded:
    """A question whose answer is in a passage. quote: the passage's own words that say so."""

    question: str
    answer: str
    quote: str
    passage: Any


def rows(
    grounded: Sequence[Grounded],
    passages: Sequence[Any],
    *,
    num_distractors: int = 3,
    share_without: float = 0.2,
    without: str = REFUSE,
    seed: int = 0,
) -> Iterator[dict]:
    """A RAFT row for each question. passages: those that distractors are drawn from."""
    settings = {"num_distractors": num_distractors, "share_without": share_without, "without_passage": without}
    for number, one in enumerate(grounded):
        yield composed(one, passages, settings, random.Random(f"{seed} {number}"))


def item(number: int, material: Material, kept: Sequence[Draft]) -> Item:
    """A question about one passage, among others."""
    passage = material.visit(number, material.passages)
    return Item({"passages": [passage.id], "documents": [passage.source]}, steps(passage, number, material))


def steps(passage: Any, number: int, material: Material) -> Steps:
    """Ask for a question about a sentence, and its answer; the sentence is what is quoted."""
    draw = material.draw(number)
    question, answer, quote = yield from asked_about(passage, draw)
    columns = composed(Grounded(question, answer, quote, passage), material.passages, material.settings, draw)
    return Draft(question, answer, columns, reference=quote)


def composed(one: Grounded, passages: Sequence[Any], settings: dict, draw: random.Random) -> dict:
    """The row: passages in a drawn order, the question, and the answer that quotes the right one."""
    has_passage = draw.random() >= settings["share_without"]
    num_others = settings["num_distractors"] + (not has_passage)
    shown = distractors(one, passages, num_others, draw) + ([one.passage] if has_passage else [])
    draw.shuffle(shown)
    answer = MARK + one.answer
    if has_passage:
        number = 1 + next(place for place, passage in enumerate(shown) if passage is one.passage)
        answer = f"{quoted(one.quote, number)}\n\n{answer}"
    elif settings["without_passage"] == REFUSE:
        answer = NOT_THERE
    messages = with_sources(user(one.question), [Found(passage, 0.0) for passage in shown])
    return {
        "messages": [*messages, {"role": "assistant", "content": answer}],
        "sources": [passage.id for passage in shown],
        "has_passage": has_passage,
    }


def distractors(one: Grounded, passages: Sequence[Any], num: int, draw: random.Random) -> list[Any]:
    """Passages that do not hold the quotation or the answer: half of them those that share most words with the question
    and its passage's heading, the others drawn."""
    looked_at = draw.sample(range(len(passages)), min(NUM_LOOKED_AT, len(passages)))
    others = [passages[place] for place in looked_at if not says_it(one, passages[place])]
    asked = set(words(one.question))
    near = sorted(others, key=lambda passage: -len(asked & set(words(searched(passage)))))[: (num + 1) // 2]
    rest = [passage for passage in others if not any(passage is taken for taken in near)]
    return near + rest[: num - len(near)]


def says_it(one: Grounded, passage: Any) -> bool:
    """Whether a passage is the right one, or says what it says."""
    if passage.id == one.passage.id:
        return True
    text = comparable(passage.text)
    return is_said(one.quote, text) or len(words(one.answer)) >= MIN_TELLING_WORDS and is_said(one.answer, text)


def final_answer(text: str) -> str:
    """The answer of a RAFT reply, after its quotation."""
    return text.rpartition(MARK)[2].strip()
