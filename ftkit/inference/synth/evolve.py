"""Evolve: a task is rewritten into a harder or rarer one, and answered; what is kept may be rewritten again.

Source: Xu et al. 2023, arXiv:2304.12244.
"""

from collections.abc import Sequence

from ftkit.inference.synth import prompts
from ftkit.inference.synth.items import Ask, Draft, Item, Material, Steps, Way, user
from ftkit.inference.synth.replies import first_part
from ftkit.inference.synth.self_instruct import TASK_TOKENS, answered

AGAIN = 0.3  # of the items rewrite what was rewritten before


def item(number: int, material: Material, kept: Sequence[Draft]) -> Item:
    """A seed, or a row that is kept, with a change that is drawn."""
    draw = material.draw(number)
    name = draw.choice(list(prompts.CHANGES))
    if kept and draw.random() < AGAIN:
        row = draw.randrange(len(kept))
        return Item({"rows": [row], "change": name}, steps(kept[row].question, name))
    seed = material.visit(number, material.seeds)
    return Item({"seeds": [seed.source], "change": name}, steps(seed.text, name))


def steps(task: str, change: str) -> Steps:
    """Ask for the rewritten task, then for its answer."""
    asked = prompts.EVOLVE.format(task=task, change=prompts.CHANGES[change])
    (reply,) = yield Ask([user(asked)], way=Way(2 * TASK_TOKENS), may_be_cut=True)
    return (yield from answered(first_part(reply)))
