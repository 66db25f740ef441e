"""A twin is two prompts and two answers, each right for one prompt only, so chosen once and rejected once."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple


class Twin(NamedTuple):
    """`answer` fits (instruction, input), `other_answer` fits (other_instruction, other_input)."""

    instruction: str
    input: str
    answer: str
    other_instruction: str
    other_input: str
    other_answer: str

    def rows(self) -> list[dict]:
        return [
            {"instruction": instruction, "input": given, "chosen": chosen, "rejected": rejected}
            for instruction, given, chosen, rejected in (
                (self.instruction, self.input, self.answer, self.other_answer),
                (self.other_instruction, self.other_input, self.other_answer, self.answer),
            )
        ]


@dataclass
class Family:
    """twins(keep) yields the twins whose words all satisfy keep(word); groups are words that must fall in one split."""

    twins: Callable[[Callable[[str], bool]], Iterator[Twin]]
    groups: list[tuple[str, ...]] = field(default_factory=list)


def couples(items: list, fit: Callable) -> Iterator[tuple]:
    """Items taken two by two, each with the first later item that fits; an item without one is left out."""
    left = list(items)
    while left:
        one = left.pop(0)
        place = next((i for i, other in enumerate(left) if fit(one, other)), None)
        if place is not None:
            yield one, left.pop(place)


def nearest_couples(items: list, near: Callable, fit: Callable) -> list[tuple]:
    """Couples that are near, then couples that merely fit among the items left over."""
    first = list(couples(items, near))
    used = {item for couple in first for item in couple}
    return first + list(couples([item for item in items if item not in used], fit))
