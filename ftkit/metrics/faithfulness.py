"""Whether an answer says only what its sources say: the share of its sentences that one of them supports.

    faithfulness("Plan B has backups [1]. It costs 7 euros.", ["Plan B: backups daily.", "Plan A costs 7 euros."])

Without a judge, a source supports a sentence that shares most of its words and all of its numbers with it. That sees
what was invented, and neither a negation nor a change of roles; a judge reads the sentence with all sources.
"""

import re
from collections.abc import Callable, Sequence

SENTENCE_END = re.compile(r"(?<=[.!?])\s+|(?<=[.!?][\"')\]])\s+|\n+")
CITATION = re.compile(r"\s*\[\d+(?:\s*[,-]\s*\d+)*\]")
WORD = re.compile(r"[^\W\d_]+|\d+(?:[.,]\d+)*")
SUPPORTED_SHARE = 0.7  # of a sentence's words that its source must hold
ENDINGS = re.compile(r"(?:ing|ed|es|s)$")
COMMON = frozenset(
    "a about all also an and any are as at be been but by can could did do does for from had has have he her his how i "
    "if in into is it its may more most no not of on one or our out over she should so some such than that the their "
    "them then there these they this those to under was we were what when where which who will with would you "
    "your".split()
)

Supports = Callable[[str, Sequence[str]], bool]


def faithfulness(answer: str, sources: Sequence[str], supports: Supports | None = None) -> float:
    """The share of the sentences of an answer that the sources support, 0 for an answer without one.

    supports: whether the sources support a sentence, such as what a judge says; None: by the words that they share.
    """
    found = statements(answer)
    decide = supports or supported_by_words
    return sum(decide(sentence, sources) for sentence in found) / len(found) if found else 0.0


def statements(answer: str) -> list[str]:
    """The sentences of an answer, without citations; those without a word that says something are left out."""
    sentences = (CITATION.sub("", part).strip() for part in SENTENCE_END.split(answer))
    return [sentence for sentence in sentences if content_words(sentence)]


def supported_by_words(sentence: str, sources: Sequence[str]) -> bool:
    """Whether one source holds most of the words of a sentence, and all of its numbers."""
    words = content_words(sentence)
    numbers = {word for word in words if word[0].isdigit()}
    held = (content_words(source) for source in sources)
    return any(numbers <= own and len(words & own) >= SUPPORTED_SHARE * len(words) for own in held)


def content_words(text: str) -> set[str]:
    """The words of a text that say something, in lower case and without the commonest endings."""
    words = {word for word in WORD.findall(text.lower()) if word not in COMMON}
    return {ENDINGS.sub("", word) if len(word) > 4 else word for word in words}
