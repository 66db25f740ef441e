"""Questions: a sentence is drawn from a passage of a document, a model asks what it says, and answers from the passage.

The rows hold question and passage too, as pairs for `ftkit embed`.
"""

import random
from collections.abc import Generator, Sequence
from typing import Any

from ftkit.data.cleaning.near_duplicates import words
from ftkit.data.index.passages import searched
from ftkit.inference.synth import prompts
from ftkit.inference.synth.citations import sentences
from ftkit.inference.synth.items import Ask, Draft, Dropped, Item, Material, Steps, Way, conversation, user
from ftkit.inference.synth.replies import cleaned, first_question

QUESTION_TOKENS, ANSWER_TOKENS = 48, 64
SUPPORT = 0.8  # of an answer's words of four letters or more stand where it is said to be from, at least
MIN_SENTENCE_WORDS = 4


def item(number: int, material: Material, kept: Sequence[Draft]) -> Item:
    """A question about one sentence of a passage."""
    passage = material.visit(number, material.passages)
    origin = {"passages": [passage.id], "documents": [passage.source]}
    return Item(origin, steps(passage, material.draw(number)))


def steps(passage: Any, draw: random.Random) -> Steps:
    """Ask for a question, then for its answer."""
    question, answer, _ = yield from asked_about(passage, draw)
    columns = {"messages": conversation(question, answer), "question": question, "passage": passage.text}
    return Draft(question, answer, columns, reference=passage.text)


def asked_about(passage: Any, draw: random.Random) -> Generator[Ask, list[str], tuple[str, str, str]]:
    """A question about a sentence that is drawn from a passage, its answer, and the sentence.

    The answer is asked for greedily, with the whole passage, and must be from the sentence.
    """
    found = [one for one in sentences(passage.text) if len(words(one)) >= MIN_SENTENCE_WORDS]
    if not found:
        raise Dropped("no sentence to ask about", passage.text)
    sentence, shown = draw.choice(found), " ".join(searched(passage).split())
    asked = prompts.PASSAGE_QUESTION.format(passage=shown, sentence=sentence)
    (reply,) = yield Ask([[*question_turns(), *user(asked)]], way=Way(QUESTION_TOKENS), may_be_cut=True)
    question = first_question(reply)
    if not question:
        raise Dropped("no question in the reply", reply)
    asked = prompts.PASSAGE_ANSWER.format(passage=shown, question=question)
    (reply,) = yield Ask([[*answer_turns(), *user(asked)]], way=Way(ANSWER_TOKENS, is_greedy=True))
    answer = cleaned(reply)
    if support(answer, sentence) < SUPPORT:
        raise Dropped("the answer is not from the sentence", f"{sentence}\n{question}\n{answer}")
    return question, answer, sentence


def question_turns() -> list[dict]:
    """Questions that were asked about other sentences."""
    return [
        turn
        for passage, sentence, question, _ in prompts.EXAMPLES
        for turn in conversation(prompts.PASSAGE_QUESTION.format(passage=passage, sentence=sentence), question)
    ]


def answer_turns() -> list[dict]:
    """Answers that were given to other questions."""
    return [
        turn
        for passage, _, question, answer in prompts.EXAMPLES
        for turn in conversation(prompts.PASSAGE_ANSWER.format(passage=passage, question=question), answer)
    ]


def support(answer: str, text: str) -> float:
    """Share of an answer's different longer words and numbers, or of all where it has none, that stand in a text."""
    there, said = set(words(text)), words(answer)
    said = [word for word in said if len(word) > 3 or word.isdigit()] or said
    return sum(word in there for word in set(said)) / len(set(said)) if said else 0.0
