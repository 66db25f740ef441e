"""Reasoning: a question whose final answer is known is solved several times, and a solution that comes to it is kept.

Source: rejection sampling as in STaR, Zelikman et al. 2022, arXiv:2203.14465. Of the right solutions the shortest is
kept; a seed comes up again only when all others had their turn.
"""

from collections.abc import Sequence

from ftkit.inference.final_number import final_number
from ftkit.inference.scoring import normalize_answer
from ftkit.inference.synth import prompts
from ftkit.inference.synth.items import Ask, Draft, Dropped, Item, Material, Seed, Steps, user
from ftkit.inference.synth.replies import cleaned

MARK = "####"


def item(number: int, material: Material, kept: Sequence[Draft]) -> Item:
    """Solutions of one seed."""
    seed = material.visit(number, material.seeds)
    return Item({"seeds": [seed.source]}, steps(seed, material.settings["num_samples"]))


def steps(seed: Seed, num_samples: int) -> Steps:
    """Ask for solutions; keep the shortest that comes to the right answer in more than one line or sentence."""
    asked = [*seed.turns[:-1], *user(prompts.STEP_BY_STEP.format(question=seed.text))]
    replies = yield Ask([asked] * num_samples)
    right = sorted((cleaned(reply) for reply in replies if is_right(reply, seed.answer)), key=len)
    if not right:
        raise Dropped(f"none of {num_samples} solutions is right", replies[0])
    thought = [solution for solution in right if has_steps(solution)]
    if not thought:
        raise Dropped("a right answer without steps", right[0])
    turns = [*seed.turns, {"role": "assistant", "content": thought[0]}]
    return Draft(seed.text, thought[0], {"messages": turns}, is_new=False, reference=seed.answer)


def is_right(reply: str, answer: str) -> bool:
    """Whether a solution comes to the answer: to its number, or where it has none to its text."""
    solution = cleaned(reply)
    wanted = final_number(answer)
    if wanted is not None:
        return final_number(solution) == wanted
    said = solution.rpartition(MARK)[2] if MARK in solution else solution.rpartition("\n")[2]
    return plain(said) == plain(answer.rpartition(MARK)[2])


def plain(text: str) -> str:
    """A short answer without case, white space and a sign at its end."""
    return normalize_answer(text).casefold().strip(" .!*")


def has_steps(solution: str) -> bool:
    """Whether anything stands before the final answer."""
    before = solution.rpartition(MARK)[0] if MARK in solution else solution
    return len(before.split()) >= 5
