"""Passages: a document cut where its structure allows, each as long as a search reads well.

passages = split(document, count_words, max_tokens=200)
passages[0].text == document.text[passages[0].start : passages[0].end]
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ftkit.data.index.document import Block, Document

MAX_TOKENS = 200  # of a passage; leaves room for its heading in encoders that read 256
LINE_ENDS = re.compile(r"\n+")
SENTENCE_ENDS = re.compile(r"(?<=[.!?:;])\s+|(?<=[.!?:;][\"')\]])\s+|\n+")
SPACES = re.compile(r"\s+")
WORD = re.compile(r"\w+|[^\w\s]")
BYTES_A_LETTER = 4  # at most; no tokenizer makes more tokens of one

CountTokens = Callable[[str], int]
Span = tuple[int, int]


@dataclass(frozen=True)
class Passage:
    """Part of a document: the characters from start to end of its text. id: its source and number, "guide.md#3"."""

    id: str
    text: str
    source: str
    title: str
    heading: str
    start: int
    end: int


def heading_of(passage: Passage) -> str:
    """What a passage is searched under beside its text: its headings, or its document's title; "" where it has none."""
    return passage.heading or (passage.title if passage.title != passage.source else "")


def searched(passage: Passage) -> str:
    """The text by which a passage is found."""
    heading = heading_of(passage)
    return f"{heading}\n{passage.text}" if heading else passage.text


def count_words(text: str) -> int:
    """The words and signs of a text: about its tokens, where no tokenizer is at hand."""
    return len(WORD.findall(text))


def split(document: Document, count_tokens: CountTokens, max_tokens: int = MAX_TOKENS) -> list[Passage]:
    """The passages of a document, none of them over two headings or longer than `max_tokens`.

    Blocks stand whole where they fit; a longer one is cut at its lines or sentences, then at spaces. Every letter of a
    block but the white space between two passages is in one of them.
    """
    found = []
    for section in document.sections:
        pieces = (part for block in section.blocks for part in cut(document.text, block, count_tokens, max_tokens))
        for start, end in packed(document.text, pieces, count_tokens, max_tokens):
            name = f"{document.source}#{len(found) + 1}"
            text = document.text[start:end]
            found.append(Passage(name, text, document.source, document.title, section.heading, start, end))
    return found


def packed(text: str, pieces: Iterator[Span], count_tokens: CountTokens, max_tokens: int) -> Iterator[Span]:
    """Neighbouring pieces put together as long as they fit."""
    start, end, size = -1, -1, 0
    for piece_start, piece_end in pieces:
        own = count_tokens(text[piece_start:piece_end])
        if start >= 0:
            together = size + count_tokens(text[end:piece_start]) + own
            if together <= max_tokens:
                end, size = piece_end, together
                continue
            yield start, end
        start, end, size = piece_start, piece_end, own
    if start >= 0:
        yield start, end


def cut(text: str, block: Block, count_tokens: CountTokens, max_tokens: int) -> Iterator[Span]:
    """A block whole where it fits, else its parts."""
    ends = (LINE_ENDS, SPACES) if block.is_code else (SENTENCE_ENDS, SPACES)
    yield from _cut(text, (block.start, block.end), ends, count_tokens, max_tokens)


def _cut(text: str, span: Span, ends: tuple[re.Pattern, ...], count_tokens: CountTokens, limit: int) -> Iterator[Span]:
    """The parts of a span that fit, cut at the first kind of end that helps."""
    start, end = span
    if start >= end:
        return
    if count_tokens(text[start:end]) <= limit:
        yield span
    elif not ends:
        step = max(1, limit // BYTES_A_LETTER)
        yield from ((place, min(place + step, end)) for place in range(start, end, step))
    else:
        pieces = (one for part in parts(text, span, ends[0]) for one in _cut(text, part, ends[1:], count_tokens, limit))
        yield from packed(text, pieces, count_tokens, limit)


def parts(text: str, span: Span, ends: re.Pattern) -> Iterator[Span]:
    """What stands between the matches of `ends` in a span."""
    start, end = span
    for match in ends.finditer(text, start, end):
        if match.start() > start:
            yield start, match.start()
        start = match.end()
    if start < end:
        yield start, end
