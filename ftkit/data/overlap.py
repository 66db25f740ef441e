"""Finds rows of a test set among the training rows.

copies = copies_of_test_rows(rows.train, rows.test)
"""

import hashlib
import json

BOOKKEEPING = ("source", "num_prompt_messages")  # what a row carries beside its content
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
