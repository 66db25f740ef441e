"""The kinds of synthesis by name, with what each is made from."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from ftkit.inference.synth.items import Draft, Item, Material

MakeItem = Callable[[int, Material, Sequence[Draft]], Item]
SEEDS, DOCS = "seeds", "docs"


class Kind(NamedTuple):
    """source: SEEDS or DOCS. needs_source: whether it must be given. trains: the command that takes its rows.

    needs_answers: each seed has an answer.
    """

    source: str
    about: str
    needs_source: bool = True
    needs_answers: bool = False
    trains: str = "sft"


KINDS = {
    "self-instruct": Kind(SEEDS, "new tasks after examples, answered"),
    "personas": Kind(SEEDS, "what persons would ask, answered", needs_source=False),
    "evolve": Kind(SEEDS, "harder forms of tasks, answered"),
    "questions": Kind(DOCS, "questions that passages answer"),
    "reasoning": Kind(SEEDS, "solutions that come to the known answer", needs_answers=True),
    "preferences": Kind(SEEDS, "a better and a worse answer", trains="dpo"),
    "raft": Kind(DOCS, "questions with numbered passages, answered with a quotation"),
}


def maker(name: str) -> MakeItem:
    """The function that makes an item of a kind."""
    from ftkit.inference.synth import evolve, personas, preferences, questions, raft, reasoning, self_instruct

    modules = {
        "self-instruct": self_instruct, "personas": personas, "evolve": evolve, "questions": questions,
        "reasoning": reasoning, "preferences": preferences, "raft": raft,
    }  # fmt: skip
    return modules[name].item
