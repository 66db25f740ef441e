"""Replies read: what was asked for, without what small models put around it."""

import re

from ftkit.data.rows.thoughts import without_thought
from ftkit.inference.synth.prompts import LABEL

OPENING = re.compile(rf"^\s*(?:{LABEL})?\s*(?:[-*•]\s+|\d{{1,3}}[.)]\s+)?", re.IGNORECASE)
QUOTES = (('"', '"'), ("“", "”"), ("'", "'"), ("**", "**"))


def cleaned(reply: str) -> str:
    """The answer of a reply without its thought, an opening such as "Task 4:" and quotation marks around all of it."""
    text = without_thought(reply).strip()
    text = OPENING.sub("", OPENING.sub("", text, count=1), count=1).strip()
    for opens, closes in QUOTES:
        inner = text[len(opens) : -len(closes)]
        if len(text) > 2 and text.startswith(opens) and text.endswith(closes) and opens not in inner:
            text = inner.strip()
    return text


def first_part(reply: str) -> str:
    """The first paragraph of a reply, on one line: the one task or question that was asked for."""
    return " ".join(cleaned(reply).split("\n\n")[0].split())


def first_question(reply: str) -> str:
    """The first sentence that ends in a question mark, of the line that it stands in; "" where none does."""
    for line in cleaned(reply).split("\n"):
        if "?" in line:
            head = OPENING.sub("", line).partition("?")[0]
            start = max(head.rfind(end) + len(end) for end in (". ", "! ", ": ")) if re.search(r"[.!:] ", head) else 0
            return head[start:].strip().strip('"“*') + "?"
    return ""
