"""Quotations with the number of their source, and whether that source says so, word for word.

    check('"The ferry leaves at nine." [2]', ["No boats on Sunday.", "The ferry leaves at nine. It is slow."])
    # [Quote(text="The ferry leaves at nine.", number=2, is_true=True)]

Case, white space, the form of quotation marks and a sign at the end of a quotation don't count; all else does.
"""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

INVISIBLE = "\u2060"  # put into foreign text, so that nothing in it is read as structure
MARKS = str.maketrans({mark: "'" for mark in '"“”„«»‘’`'})
QUOTED = re.compile(r'(?:"([^"]+)"|“([^”]+)”)\s*[.,;]?\s*\[(\d{1,4})\]')
ENDS = " .,;:!?…"
SENTENCE_END = re.compile(r"(?<=[.!?])[\"'”’)]*\s+(?=[^a-z\s])|\n+")


class Quote(NamedTuple):
    """What an answer quotes. number: of the source it names, from 1. is_true: that source says it, word for word."""

    text: str
    number: int
    is_true: bool


def check(answer: str, passages: Sequence[Any]) -> list[Quote]:
    """Every quotation of an answer that names a source, in order. passages: in the order of their numbers; texts, or
    what has a `text`."""
    texts = [comparable(getattr(passage, "text", passage)) for passage in passages]
    found = []
    for plain, curly, digits in QUOTED.findall(answer):
        text, number = plain or curly, int(digits)
        is_true = 1 <= number <= len(texts) and is_said(text, texts[number - 1])
        found.append(Quote(text, number, is_true))
    return found


def is_faithful(answer: str, passages: Sequence[Any]) -> bool:
    """Whether an answer quotes a source, and each quotation is word for word in the source that it names."""
    quotes = check(answer, passages)
    return bool(quotes) and all(quote.is_true for quote in quotes)


def quoted(text: str, number: int) -> str:
    """A quotation as `check` reads it."""
    return f'"{" ".join(text.translate(MARKS).split())}" [{number}]'


def is_said(quote: str, passage: str) -> bool:
    """Whether a text, prepared by `comparable`, holds a quotation as whole words."""
    wanted = comparable(quote).strip(ENDS)
    return bool(wanted) and re.search(rf"(?<!\w){re.escape(wanted)}(?!\w)", passage) is not None


def comparable(text: str) -> str:
    """A text without what does not count."""
    return " ".join(text.replace(INVISIBLE, "").translate(MARKS).casefold().split())


def sentences(text: str) -> list[str]:
    """The sentences and lines of a text, as they stand."""
    return [part.strip() for part in SENTENCE_END.split(text) if part.strip()]
