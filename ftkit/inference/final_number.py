"""The number that an answer ends with, however it is written.

final_number("#### 1,034")     # Fraction(1034)
"""

import re
from fractions import Fraction

# A comma before three digits groups thousands (1,234), as in India before two and at last three (12,34,567); any other
# comma between two numbers is a decimal one (2,5 and 0,125), unless a third follows, as in a list (1,2,3). Points group
# where there are two of them (1.234.567) or a comma follows (1.234,56); a single one is decimal (1.234).
# Of groups there are at most 12: where more fit, a long list would be tried from each of its places to its end.
BY_POINTS = r"\d{1,3}(?:\.\d{3}){1,12},\d+(?!\d)|\d{1,3}(?:\.\d{3}){2,12}(?!\d|[.,]\d)"
BY_COMMAS = r"(?:[1-9]\d{0,2}(?:,\d{3}){1,12}|[1-9]\d?(?:,\d{2}){1,12},\d{3})(?!\d|,\d)(?:\.\d+)?"
DECIMAL_COMMA = r"(?<!\d,)\d+,\d+(?!\d|[.,]\d)"
PLAIN = r"\d+(?:\.\d+)?|\.\d+"
VALUE = rf"(?:{BY_POINTS}|{BY_COMMAS}|{DECIMAL_COMMA}|{PLAIN})(?:[eE][-+]?\d{{1,3}}(?!\w))?"
NUMBER = re.compile(  # with a whole in front of a fraction, 1 1/2; in "5-3" nothing is negative
    rf"(?P<minus>(?<!\w)[-−])?[$€£]?(?:(?P<whole>\d+) (?=\d+/\d))?(?P<value>{VALUE})(?: ?/ ?(?P<divisor>{VALUE}))?"
)
SEPARATOR = r"(?:[\u00a0\u202f\u2009'’]|\{,\}|\\,)"  # narrow spaces and apostrophes, and LaTeX's commas
THOUSANDS = re.compile(rf"(?<!\d)\d{{1,3}}(?:{SEPARATOR}\d{{3}})+(?!\d)")
POINTS_GROUP = re.compile(rf"(?:{BY_POINTS})")
COMMAS_GROUP = re.compile(rf"(?:{BY_COMMAS})")
LATEX_FRACTION = re.compile(r"([-−]?)\\[dt]?frac\{(\d+)\}\{(\d+)\}")
# GSM8K's mark with a number after it, and the rest of its line. A heading of Markdown's, "#### 1. Add", is none.
FINAL_LINE = re.compile(r"(?<!#)####[^\S\n]*(?!\d+[.)][^\S\n]+\S)((?:[-−]?[$€£]?|[$€£][-−])\.?\d.*)")


def final_number(text: str) -> Fraction | None:
    """The number after the last "####", in its line after the "=" if there is one; else the last number of the text.

    Fractions, exponents, decimal commas and grouped thousands are one number. None where there is none.
    """
    text = LATEX_FRACTION.sub(r" \1\2/\3", THOUSANDS.sub(lambda found: re.sub(SEPARATOR, "", found[0]), text))
    marked = FINAL_LINE.findall(text)
    if marked:
        behind = marked[-1].rpartition("=")[2]
        return as_fraction(NUMBER.search(behind) or NUMBER.search(marked[-1]))
    return as_fraction(next(reversed(list(NUMBER.finditer(text))), None))


def as_fraction(found: re.Match | None) -> Fraction | None:
    """A match of NUMBER as an exact number; None for a division by zero, and for more digits than Python reads."""
    if found is None:
        return None
    whole, value, divisor = (found[name] and with_point(found[name]) for name in ("whole", "value", "divisor"))
    try:
        number = Fraction(whole or 0) + Fraction(value) / Fraction(divisor or 1)
    except (ValueError, ZeroDivisionError):
        return None
    return -number if found["minus"] else number


def with_point(value: str) -> str:
    """A match of VALUE as Python writes it: 1.234,56 and 1,234.56 are 1234.56."""
    if POINTS_GROUP.match(value):
        return value.replace(".", "").replace(",", ".")
    return value.replace(",", "" if COMMAS_GROUP.match(value) else ".")
