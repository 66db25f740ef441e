"""The error of a person's mistake: one line that says what came, what is allowed and what to do."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """A mistake in a command, a setting or a data file. Commands print it as one line and exit with 2."""


class LimitError(Exception):
    """Something that others made takes more time or memory than it may.

    Also one line and exit 2, but no UserError: who passes over a refused row, say, must not meet it again at the next.
    """


def first_line(error: BaseException) -> str:
    """The first line of a library's error that says something; the name of its kind where none does."""
    return next((line.strip() for line in str(error).split("\n") if line.strip()), type(error).__name__)


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """Return `; did you mean "x"?` for the choice nearest to `word`, or an empty string."""
    nearest = difflib.get_close_matches(word, list(choices), n=1, cutoff=0.6)
    return f'; did you mean "{nearest[0]}"?' if nearest else ""
