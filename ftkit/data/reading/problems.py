"""Gathers the mistakes of a file, so that they are listed at once, one line for each cause.

problems = Problems()
rows = list(checker.rows(iter_records(path, problems.add)))
problems.raise_any()
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice

from ftkit.config.errors import UserError

MAX_LISTED = 20  # causes that are shown; the mistakes of others are counted
PLACES_NAMED = 4  # of one cause, after the first
PLACE = re.compile(r"(?P<file>[^\n]+?):(?P<line>\d+): ")
NUMBER = re.compile(r"0x[0-9a-f]+|\d+|(?<=stands for \").")

Report = Callable[[UserError], None]  # takes a mistake; who returns from it goes on after the mistake


def stop(mistake: UserError) -> None:
    """The Report that ends at the first mistake."""
    raise mistake


class Problems:
    """Mistakes in the order in which they were found, those of one cause together. count: all of them.

    One cause is one reason, but for numbers in it: where in the row, which turn, which byte.
    """

    def __init__(self):
        self.causes: dict[str, Cause] = {}
        self.count = 0

    def add(self, mistake: UserError) -> None:
        """Note a mistake; a Report."""
        self.count += 1
        place = PLACE.match(str(mistake))
        key = NUMBER.sub("0", str(mistake)[place.end() :] if place else str(mistake))
        cause = self.causes.setdefault(key, Cause(str(mistake)))
        cause.count += 1
        if place and 1 < cause.count <= PLACES_NAMED + 1:
            same_file = PLACE.match(cause.first)["file"] == place["file"]
            cause.others.append(place["line"] if same_file else f"{place['file']}:{place['line']}")

    def raise_any(self) -> None:
        """Raise one UserError with a line for each cause, if there is any."""
        lines = [cause.text() for cause in islice(self.causes.values(), MAX_LISTED)]
        if left := self.count - sum(cause.count for cause in islice(self.causes.values(), MAX_LISTED)):
            lines.append(f"... and {left:,} more mistakes")
        if lines:
            raise UserError("\n".join(lines))


@dataclass
class Cause:
    """Mistakes for one reason. first: the first of them, in full. others: the places of the next few."""

    first: str
    count: int = 0
    others: list[str] = field(default_factory=list)

    def text(self) -> str:
        """The line that is shown."""
        if self.count == 1:
            return self.first
        if not self.others:  # of mistakes without a place
            return f"{self.first} ({self.count:,} times)"
        left = self.count - 1 - len(self.others)
        more = f" and {left:,} more" if left else ""
        lines = "line" if self.count == 2 else "lines"
        return f"{self.first} ({self.count:,} rows; also {lines} {', '.join(self.others)}{more})"
