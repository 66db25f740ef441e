"""Rewards of one answer: functions of texts, by the names that `--rewards` takes.

    right = named_reward("exact_answer")            # right.score("4", "4") == 1.0
    short = named_reward("length:20-60")            # short.score("five words are too few", None) == 0.25

Each gives a number that is higher for a better answer, here from 0 to 1. What a row lacks, such as the right answer, is
None, and so is the reward: missing, and not zero. A thought (<think>...</think>) in front of an answer is not scored,
but by `format` and `length`, which see the whole text.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ftkit.config.errors import UserError, did_you_mean, first_line
from ftkit.config.json_object import read_object
from ftkit.data.rows.thoughts import without_thought
from ftkit.metrics.constraints import CODE_FENCE, checked, constraints_kept, is_json, is_pattern, no_json, words
from ftkit.metrics.json_schema import check_schema, fits_schema
from ftkit.metrics.text_match import final_number, is_exact, mean, numeric_match, token_f1

ANSWER, CONSTRAINTS = "answer", "constraints"  # columns of a row
LENGTH = re.compile(r"(\d*)-(\d*)")


@dataclass(frozen=True)
class TextReward:
    """score(text, what the row says): the reward of one answer. column: of the row that it needs, or None.

    check(what the row says): raises ValueError where it can't be used.
    """

    score: Callable[[str, object], float]
    column: str | None = None
    check: Callable[[object], object] | None = None


def length_score(text: str, low: int, high: float) -> float:
    """1 for a text of `low` to `high` words; outside as much less as it is shorter, or longer, than that."""
    count = len(words(text))
    return count / low if count < low else min(1.0, high / count) if count else 1.0


def length_reward(given: str) -> TextReward:
    """Of "20-60", "20-" or "-60". Raises ValueError for anything else."""
    found = LENGTH.fullmatch(given)
    if not found or not (found[1] or found[2]):
        raise ValueError("give a range of words such as 20-60, 20- or -60")
    low, high = int(found[1] or 0), float(found[2] or "inf")
    if low > high or high == 0:
        raise ValueError(f"{given} holds no length; give the smaller number first")
    return TextReward(lambda text, _: length_score(text, low, high))


def format_reward(given: str) -> TextReward:
    """1 where the whole answer is as the regular expression says; "." also matches the end of a line."""
    if not is_pattern(given):
        raise ValueError("give a regular expression that the whole answer must match")
    pattern = re.compile(given, re.DOTALL)
    return TextReward(lambda text, _: float(pattern.fullmatch(text.strip()) is not None))


def schema_reward(given: str) -> TextReward:
    """1 where the answer is JSON, in a code fence or bare, that fits the schema of a file."""
    path = Path(given).expanduser()
    if not path.is_file():
        raise ValueError(f"there is no file {given}; give one that holds a JSON Schema")
    schema = read_object(path, "give a file that holds a JSON Schema")
    check_schema(schema)
    return TextReward(lambda text, _: float(is_json_of(without_thought(text), schema)))


def is_json_of(text: str, schema: dict) -> bool:
    """Whether a text is one JSON value that fits the schema."""
    if not is_json(text):
        return False
    fenced = CODE_FENCE.match(text.strip())
    return fits_schema(json.loads(fenced[1] if fenced else text, parse_constant=no_json), schema)


def check_number(answer: object) -> None:
    """Raise ValueError for a right answer without a number."""
    if final_number(str(answer)) is None:
        raise ValueError(f"{answer!r} has no number; use exact_answer, or fix it")


REWARDS = {
    "exact_answer": TextReward(lambda text, answer: is_exact(without_thought(text), answer), ANSWER),
    "final_number": TextReward(lambda text, answer: numeric_match(without_thought(text), answer), ANSWER, check_number),
    "token_f1": TextReward(lambda text, answer: token_f1(without_thought(text), answer), ANSWER),
    "constraints": TextReward(
        lambda text, given: mean(constraints_kept(without_thought(text), given)), CONSTRAINTS, checked
    ),
    "json": TextReward(lambda text, _: float(is_json(without_thought(text)))),
}
# Name -> what makes the reward of what stands after the colon.
WITH_PARAMETER = {"format": format_reward, "length": length_reward, "json_schema": schema_reward}


def reward_names() -> list[str]:
    """The names as a person writes them."""
    return [*REWARDS, "format:PATTERN", "length:20-60", "json_schema:FILE"]


def named_reward(name: str) -> TextReward:
    """The reward of a name. Raises UserError for one that is not known, and for a parameter that does not fit."""
    kind, colon, given = name.partition(":")
    if kind in WITH_PARAMETER:
        try:
            return WITH_PARAMETER[kind](given)
        except UserError:
            raise
        except (ValueError, RecursionError) as error:
            raise UserError(f"--rewards {name}: {first_line(error)}") from error
    if kind in REWARDS and not colon:
        return REWARDS[kind]
    if kind in REWARDS:
        raise UserError(f'--rewards {name}: {kind} takes nothing after a colon; drop ":{given}"')
    hint = did_you_mean(kind, [*REWARDS, *WITH_PARAMETER])
    raise UserError(f'unknown reward "{name}"{hint}; allowed: {", ".join(reward_names())}, or FILE.py:FUNCTION')
