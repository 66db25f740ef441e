"""What a setting needs to have an effect: tables of Needs beside the settings, checked in one place.

    class DPOArguments(TrainerArguments, DPOConfig):
        needs = Needs([Need(("ref_model_sync_steps",), lambda asked: asked.training.sync_ref_model, "needs ..."),])

A dataclass does not know what a person gave and what is a default, so `__post_init__` can't check this.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ftkit.config.errors import UserError


@dataclass(frozen=True)
class Need:
    """Settings that have an effect only where `holds(asked)`, and what is said of them elsewhere, after their name.

    is_refused: False where they are only reported, because other settings of a file often leave them without effect.
    """

    names: tuple[str, ...]
    holds: Callable[[Any], bool]
    reason: str
    is_refused: bool = True


class Needs(tuple[Need, ...]):
    """The table of a class of settings."""


def never(asked) -> bool:
    """Does not hold: of settings of the libraries that ftkit has no use for."""
    return False


def plain(value):
    """An enum's value; anything else as it is."""
    return getattr(value, "value", value)


def unmet(asked) -> Iterator[tuple[str, Need]]:
    """The settings that were given and have no effect, each with its first Need that does not hold."""
    found = set()
    for part in asked[:3]:
        for cls in type(part).__mro__:
            for need in vars(cls).get("needs", ()):
                for name in need.names:
                    if name in asked.given and name not in found and asks(part, name) and not need.holds(asked):
                        found.add(name)
                        yield name, need


def asks(part, name: str) -> bool:
    """Whether a given setting asks for anything; a switch that is off by default and stays off does not."""
    value = getattr(part, name, None)
    return value is not None and not (value is False and part.__dataclass_fields__[name].default is False)


def check_needs(asked) -> None:
    """Raise UserError for a setting that was given and has no effect.

    The flat file of a first version's run also holds what was decided: of such a run only flags are looked at.
    """
    is_old_run = asked.record is not None and not asked.record.decided
    for name, need in unmet(asked):
        if need.is_refused and not (is_old_run and name not in asked.on_line):
            raise UserError(f"--{name} {need.reason}")


def without_effect(asked) -> list[str]:
    """A line for each setting that was given, has no effect and is not refused."""
    return [f"no effect  --{name}: {need.reason}" for name, need in unmet(asked) if not need.is_refused]
