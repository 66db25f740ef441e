"""Whether an answer is the right one: exact match, token F1, and the number an answer ends with.

ExactMatch().compute(predictions=["Paris."], references=["Paris"])
"""

import re
import string
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from statistics import median

from ftkit.inference.scoring import exact_match, normalize_answer
from ftkit.metrics.definition import TextMetric

FEW_WORDS, FEW_CHARACTERS = 5, 60  # of an answer that is right or wrong as a whole
ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)
# A comma before three digits groups thousands (1,234), as in India before two and at last three (12,34,567); any other
# comma between two numbers is a decimal one (2,5 and 0,125), unless a third follows, as in a list (1,2,3). Points group
# where there are two of them (1.234.567) or a comma follows (1.234,56); a single one is decimal (1.234).
# Of groups there are at most 12: where more fit, a long list would be tried from each of its places to its end.
BY_POINTS = r"\d{1,3}(?:\.\d{3}){1,12},\d+(?!\d)|\d{1,3}(?:\.\d{3}){2,12}(?!\d|[.,]\d)"
BY_COMMAS = r"(?:[1-9]\d{0,2}(?:,\d{3}){1,12}|[1-9]\d?(?:,\d{2}){1,12},\d{3})(?!\d|,\d)(?:\.\d+)?"
DECIMAL_COMMA = r"(?<!\d,)\d+,\d+(?!\d|[.,]\d)"
PLAIN = r"\d+(?:\.\d+)?|\.\d+"
VALUE = rf"(?:{BY_POINTS}|{BY_COMMAS}|{DECIMAL_COMMA}|{PLAIN})(?:[eE][-+]?\d{{1,3}}(?!\w))?"
NUMBER = re.compile(  # with a whole in front of a fraction, 1 1/2; in "5-3" nothing is negative
    rf"(?P<minus>(?<!\w)[-−])?[$€£]?(?:(?P<whole>\d+) (?=\d+/\d))?(?P<value>{VALUE})(?: ?/ ?(?P<divisor>{VALUE}))?"
)
SEPARATOR = r"(?:[\u00a0\u202f\u2009'’]|\{,\}|\\,)"  # narrow spaces and apostrophes, and LaTeX's commas
THOUSANDS = re.compile(rf"(?<!\d)\d{{1,3}}(?:{SEPARATOR}\d{{3}})+(?!\d)")
POINTS_GROUP = re.compile(rf"(?:{BY_POINTS})")
COMMAS_GROUP = re.compile(rf"(?:{BY_COMMAS})")
LATEX_FRACTION = re.compile(r"([-−]?)\\[dt]?frac\{(\d+)\}\{(\d+)\}")
# GSM8K's mark with a number after it, and the rest of its line. A heading of Markdown's, "#### 1. Add", is none.
FINAL_LINE = re.compile(r"(?<!#)####[^\S\n]*(?!\d+[.)][^\S\n]+\S)((?:[-−]?[$€£]?|[$€£][-−])\.?\d.*)")


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


def final_number(text: str) -> Fraction | None:
    """The number after the last "####", in its line after the "=" if there is one; else the last number of the text.

    Fractions, exponents, decimal commas and grouped thousands are one number. None where there is none.
    """
    text = LATEX_FRACTION.sub(r" \1\2/\3", THOUSANDS.sub(lambda found: re.sub(SEPARATOR, "", found[0]), text))
    marked = FINAL_LINE.findall(text)
    if marked:
        behind = marked[-1].rpartition("=")[2]
        return as_fraction(NUMBER.search(behind) or NUMBER.search(marked[-1]))
    return as_fraction(next(reversed(list(NUMBER.finditer(text))), None))


def as_fraction(found: re.Match | None) -> Fraction | None:
    """A match of NUMBER as an exact number; None for a division by zero, and for more digits than Python reads."""
    if found is None:
        return None
    whole, value, divisor = (found[name] and with_point(found[name]) for name in ("whole", "value", "divisor"))
    try:
        number = Fraction(whole or 0) + Fraction(value) / Fraction(divisor or 1)
    except (ValueError, ZeroDivisionError):
        return None
    return -number if found["minus"] else number


def with_point(value: str) -> str:
    """A match of VALUE as Python writes it: 1.234,56 and 1,234.56 are 1234.56."""
    if POINTS_GROUP.match(value):
        return value.replace(".", "").replace(",", ".")
    return value.replace(",", "" if COMMAS_GROUP.match(value) else ".")


def numeric_match(prediction: str, reference: str) -> float:
    """1.0 where both end with the same number: 1,000 is 1000.0 and 1e3, 1/2 is 0.5 and 0,5.

    Raises ValueError for a reference without a number.
    """
    wanted = final_number(reference)
    if wanted is None:
        raise ValueError(f"reference {reference!r} has no number; use exact_match, or fix it")
    return float(final_number(prediction) == wanted)
