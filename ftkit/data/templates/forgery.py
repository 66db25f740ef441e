"""Keeps text from being read as structure: an invisible letter breaks control tokens and headings inside a message.

    break_strings("a <|end|> b", ("<|end|>",))  ->  ("a <\\u2060|end|> b", 1)

One word joiner (U+2060) goes after the first letter of every occurrence, also of one that already holds joiners, so
`mend_strings` takes exactly those out again and the original text comes back.
"""

import re
from functools import lru_cache

from ftkit.data.rows.formats import JOINER

ANY_JOINERS = f"{JOINER}*"
NEVER = r"(?!)"
# Everything that a model or a screen may take for the end of a line.
LINE_ENDS = r"\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"
LINE_START = rf"(?:\A|(?<=[{LINE_ENDS}]))"
SPACE = f"[ \\t{JOINER}]*"


def break_strings(text: str, strings: tuple[str, ...], headings: tuple[str, ...] = ()) -> tuple[str, int]:
    """Return `text` in which none of `strings` occurs and none of `headings` begins a line, and the number of breaks.

    A heading such as "### Response:" is found after spaces, in any case and with any spacing after the "###"; another
    one, such as "User:", in any case; one that is letters only, such as "assistant", where it is the whole line.
    Strings of a single letter and of white space can't be broken and are left alone.
    """
    num_breaks = 0
    for pattern in patterns(strings, headings):
        text, count = pattern.subn(lambda match: match.group() + JOINER, text)
        num_breaks += count
    return text, num_breaks


def mend_strings(text: str, strings: tuple[str, ...], headings: tuple[str, ...] = ()) -> str:
    """Return the text that `break_strings` made `text` from."""
    for pattern in reversed(broken_patterns(strings, headings)):
        text = pattern.sub(lambda match: match.group()[:-1], text)
    return text


@lru_cache
def patterns(strings: tuple[str, ...], headings: tuple[str, ...]) -> tuple[re.Pattern, ...]:
    """Patterns that match what stands before each joiner to insert."""
    return compiled(strings, headings, "")


@lru_cache
def broken_patterns(strings: tuple[str, ...], headings: tuple[str, ...]) -> tuple[re.Pattern, ...]:
    """Patterns that match up to and with each joiner to take out."""
    return compiled(strings, headings, JOINER)


def compiled(strings: tuple[str, ...], headings: tuple[str, ...], joiner: str) -> tuple[re.Pattern, ...]:
    """One pattern for `strings`, one for `headings`; neither consumes what follows, so occurrences may overlap."""
    rests = {}
    for string in strings:
        if len(string) > 1 and string.strip():
            rests.setdefault(string[0], []).append(spaced(string[1:]))
    alternatives = [f"{re.escape(first)}{joiner}(?={ANY_JOINERS}(?:{'|'.join(rest)}))" for first, rest in rests.items()]
    lines = [heading_pattern(heading, joiner) for heading in headings if len(heading) > 1]
    heading = f"{LINE_START}{SPACE}(?:{'|'.join(lines)})"
    return re.compile("|".join(alternatives) or NEVER), re.compile(heading if lines else NEVER, re.IGNORECASE)


def heading_pattern(heading: str, joiner: str) -> str:
    """A pattern for the first letter of a heading, with the joiner after it, where the rest follows."""
    if heading.startswith("###") and heading.endswith(":"):
        return f"#{joiner}(?={ANY_JOINERS}#{ANY_JOINERS}#{SPACE}{spaced(heading.strip('#: '))}{SPACE}:)"
    end = f"{SPACE}(?:[{LINE_ENDS}]|\\Z)" if heading.isalpha() else ""
    return f"{re.escape(heading[0])}{joiner}(?={ANY_JOINERS}{spaced(heading[1:])}{end})"


def spaced(string: str) -> str:
    """A pattern for `string` with any number of joiners between its letters."""
    return ANY_JOINERS.join(map(re.escape, string))
