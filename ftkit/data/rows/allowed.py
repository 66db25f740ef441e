"""What trainers refuse in rows unless a person allows it, and what they do with rows that teach nothing."""

from dataclasses import dataclass

UNTRAINED_ROWS = ("refuse", "drop", "keep")  # what is done with rows of which no token is trained


@dataclass(frozen=True)
class Allowed:
    """What a person allowed that is refused otherwise; each is a flag of its name."""

    max_truncated_share: float = 0.01
    untrained_end_of_turn: bool = False
    empty_mask: bool = False
