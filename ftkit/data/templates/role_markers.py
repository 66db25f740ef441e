"""Finds the text by which a chat template shows whose turn it is where no control token does it, as in "USER: ".

    anywhere, at_line_start = role_markers(tokenizer, controls)

Such text in a message would forge a turn, so `templates.prepare_messages` breaks it like a control token.
"""

import re

from transformers import PreTrainedTokenizerBase

from ftkit.config.errors import UserError
from ftkit.data.templates.rendering import render

ROLES = {"s": "system", "u": "user", "a": "assistant"}
CONVERSATIONS = ("uau", "suau")  # one letter a turn
# Markup that a tokenizer without the token reads as text, such as <|im_start|>, [INST] and <<SYS>>.
MARKUP = re.compile(r"<<?/?[^<>\s]{1,40}>>?|\[/?[A-Z_]{2,20}\]")
HAS_LETTER = re.compile(r"[^\W\d_]")


def role_markers(
    tokenizer: PreTrainedTokenizerBase, controls: tuple[str, ...]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the markers of the tokenizer's template that count anywhere, and those that count where a line begins.

    controls: the strings that text is kept from holding anyway; what directly follows one can't be forged.
    """
    anywhere, lines, inline = [], [], []
    for kinds in CONVERSATIONS:
        gaps = turn_gaps(kinds, tokenizer)
        protected = []
        for gap in gaps[1:]:
            pieces, markup = split_gap(gap, controls)
            anywhere += markup
            for text, begins_line, is_protected in pieces[-1:]:  # what stands before it, such as a default, is no role
                if is_protected:
                    protected.append(text)
                else:
                    (lines if begins_line else inline).append(text)
        # Behind the system text, or at the very beginning, no token of an earlier turn protects the marker.
        first = split_gap(gaps[0], controls)[0] if gaps else []
        for text, begins_line, is_protected in first[-1:]:
            for marker in (marker for marker in protected if text.endswith(marker) and not is_protected):
                (lines if begins_line and text == marker else inline).append(marker)
    return tuple(dict.fromkeys((*anywhere, *inline))), tuple(
        line for line in dict.fromkeys(lines) if line not in inline
    )


def turn_gaps(kinds: str, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """The fixed text before and between the contents of a conversation, and after the last with the generation
    prompt; [] where the template refuses it or changes the contents."""
    contents = [f"Sentinel{number}letters" for number in range(len(kinds))]
    messages = [{"role": ROLES[kind], "content": content} for kind, content in zip(kinds, contents, strict=True)]
    try:
        rest = render(messages, tokenizer, add_generation_prompt=True)
    except UserError:
        return []
    gaps = []
    for content in contents:
        before, found, rest = rest.partition(content)
        if not found:
            return []
        gaps.append(before)
    return [*gaps, rest]


def split_gap(gap: str, controls: tuple[str, ...]) -> tuple[list[tuple[str, bool, bool]], list[str]]:
    """Return (text, whether a line begins with it, whether a control string stands directly before it) of each piece of
    a gap that has letters, and the markup in it that is no control string."""
    known = sorted((token for token in controls if token.strip()), key=len, reverse=True)
    pattern = re.compile("|".join([*map(re.escape, known), MARKUP.pattern]))
    pieces, markup, end = [], [], 0
    for match in [*pattern.finditer(gap), None]:
        text = gap[end : match.start() if match else len(gap)]
        for number, line in enumerate(text.split("\n")):
            if HAS_LETTER.search(line):
                is_protected = number == 0 and end > 0 and not line.startswith(" ")
                pieces.append((line.strip(), number > 0, is_protected))
        if match:
            end = match.end()
            if match.group() not in controls:
                markup.append(match.group())
    return pieces, markup
