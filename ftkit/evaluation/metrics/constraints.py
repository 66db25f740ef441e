"""Whether an answer keeps to instructions that a program can verify: length, keywords, format, case.

InstructionConstraints().compute(predictions=["YES"], references=['[{"kind": "all_uppercase"}]'])
"""

import json
import re

import evaluate

from ftkit.config.errors import did_you_mean
from ftkit.evaluation.metrics.definition import check_items, text_metric_info
from ftkit.evaluation.metrics.text_match import mean

WORD = re.compile(r"\b[\w'’-]+\b")
SENTENCE_END = re.compile(r"[.!?]+(?=\s|$)")
BULLET = re.compile(r"^\s*(?:[-*•]|\d+[.)])\s+\S", re.MULTILINE)
CODE_FENCE = re.compile(r"\A```(?:json)?\n(.*)\n```\Z", re.DOTALL)


def words(text: str) -> list[str]:
    """Words of a text."""
    return WORD.findall(text)


def num_sentences(text: str) -> int:
    """Stretches of text that end with . ! or ?, and a last one that does not."""
    parts = [part for part in SENTENCE_END.split(text) if part.strip()]
    return len(parts)


def num_paragraphs(text: str) -> int:
    """Blocks of text with empty lines between them."""
    return len([part for part in re.split(r"\n\s*\n", text) if part.strip()])


def count_of(word: str, text: str) -> int:
    """How often a word or phrase stands in a text as a whole, in whatever case."""
    return len(re.findall(rf"(?<!\w){re.escape(word)}(?!\w)", text, flags=re.IGNORECASE))


def is_json(text: str) -> bool:
    """Whether the text is one JSON value, in a code fence or bare."""
    fenced = CODE_FENCE.match(text.strip())
    try:
        json.loads(fenced[1] if fenced else text)
    except json.JSONDecodeError:
        return False
    return True


def has_case(text: str, changed: str) -> bool:
    """Whether a text that has letters is equal to itself in that case."""
    return text == changed and any(letter.isalpha() for letter in text)


# kind of constraint: whether (text, value) keeps to it
CHECKS = {
    "min_words": lambda text, value: len(words(text)) >= value,
    "max_words": lambda text, value: 0 < len(words(text)) <= value,
    "num_sentences": lambda text, value: num_sentences(text) == value,
    "max_sentences": lambda text, value: 0 < num_sentences(text) <= value,
    "num_paragraphs": lambda text, value: num_paragraphs(text) == value,
    "num_bullets": lambda text, value: len(BULLET.findall(text)) == value,
    "includes": lambda text, value: all(count_of(word, text) for word in value),
    "excludes": lambda text, value: bool(text.strip()) and not any(count_of(word, text) for word in value),
    "word_count": lambda text, value: count_of(value["word"], text) == value["count"],
    "starts_with": lambda text, value: text.strip().startswith(value),
    "ends_with": lambda text, value: text.strip().endswith(value),
    "one_of": lambda text, value: text.strip() in value,
    "matches": lambda text, value: re.fullmatch(value, text.strip(), flags=re.DOTALL) is not None,
    "json": lambda text, value: is_json(text) == value,
    "no_commas": lambda text, value: (bool(text.strip()) and "," not in text) == value,
    "quoted": lambda text, value: (re.fullmatch(r'".+"', text.strip(), flags=re.DOTALL) is not None) == value,
    "all_lowercase": lambda text, value: has_case(text, text.lower()) == value,
    "all_uppercase": lambda text, value: has_case(text, text.upper()) == value,
    "capital_words": lambda text, value: sum(len(word) > 1 and word.isupper() for word in words(text)) >= value,
}


class InstructionConstraints(evaluate.Metric):
    """Shares of constraints kept, and of answers that keep all of theirs. references: JSON lists of constraints, each
    {"kind": K, "value": V}; a kind that is a yes or no needs no value."""

    def _info(self):
        return text_metric_info("Share of answers that keep to all their verifiable instructions, and of instructions.")

    def _compute(self, predictions, references):
        check_items(predictions, references)
        kept = [constraints_kept(*pair) for pair in zip(predictions, references, strict=True)]
        return {"constraints": mean(map(all, kept)), "each_constraint": mean(one for row in kept for one in row)}


def constraints_kept(text: str, constraints: str | list[dict]) -> list[bool]:
    """For each constraint whether the text keeps to it. An empty answer keeps to none.

    Raises ValueError for no constraints and for one of an unknown kind.
    """
    if isinstance(constraints, str):
        constraints = json.loads(constraints)
    if not constraints:
        raise ValueError("an item without constraints; give each at least one")
    return [keeps(text, constraint) for constraint in constraints]


def keeps(text: str, constraint: dict) -> bool:
    """Whether the text keeps to one constraint."""
    kind = constraint.get("kind")
    if kind not in CHECKS:
        hint = did_you_mean(str(kind), CHECKS) or f"; allowed: {', '.join(CHECKS)}"
        raise ValueError(f'unknown constraint "{kind}"{hint}')
    return bool(text.strip()) and bool(CHECKS[kind](text, constraint.get("value", True)))
