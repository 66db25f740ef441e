"""Whether an answer keeps to instructions that a program can verify: length, keywords, format, case.

InstructionConstraints().compute(predictions=["YES"], references=['[{"kind": "all_uppercase"}]'])

A word is a run of letters and digits; scripts that write no spaces between words (Chinese, Japanese, Thai, ...) have
keywords, sentences and paragraphs here, but no words to count. A sentence ends with . ! or ? before a space, or with
the full-width marks; "Dr. Smith" does not end one, but rarer abbreviations do.
"""

import json
import re
from typing import Any

from ftkit.config.errors import did_you_mean
from ftkit.metrics.definition import TextMetric
from ftkit.metrics.text_match import mean

WORD = re.compile(r"\b[\w'’-]+\b")
SENTENCE_END = re.compile(r"[.!?]+(?=\s|$)|[。！？]+")
ABBREVIATION = re.compile(r"\b(Mr|Mrs|Ms|Dr|Prof|vs|e\.g|i\.e)\.(?=\s+\S)")  # which seldom end a sentence
UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"  # Thai to Chinese
BULLET = re.compile(r"^\s*(?:[-*•]|\d+[.)])\s+\S", re.MULTILINE)
CODE_FENCE = re.compile(r"\A```(?:json)?\n(.*)\n```\Z", re.DOTALL)


def words(text: str) -> list[str]:
    """Words of a text."""
    return WORD.findall(text)


def num_sentences(text: str) -> int:
    """Stretches of text that end with . ! or ?, and a last one that does not."""
    return len([part for part in SENTENCE_END.split(ABBREVIATION.sub(r"\1", text)) if part.strip()])


def num_paragraphs(text: str) -> int:
    """Blocks of text with empty lines between them."""
    return len([part for part in re.split(r"\n\s*\n", text) if part.strip()])


def count_of(word: str, text: str) -> int:
    """How often a word or phrase stands in a text in whatever case: as a whole, where its script has spaces."""
    spaced = rf"[^\W{UNSPACED}]"  # a letter or digit that would belong to the word
    before, after = ("" if re.match(f"[{UNSPACED}]", edge) else spaced for edge in (word[0], word[-1]))
    pattern = (f"(?<!{before})" if before else "") + re.escape(word) + (f"(?!{after})" if after else "")
    return len(re.findall(pattern, text, flags=re.IGNORECASE))


def is_json(text: str) -> bool:
    """Whether the text is one JSON value, in a code fence or bare."""
    fenced = CODE_FENCE.match(text.strip())
    try:
        json.loads(fenced[1] if fenced else text, parse_constant=no_json)
    except (ValueError, RecursionError):  # also thousands of digits or brackets, which a degenerate answer has
        return False
    return True


def no_json(name: str):
    """Raise ValueError for NaN and Infinity, which Python reads and JSON does not have."""
    raise ValueError(f"{name} is not JSON")


def has_case(text: str, changed: str) -> bool:
    """Whether a text that has letters is equal to itself in that case."""
    return text == changed and any(letter.isalpha() for letter in text)


