"""Personas: a model asks what a certain person would ask, and answers it.

Source: Ge et al. 2024, arXiv:2406.20094. --seeds names persons of your own, one per line.
"""

from collections.abc import Sequence

from ftkit.inference.synth import prompts
from ftkit.inference.synth.items import Ask, Draft, Item, Material, Steps, Way, user
from ftkit.inference.synth.replies import first_part
from ftkit.inference.synth.self_instruct import TASK_TOKENS, answered


def item(number: int, material: Material, kept: Sequence[Draft]) -> Item:
    """What one person asks."""
    if material.seeds:
        seed = material.visit(number, material.seeds)
        return Item({"persona": seed.text, "seeds": [seed.source]}, steps(seed.text))
    persona = material.visit(number, prompts.PERSONAS)
    return Item({"persona": persona}, steps(persona))


def steps(persona: str) -> Steps:
    """Ask for the question, then for its answer."""
    asked = prompts.PERSONA_QUESTION.format(persona=persona.strip().rstrip("."))
    (reply,) = yield Ask([user(asked)], way=Way(TASK_TOKENS), may_be_cut=True)
    return (yield from answered(first_part(reply)))
