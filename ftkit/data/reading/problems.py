"""Gathers the mistakes of a file, so that all of them are listed at once.

problems = Problems()
rows = list(checker.rows(iter_records(path, problems.add)))
problems.raise_any()
"""

from collections.abc import Callable

from ftkit.config.errors import UserError

MAX_LISTED = 20  # mistakes that are shown; the others are counted

Report = Callable[[UserError], None]  # takes a mistake; what returns from it goes on behind the mistake


def stop(mistake: UserError) -> None:
    """The Report that ends at the first mistake."""
    raise mistake


class Problems:
    """Mistakes in the order in which they were found. listed: the first MAX_LISTED. count: all of them."""

    def __init__(self):
        self.listed: list[str] = []
        self.count = 0

    def add(self, mistake: UserError) -> None:
        """Note a mistake; a Report."""
        self.count += 1
        if len(self.listed) < MAX_LISTED:
            self.listed.append(str(mistake))

    def raise_any(self) -> None:
        """Raise one UserError with a line for each mistake, if there is any."""
        if self.count > len(self.listed):
            raise UserError("\n".join([*self.listed, f"... and {self.count - len(self.listed):,} more mistakes"]))
        if self.count:
            raise UserError("\n".join(self.listed))