def is_count(value) -> bool:
    """Whether a value is a whole number from 0."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def is_text(value) -> bool:
    """Whether a value is a text with letters."""
    return isinstance(value, str) and value != ""


def is_pattern(value) -> bool:
    """Whether a value is a regular expression."""
    try:
        return is_text(value) and re.compile(value) is not None
    except re.error:
        return False


# what a value may be: the words for it, and whether one is
COUNT = ("a whole number", is_count)
TEXT = ("a text", is_text)
TEXTS = ("a list of texts", lambda value: isinstance(value, list) and value != [] and all(map(is_text, value)))
FLAG = ("true or false", lambda value: isinstance(value, bool))
PATTERN = ("a regular expression", is_pattern)
WORD_COUNT = (
    '{"word": a text, "count": a whole number}',
    lambda value: isinstance(value, dict) and is_text(value.get("word")) and is_count(value.get("count")),
)

# kind of constraint: what its value must be, and whether (text, value) keeps to it
CHECKS = {
    "min_words": (COUNT, lambda text, value: len(words(text)) >= value),
    "max_words": (COUNT, lambda text, value: 0 < len(words(text)) <= value),
    "num_sentences": (COUNT, lambda text, value: num_sentences(text) == value),
    "max_sentences": (COUNT, lambda text, value: 0 < num_sentences(text) <= value),
    "num_paragraphs": (COUNT, lambda text, value: num_paragraphs(text) == value),
    "num_bullets": (COUNT, lambda text, value: len(BULLET.findall(text)) == value),
    "includes": (TEXTS, lambda text, value: all(count_of(word, text) for word in value)),
    "excludes": (TEXTS, lambda text, value: bool(text.strip()) and not any(count_of(word, text) for word in value)),
    "word_count": (WORD_COUNT, lambda text, value: count_of(value["word"], text) == value["count"]),
    "starts_with": (TEXT, lambda text, value: text.strip().startswith(value)),
    "ends_with": (TEXT, lambda text, value: text.strip().endswith(value)),
    "one_of": (TEXTS, lambda text, value: text.strip() in value),
    "matches": (PATTERN, lambda text, value: re.fullmatch(value, text.strip(), flags=re.DOTALL) is not None),
    "json": (FLAG, lambda text, value: is_json(text) == value),
    "no_commas": (FLAG, lambda text, value: (bool(text.strip()) and "," not in text) == value),
    "quoted": (FLAG, lambda text, value: (re.fullmatch(r'".+"', text.strip(), flags=re.DOTALL) is not None) == value),
    "all_lowercase": (FLAG, lambda text, value: has_case(text, text.lower()) == value),
    "all_uppercase": (FLAG, lambda text, value: has_case(text, text.upper()) == value),
    "capital_words": (
        COUNT,
        lambda text, value: sum(len(word) > 1 and word.isupper() for word in words(text)) >= value,
    ),
}


class InstructionConstraints(TextMetric):
    """Shares of constraints kept, and of answers that keep all of theirs. references: JSON lists of constraints, each
    {"kind": K, "value": V}; a kind that is a yes or no needs no value."""

    about = "Share of answers that keep to all their verifiable instructions, and of instructions."

    def score(self, predictions, references):
        kept = [constraints_kept(*pair) for pair in zip(predictions, references, strict=True)]
        return {"constraints": mean(map(all, kept)), "each_constraint": mean(one for row in kept for one in row)}


def constraints_kept(text: str, constraints: str | list[dict]) -> list[bool]:
    """For each constraint whether the text keeps to it. An empty answer keeps to none.

    Raises ValueError as `checked` does.
    """
    return [bool(text.strip()) and bool(CHECKS[kind][1](text, value)) for kind, value in checked(constraints)]


def checked(constraints: str | list[dict]) -> list[tuple[str, Any]]:
    """Kind and value of each constraint, where a yes or no that is not given is yes.

    Raises ValueError for no list, an empty one, an unknown kind or key, and a value that is none of its kind.
    """
    try:
        constraints = json.loads(constraints) if isinstance(constraints, str) else constraints
    except json.JSONDecodeError as error:
        raise ValueError(f"constraints are not JSON ({error}): {constraints!r}") from error
    if not isinstance(constraints, list) or not all(isinstance(one, dict) for one in constraints):
        raise ValueError(f'{constraints!r} is not a list of constraints; give [{{"kind": K, "value": V}}, ...]')
    if not constraints:
        raise ValueError("an item without constraints; give each at least one")
    return [checked_one(one) for one in constraints]


def checked_one(constraint: dict) -> tuple[str, Any]:
    """Kind and value of one; see `checked`."""
    kind, value = constraint.get("kind"), constraint.get("value")
    if not isinstance(kind, str) or kind not in CHECKS:
        hint = did_you_mean(str(kind), CHECKS) or f"; allowed: {', '.join(CHECKS)}"
        raise ValueError(f'unknown constraint "{kind}"{hint}')
    unknown = set(constraint) - {"kind", "value"}
    if unknown:
        raise ValueError(
            f'constraint {kind} has the unknown key "{min(map(str, unknown))}"; it takes "kind" and "value"'
        )
    value_type, _ = CHECKS[kind]
    value = True if value is None and value_type is FLAG else value
    wanted, fits = value_type
    if not fits(value):
        raise ValueError(f'constraint {kind}: "value" is {value!r}; give {wanted}')
    return kind, value
