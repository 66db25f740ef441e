"""An item of synthesis: what a model is asked, step by step, until there is a draft of a row, or a reason for none.

def steps(...):
    (reply,) = yield Ask([user("Name a bird.")])      # a text for each conversation
    if not reply:
        raise Dropped("empty reply")
    return Draft("Name a bird.", reply, {"messages": ...})
"""

import hashlib
import json
import random
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

from ftkit.data.rows.formats import INPUT_MARKER

MODEL, JUDGE = "model", "judge"
MAX_SEED = 2**31  # that every server takes


class Way(NamedTuple):
    """How a reply is drawn. limit: longest, in tokens, where it is shorter than asked for. is_greedy: it is the
    likeliest, as for what should be true and not new."""

    limit: int | None = None
    is_greedy: bool = False


AS_ASKED = Way()


@dataclass(frozen=True)
class Ask:
    """Requests that are made together; the same conversation several times draws several replies.

    may_be_cut: a reply that the limit cuts off is used, as of one line that is wanted.
    """

    conversations: Sequence[list[dict]]
    who: str = MODEL
    way: Way = AS_ASKED
    may_be_cut: bool = False


class Dropped(Exception):
    """An item that gives no row. reason: in few words, by which such items are counted."""

    def __init__(self, reason: str, text: str = ""):
        super().__init__(reason)
        self.reason, self.text = reason, text


@dataclass(frozen=True)
class Draft:
    """A row before it is filtered. question and answer: what filters read. columns: what is written.

    is_new: the question was made here, so it must differ from the seeds' and from all others. reference: a right
    answer, for a judge.
    """

    question: str
    answer: str
    columns: dict[str, Any]
    is_new: bool = True
    reference: str = ""


Steps = Generator[Ask, list[str], Draft]  # is sent the replies that came, in order: fewer where some failed


class Item(NamedTuple):
    """origin: what it came from, for the row's provenance. steps: asks, and returns a draft or raises Dropped."""

    origin: dict[str, Any]
    steps: Steps


@dataclass(frozen=True)
class Seed:
    """A question that a person gave, with the answer that stands beside it, or ""."""

    source: str
    turns: list[dict]
    answer: str = ""

    @property
    def text(self) -> str:
        """The question: the last turn of the user, with the input of an Alpaca row below it."""
        return self.turns[-1]["content"].replace(INPUT_MARKER, "\n")


@dataclass(frozen=True)
class Material:
    """What is worked on. seeds, passages: one of them is empty. settings: of the kind, by name. seed: of all draws."""

    seeds: Sequence[Seed] = ()
    passages: Sequence[Any] = ()
    seed: int = 0
    settings: dict[str, Any] = field(default_factory=dict)

    def draw(self, number: int) -> random.Random:
        """The draws of one item, the same in every run."""
        return random.Random(f"{self.seed} {number}")

    def visit(self, number: int, things: Sequence[Any]) -> Any:
        """The thing that an item is about: all of them in a drawn order, then all again in another."""
        turn, place = divmod(number, len(things))
        return things[order(len(things), self.seed, turn)[place]]


@lru_cache(maxsize=2)
def order(num: int, seed: int, turn: int) -> tuple[int, ...]:
    """The numbers below `num` in a drawn order."""
    places = list(range(num))
    random.Random(f"order {seed} {turn}").shuffle(places)
    return tuple(places)


def stable_seed(*parts: Any) -> int:
    """A seed that follows from values, on every machine."""
    text = json.dumps(parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") % MAX_SEED


def user(text: str) -> list[dict]:
    """A conversation of one turn."""
    return [{"role": "user", "content": text}]


def conversation(question: str, answer: str) -> list[dict]:
    """A question and its answer as turns."""
    return [*user(question), {"role": "assistant", "content": answer}]
