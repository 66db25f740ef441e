"""What a draft must keep to become a row: rules on its texts, and nothing that is there already.

sieve = Sieve(seed_texts, near=0.7)
reason = sieve.reason(draft)       # "" for one that is kept
"""

import re
from collections.abc import Iterable, Sequence

from ftkit.data.cleaning.near_duplicates import NearIndex, jaccard, word_runs, words
from ftkit.inference.refusals import is_refusal
from ftkit.inference.synth.items import Draft
from ftkit.inference.synth.prompts import LABEL

MIN_QUESTION_WORDS, MAX_QUESTION_WORDS, MAX_ANSWER_WORDS = 3, 250, 800
REPEATED_RUN = 4  # words of a run
MAX_REPEATED = 0.3  # share of an answer's runs of words that came before in it
MIN_REPEATING_WORDS = 20  # of an answer that is looked at for it
MAX_SAME_LINES = 3
ECHO = 0.8  # similarity of question and answer
LEFTOVER = re.compile(rf"^\s*{LABEL}", re.IGNORECASE | re.MULTILINE)
BLANK = re.compile(r"\[(?:insert|your|name|date|topic|company)\b[^\]\n]*\]|\{\w+\}|_{3,}", re.IGNORECASE)
SOMETHING = (
    r"(?:text|passage|article|paragraph|excerpt|image|picture|document|email|conversation|story|code|table|list)"
)
MISSING = re.compile(
    rf"\b(?:following|given|attached|above|below)\b (?:\w+ )?{SOMETHING}\b|\b{SOMETHING} (?:above|below)\b"
    r"|\b(?:the|this) (?:text|passage|article|paragraph|excerpt)\b",
    re.IGNORECASE,
)
THERE = re.compile(r"[:\n]\s*\S+\s+\S+")  # what the question is about, after it
SPEAKS_OF_ITSELF = re.compile(r"\bas an? (?:AI|artificial intelligence|language model|assistant)\b", re.IGNORECASE)


def rule_broken(draft: Draft) -> str:
    """The first rule that a draft breaks, in few words; "" for none."""
    question, answer = words(draft.question), words(draft.answer)
    if not draft.answer.strip():
        return "empty answer"
    if draft.is_new and not MIN_QUESTION_WORDS <= len(question) <= MAX_QUESTION_WORDS:
        return "question too short or too long"
    if len(answer) > MAX_ANSWER_WORDS:
        return "answer too long"
    if is_refusal(draft.answer) or SPEAKS_OF_ITSELF.search(draft.answer):
        return "a refusal, or the model speaks of itself"
    if repeats_itself(draft.answer):
        return "the answer repeats itself"
    if jaccard(word_runs(draft.question), word_runs(draft.answer)) >= ECHO:
        return "the answer is the question"
    if draft.is_new and MISSING.search(draft.question) and not THERE.search(draft.question):
        return "the question is about a text that is not there"
    for text in (draft.question, draft.answer) if draft.is_new else ():
        if LEFTOVER.search(text) or BLANK.search(text):
            return "words of a form are left over"
    return ""


def repeats_itself(text: str) -> bool:
    """Whether a text says the same lines or the same words again and again."""
    lines = [line.strip() for line in text.split("\n") if len(line.split()) > 1]
    if any(lines.count(line) >= MAX_SAME_LINES for line in set(lines)):
        return True
    said = words(text)
    runs = [tuple(said[start : start + REPEATED_RUN]) for start in range(len(said) - REPEATED_RUN + 1)]
    return len(said) >= MIN_REPEATING_WORDS and 1 - len(set(runs)) / len(runs) > MAX_REPEATED


class Sieve:
    """Drafts one after another. taken: questions that new ones must differ from. near: similarity from which two
    questions are the same, as `ftkit data dedup` measures it."""

    def __init__(self, taken: Iterable[str], near: float):
        self.questions = NearIndex(near)
        self.pairs: set[tuple[str, ...]] = set()
        for text in taken:
            self.questions.add(text)

    def reason(self, draft: Draft, beside: Sequence[Draft] = ()) -> str:
        """Why a draft is no row; "" for one that may be added. beside: drafts that are not added yet."""
        if broken := rule_broken(draft):
            return broken
        if draft.is_new:
            runs, near = word_runs(draft.question), self.questions.threshold
            is_old = bool(self.questions.near(draft.question))
            is_old = is_old or any(jaccard(runs, word_runs(one.question)) >= near for one in beside)
        else:
            is_old = pair(draft) in self.pairs or any(pair(draft) == pair(one) for one in beside)
        return "a duplicate of a seed or of another row" if is_old else ""

    def add(self, draft: Draft) -> None:
        """Remember a row."""
        self.pairs.add(pair(draft))
        if draft.is_new:
            self.questions.add(draft.question)


def pair(draft: Draft) -> tuple[str, ...]:
    """Question and answer by their words; of a preference the worse answer too."""
    return (*words(draft.question), "", *words(draft.answer), "", *words(str(draft.columns.get("rejected", ""))))
