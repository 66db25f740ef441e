"""Whether an answer is the right one: exact match, token F1, and the number an answer ends with.

ExactMatch().compute(predictions=["Paris."], references=["Paris"])
"""

import re
import string
from collections import Counter
from collections.abc import Sequence
from statistics import median

from ftkit.inference.final_number import final_number
from ftkit.inference.scoring import exact_match, normalize_answer
from ftkit.metrics.definition import TextMetric

FEW_WORDS, FEW_CHARACTERS = 5, 60  # of an answer that is right or wrong as a whole
ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)


class ExactMatch(TextMetric):
    """Share of answers equal to their references; see `scoring.normalize_answer` for what is overlooked.

    ignore_case and ignore_punctuation overlook more.
    """

    about = "Share of predictions equal to their reference after normalisation."

    def score(self, predictions, references, ignore_case=False, ignore_punctuation=False):
        prepared = [
            [prepare(text, ignore_case, ignore_punctuation) for text in texts] for texts in (predictions, references)
        ]
        return {"exact_match": mean(exact_match(*prepared))}


class TokenF1(TextMetric):
    """Mean F1 of the words that an answer and its reference share, as SQuAD counts them."""

    about = "Mean F1 of shared words; case, punctuation and articles don't count."

    def score(self, predictions, references):
        return {"token_f1": mean(map(token_f1, predictions, references))}


class NumericMatch(TextMetric):
    """Share of answers whose final number equals that of the reference."""

    about = "Share of predictions whose final number is the reference's."

    def score(self, predictions, references):
        return {"numeric_match": mean(map(numeric_match, predictions, references))}


def mean(values) -> float:
    """Mean of numbers or truths."""
    values = [float(value) for value in values]
    return sum(values) / len(values)


def prepare(text: str, ignore_case: bool, ignore_punctuation: bool) -> str:
    """The text without what is overlooked."""
    text = text.casefold() if ignore_case else text
    return text.translate(PUNCTUATION) if ignore_punctuation else text


def is_exact(prediction: str, reference: str) -> float:
    """1.0 where they are equal after `normalize_answer`, else 0.0."""
    return float(normalize_answer(prediction) == normalize_answer(reference))


def token_f1(prediction: str, reference: str) -> float:
    """F1 of the words in common; 1 where both have none. Source: Rajpurkar et al. 2016, arXiv:1606.05250."""
    words, wanted = (squad_words(text) for text in (prediction, reference))
    if not words or not wanted:
        return float(words == wanted)
    common = sum((Counter(words) & Counter(wanted)).values())
    return 2 * common / (len(words) + len(wanted))


def contains(prediction: str, reference: str) -> float:
    """1.0 where an answer holds all words of its reference, in their order and side by side, else 0.0."""
    words, wanted = (squad_words(text) for text in (prediction, reference))
    places = range(len(words) - len(wanted) + 1)
    return float(any(words[place : place + len(wanted)] == wanted for place in places))


def graded_metric(references: Sequence[str]) -> str:
    """What free answers are best compared by: exact_match where most references are no longer than FEW_WORDS words;
    else token_f1, or chrf where they are long all the same, as in scripts without spaces. Raises ValueError for none.
    """
    if median(len(text.split()) for text in references) > FEW_WORDS:
        return "token_f1"
    return "chrf" if median(map(len, references)) > FEW_CHARACTERS else "exact_match"


def squad_words(text: str) -> list[str]:
    """Words in lower case, without punctuation and articles."""
    return ARTICLES.sub(" ", text.lower().translate(PUNCTUATION)).split()


def numeric_match(prediction: str, reference: str) -> float:
    """1.0 where both end with the same number: 1,000 is 1000.0 and 1e3, 1/2 is 0.5 and 0,5.

    Raises ValueError for a reference without a number.
    """
    wanted = final_number(reference)
    if wanted is None:
        raise ValueError(f"reference {reference!r} has no number; use exact_match, or fix it")
    return float(final_number(prediction) == wanted)
