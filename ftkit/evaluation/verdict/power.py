"""What a number of items can show, in plain words: 12 items can only show a change above 50 points; take about 450."""

import math

MANY_ITEMS = 200  # show changes of some 10 points


def power_text(row, margin: float, what: str = "item") -> str:
    """What so few items can show, and how many show a change that matters: those that can be found 4 times in 5.

    row: a TaskVerdict. what: an item's name.
    """
    items = f"{row.num_items:,} {what}{'s' * (row.num_items != 1)}"
    matters = margin if row.is_share else margin * abs(row.before)
    named = f"{100 * margin:g} points" if row.is_share else f"{100 * margin:g} %"
    if row.detectable is None or row.is_share and row.detectable >= 1:
        return f"{items} can't show any change; take {MANY_ITEMS} or more"
    if row.detectable <= matters:
        return f"{items} would show a change of {named} 4 times in 5, and this one is not clear"
    found = f"{100 * row.detectable:.0f} points" if row.is_share else f"{row.detectable:.3g}"
    text = f"{items} can only show a change above {found}"
    if not matters:
        return f"{text}; take {MANY_ITEMS} or more"
    return f"{text}; take about {two_digits((row.spread / matters) ** 2):,} to show one of {named}"


def two_digits(number: float) -> int:
    """A number that is only known roughly, rounded up: 432 is 440."""
    step = 10 ** max(0, math.floor(math.log10(max(number, 1))) - 1)
    return math.ceil(number / step) * step
