"""Questions: about a passage of a document a model asks what it answers, and answers from it.

The rows hold question and passage too, as pairs for `ftkit embed`.
"""

from collections.abc import Generator, Sequence
from typing import Any

from ftkit.data.cleaning.near_duplicates import words
from ftkit.inference.retrieval.stores import searched
from ftkit.inference.synth import prompts
from ftkit.inference.synth.items import Ask, Draft, Dropped, Item, Material, Steps, conversation, user
from ftkit.inference.synth.replies import cleaned, first_question

QUESTION_TOKENS = 60
SUPPORT = 0.6  # of an answer's words of four letters or more stand in the passage, at least


def item(number: int, material: Material, kept: Sequence[Draft]) -> Item:
    """A question about one passage."""
    passage = material.visit(number, material.passages)
    return Item({"passages": [passage.id], "documents": [passage.source]}, steps(passage))


def steps(passage: Any) -> Steps:
    """Ask for a question, then for its answer."""
    question = yield from question_of(passage)
    (reply,) = yield Ask([user(prompts.PASSAGE_ANSWER.format(passage=searched(passage), question=question))])
    answer = cleaned(reply)
    if support(answer, searched(passage)) < SUPPORT:
        raise Dropped("the answer is not from the passage", answer)
    columns = {"messages": conversation(question, answer), "question": question, "passage": passage.text}
    return Draft(question, answer, columns)


def question_of(passage: Any) -> Generator[Ask, list[str], str]:
    """Ask for a question about a passage; return it."""
    asked = prompts.PASSAGE_QUESTION.format(passage=searched(passage))
    (reply,) = yield Ask([user(asked)], limit=QUESTION_TOKENS, may_be_cut=True)
    question = first_question(reply)
    if not question:
        raise Dropped("no question in the reply", reply)
    return question


def support(answer: str, passage: str) -> float:
    """Share of an answer's longer words, or of all where it has none, that stand in a passage."""
    there, said = set(words(passage)), words(answer)
    said = [word for word in said if len(word) > 3] or said
    return sum(word in there for word in said) / len(said) if said else 0.0
