"""Finds rows of a test set among the training rows: copies, the same question, the same runs of words.

copies = copies_of_test_rows(rows.train, rows.test)
"""

import hashlib
import json
from collections.abc import Iterable
from typing import NamedTuple

from ftkit.data.cleaning.near_duplicates import words

BOOKKEEPING = ("source", "untrained")  # what a row carries beside its content
KEY_BYTES = 16  # of the hash that stands for a row


def copies_of_test_rows(train_rows: list[dict], test_rows: list[dict]) -> list[tuple[str, str]]:
    """Return (train source, test source) for each test row that is also a training row, in the order of the test rows.

    Rows are as `load_rows` gives them, of any kind, with their "source". All of their content is compared, spaces and
    line breaks counting as one space, so that a row of one word is found as well as a long one; of several copies in
    the training rows the first is named. Time and memory are linear in the rows.
    """
    keys = [row_key(row) for row in test_rows]
    wanted, found = set(keys), {}
    for row in train_rows:
        key = row_key(row)
        if key in wanted:
            found.setdefault(key, row["source"])
    return [(found[key], row["source"]) for key, row in zip(keys, test_rows, strict=True) if key in found]


def row_key(row: dict) -> bytes:
    """A hash of a row's content; rows that differ only in white space share it."""
    content = {name: single_spaced(value) for name, value in row.items() if name not in BOOKKEEPING}
    text = json.dumps(content, ensure_ascii=False, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=KEY_BYTES).digest()


def single_spaced(value):
    """The value with every run of white space in its texts as one space, and none at their ends."""
    if isinstance(value, str):
        return " ".join(value.split())
    if isinstance(value, list):
        return [single_spaced(item) for item in value]
    if isinstance(value, dict):
        return {key: single_spaced(item) for key, item in value.items()}
    return value


def question_of(row: dict) -> str:
    """What a row asks: its users' turns, its question, or all of its text where nothing is asked."""
    if "question" in row:
        return row["question"]
    if "text" in row or "anchor" in row:
        return row.get("text") or row["anchor"]
    turns = row["prompt"] if "prompt" in row else row["messages"]
    return "\n".join(turn["content"] for turn in turns if turn["role"] == "user")


def text_of(row: dict) -> str:
    """All text of a row."""
    if "question" in row:
        return "\n".join([row["question"], *row["choices"]])
    if "text" in row:
        return row["text"]
    if "anchor" in row:
        return "\n".join([row["anchor"], row["positive"], *row["negatives"]])
    turns = [turn["content"] for turn in row.get("messages") or row["prompt"]]
    return "\n".join([*turns, *(row[name] for name in ("chosen", "rejected", "completion") if name in row)])


class Overlap(NamedTuple):
    """A test question of which runs of words are in training rows. share: of its runs, 1 for all of them."""

    test_source: str
    train_source: str
    share: float


def question_overlaps(train_rows: Iterable[dict], test_rows: list[dict], num_words: int = 13) -> list[Overlap]:
    """For each test question that shares a run of `num_words` words with a training row: how much, and the first row.

    A question of fewer words counts where a training row holds all of it, in order. Case, punctuation and white space
    don't count. Runs of 13 words are those of Brown et al. 2020, arXiv:2005.14165, appendix C. Memory is linear in the
    test rows; training rows may be a stream.
    """
    runs_of_test = [runs(words(question_of(row)), num_words) for row in test_rows]
    wanted: dict[int, set[tuple]] = {}  # by length: a short question is a run of its own length
    for found in runs_of_test:
        for run in found:
            wanted.setdefault(len(run), set()).add(run)
    first: dict[tuple, tuple[int, str]] = {}  # of each run: number and source of the row that has it first
    for number, row in enumerate(train_rows):
        text = words(text_of(row))
        for length, some in wanted.items():
            for run in runs(text, length) & some if len(text) >= length else ():
                first.setdefault(run, (number, row["source"]))
    overlaps = []
    for row, found in zip(test_rows, runs_of_test, strict=True):
        shared = [first[run] for run in found if run in first]
        if shared:
            overlaps.append(Overlap(row["source"], min(shared)[1], len(shared) / len(found)))
    return overlaps


def runs(text: list[str], num_words: int) -> set[tuple[str, ...]]:
    """All runs of `num_words` words of a text; the whole text where it has fewer."""
    length = min(num_words, len(text))
    return {tuple(text[start : start + length]) for start in range(len(text) - length + 1)} if text else set()
