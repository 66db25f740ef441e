"""Answers made worse by a rule, for preference pairs whose better answer is known.

corrupted("The ship has 12 sails.", draw)     # ("number", "The ship has 17 sails.")
"""

import random
import re
from collections.abc import Callable

from ftkit.inference.synth.citations import sentences

NUMBER = re.compile(r"(?<![\w.,])\d{1,9}(?![\w]|[.,]\d)")
VERB = re.compile(r"\b(is|are|was|were|can|will|should|must)\b( not\b)?", re.IGNORECASE)
LONG_WORD = re.compile(r"\b[A-Za-z]{4,}\b")
MIN_CUT_WORDS = 8  # of an answer that is cut
MAX_STEP = 9  # by which a number is changed


def corrupted(answer: str, draw: random.Random) -> tuple[str, str]:
    """(name of the rule, the worse answer); ("", "") where no rule changes it."""
    names = list(RULES)
    draw.shuffle(names)
    for name in names:
        worse = RULES[name](answer, draw).strip()
        if worse and worse != answer.strip():
            return name, worse
    return "", ""


def change_number(answer: str, draw: random.Random) -> str:
    """One number is another one of about its size."""
    found = list(NUMBER.finditer(answer))
    if not found:
        return ""
    one = draw.choice(found)
    value = int(one[0]) + draw.choice([-1, 1]) * draw.randint(1, MAX_STEP)
    return answer[: one.start()] + str(abs(value)) + answer[one.end() :]


def negate(answer: str, draw: random.Random) -> str:
    """One verb gets a "not", or loses it."""
    found = list(VERB.finditer(answer))
    if not found:
        return ""
    one = draw.choice(found)
    return answer[: one.start()] + (one[1] if one[2] else f"{one[1]} not") + answer[one.end() :]


def swap_words(answer: str, draw: random.Random) -> str:
    """Two words stand in each other's place."""
    found = list(LONG_WORD.finditer(answer))
    pairs = [(a, b) for a in found for b in found if a.start() < b.start() and a[0].lower() != b[0].lower()]
    if not pairs:
        return ""
    first, second = draw.choice(pairs)
    between = answer[first.end() : second.start()]
    return answer[: first.start()] + second[0] + between + first[0] + answer[second.end() :]


def cut(answer: str, draw: random.Random) -> str:
    """The end is missing."""
    parts = answer.split(" ")
    return " ".join(parts[: draw.randint(len(parts) // 3, len(parts) // 2)]) if len(parts) >= MIN_CUT_WORDS else ""


def repeat(answer: str, draw: random.Random) -> str:
    """A sentence is said three times."""
    parts = sentences(answer)
    one = draw.choice(parts)
    return answer.replace(one, " ".join([one] * 3), 1) if len(parts) > 1 else ""


RULES: dict[str, Callable[[str, random.Random], str]] = {
    "number": change_number, "negation": negate, "order": swap_words, "cut": cut, "repeat": repeat,
}  # fmt: skip
