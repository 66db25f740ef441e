"""What rows look like: lengths, characters, the first words of answers.

description = describe(rows)
"""

import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from ftkit.data.rows.tools import in_one_text

PERCENTILES = (0, 50, 90, 99, 100)
INVISIBLE = ("Cf", "Cc", "Co", "Cn")  # categories of characters that nobody sees, but for line breaks and tabs
SEEN = "\n\r\t"


@dataclass
class Description:
    """lengths: characters of each prompt and answer, by part. first_words: how many answers begin with each word.

    non_ascii, invisible: how often each such character occurs. num_lines: answers by their number of lines.
    """

    num_rows: int = 0
    lengths: dict[str, list[int]] = field(default_factory=dict)
    first_words: Counter = field(default_factory=Counter)
    non_ascii: Counter = field(default_factory=Counter)
    invisible: Counter = field(default_factory=Counter)
    num_characters: int = 0
    num_padded: int = 0  # texts with white space at an end

    @property
    def num_answers(self) -> int:
        """Answers that hold a word."""
        return self.first_words.total()


def parts_of(row: dict) -> dict[str, list[str]]:
    """The texts of a row by part: "prompt" and "answer"; other columns by their names for rows without those."""
    if "text" in row:
        return {"text": [row["text"]]}
    if "anchor" in row:
        return {"anchor": [row["anchor"]], "positive": [row["positive"]], "negative": row["negatives"]}
    if "question" in row:
        return {"question": [row["question"]], "choice": row["choices"]}
    if "messages" in row:
        turns = row["messages"]
        return {
            "prompt": [turn["content"] for turn in turns if turn["role"] != "assistant"],
            "answer": [in_one_text(turn) for turn in turns if turn["role"] == "assistant"],
        }
    answers = {name: [row[name]] for name in ("chosen", "rejected", "completion") if name in row}
    return {"prompt": [turn["content"] for turn in row["prompt"]], **answers}


def describe(rows: Iterable[dict]) -> Description:
    """Describe rows as a RowKind gives them."""
    found = Description()
    for row in rows:
        found.num_rows += 1
        for part, texts in parts_of(row).items():
            found.lengths.setdefault(part, []).append(sum(map(len, texts)))
            for text in texts:
                add_characters(found, text)
            if part not in ("prompt", "question"):
                found.first_words.update(text.split(maxsplit=1)[0] for text in texts if text.strip())
    return found


def add_characters(found: Description, text: str) -> None:
    """Count what is unusual in a text."""
    found.num_characters += len(text)
    found.num_padded += text != text.strip()
    if text.isascii() and text.isprintable():
        return
    for character in text:
        if not character.isascii():
            found.non_ascii[character] += 1
        if character not in SEEN and unicodedata.category(character) in INVISIBLE:
            found.invisible[character] += 1


def percentiles(values: list[int]) -> list[int]:
    """The values at PERCENTILES, each one that occurs."""
    ordered = sorted(values)
    return [ordered[min(len(ordered) - 1, len(ordered) * percent // 100)] for percent in PERCENTILES]


def character_name(character: str) -> str:
    """A character as a person reads it, such as `"é" U+00E9`."""
    shown = f'"{character}" ' if character.isprintable() else ""
    return f"{shown}U+{ord(character):04X} {unicodedata.name(character, 'without a name').lower()}"
