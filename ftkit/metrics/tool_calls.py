"""How far the calls of tools that an answer makes are those that were wanted: whether, which, and with what.

call_scores([{"name": "add", "arguments": {"a": 1}}], [{"name": "add", "arguments": {"a": 2}}])
"""

from collections import Counter
from collections.abc import Mapping, Sequence

METRICS = ("call_accuracy", "name_accuracy", "argument_accuracy", "decision_accuracy")


def call_scores(made: Sequence[Mapping], wanted: Sequence[Mapping]) -> dict[str, float]:
    """Scores between 0 and 1 of calls, {"name", "arguments"} each, in any order.

    call_accuracy: 1 where names and arguments of all calls are those wanted. name_accuracy: 1 where the names are.
    argument_accuracy: the share of the wanted calls' arguments that a call of that name gives with an equal value; a
    call without arguments counts as one. decision_accuracy: 1 where a call is made if, and only if, one is wanted.
    Where none is wanted, all are 1 for no call and 0 for any. 1 and 1.0 are equal, 1 and "1" and true are not.
    """
    decision = float(bool(made) == bool(wanted))
    if not made or not wanted:
        return dict.fromkeys(METRICS, decision)
    names = float(Counter(call["name"] for call in made) == Counter(call["name"] for call in wanted))
    left, equal = list(made), 0
    for call in wanted:
        match = next((one for one in left if same_call(one, call)), None)
        equal += match is not None
        left = [one for one in left if one is not match]
    whole = float(equal == len(wanted) and not left)
    return dict(zip(METRICS, (whole, names, argument_share(made, wanted), decision), strict=True))


def argument_share(made: Sequence[Mapping], wanted: Sequence[Mapping]) -> float:
    """The share of wanted arguments that are given, each call held against the closest of its name, used once."""
    left, found, total = list(made), 0, 0
    for call in wanted:
        arguments = call["arguments"]
        total += max(1, len(arguments))
        own = [one for one in left if one["name"] == call["name"]]
        if not own:
            continue
        closest = max(own, key=lambda one: num_equal(one["arguments"], arguments))
        left = [one for one in left if one is not closest]
        found += num_equal(closest["arguments"], arguments) if arguments else float(not closest["arguments"])
    return found / total


def num_equal(made: Mapping, wanted: Mapping) -> int:
    """How many of the wanted arguments are given with an equal value."""
    return sum(name in made and same(made[name], value) for name, value in wanted.items())


def same_call(one: Mapping, other: Mapping) -> bool:
    """Whether name and arguments are equal."""
    return one["name"] == other["name"] and same(one["arguments"], other["arguments"])


def same(one, other) -> bool:
    """Whether two JSON values are equal; true is no number."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other
