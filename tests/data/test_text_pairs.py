"""Pairs of texts for an embedding model: the names that files give them, and what is refused of them."""

import json
import re

import pytest

from ftkit.config.errors import UserError
from ftkit.data.reading.loading import load_rows
from ftkit.data.rows.text_pairs import TEXT_PAIRS

Q, P, N = "Who wrote it?", "She wrote it.", "It rained."
PAIR = {"anchor": Q, "positive": P, "negatives": []}
TRIPLET = PAIR | {"negatives": [N]}
# A row as a file has it, and what is read of it.
READ = [
    ({"question": Q, "passage": P}, PAIR),
    ({"question": Q, "passage": P, "negative": N}, TRIPLET),
    ({"question": Q, "passage": P, "negative": None}, PAIR),
    ({"question": Q, "passage": P, "answer": "She.", "source": "a.md#1"}, PAIR),
    ({"messages": [{"role": "user", "content": Q}], "question": Q, "passage": P, "has_passage": True}, PAIR),
    ({"question": Q, "answer": P}, PAIR),
    ({"query": Q, "document": P}, PAIR),
    ({"query": Q, "pos": P, "neg": N}, TRIPLET),
    ({"anchor": Q, "positive": P}, PAIR),
    ({"anchor": Q, "positive": P, "negative": N}, TRIPLET),
    ({"anchor": Q, "positive": P, "negative": [N, "It snowed."]}, PAIR | {"negatives": [N, "It snowed."]}),
    ({"sentence1": Q, "sentence2": P}, PAIR),
    ({"Sentence A": Q, "Sentence B": P}, PAIR),
    ({"title": Q, "body": P}, PAIR),
]
REFUSED = [
    ({"question": Q, "passage": ""}, '"passage" is empty'),
    ({"question": Q, "passage": None}, '"passage" is null'),
    ({"anchor": 3, "positive": P}, '"anchor" must be a string'),
    ({"anchor": Q, "positive": Q}, "anchor and positive are the same text, which teaches nothing"),
    ({"anchor": Q, "positive": P, "negative": P}, '"negative" repeats positive'),
    ({"anchor": Q, "positive": P, "negative": [N, Q]}, '"negative" repeats anchor'),
    ({"anchor": Q, "positive": P, "negative": []}, '"negative" is empty'),
    ({"anchor": Q, "positive": P, "negative": [3]}, '"negative" must be a string'),
    ({"anchor": Q, "postive": P}, 'unknown key "postive"; did you mean "positive"?'),
    ({"one": Q, "two": P}, "say which is which, such as --columns anchor=one,positive=two"),
]


def read(row: dict, tmp_path) -> dict:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row) + "\n")
    (found,) = load_rows(str(path), kind=TEXT_PAIRS).train
    return {name: value for name, value in found.items() if name != "source"}


@pytest.mark.parametrize(("row", "wanted"), READ, ids=lambda value: "+".join(value))
def test_pairs_and_triplets_are_read_by_the_names_that_files_give_them(row, wanted, tmp_path):
    assert read(row, tmp_path) == wanted


@pytest.mark.parametrize(("row", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_what_teaches_nothing_is_one_line(row, message, tmp_path):
    with pytest.raises(UserError, match=r"rows\.jsonl:1: .*" + re.escape(message)):
        read(row, tmp_path)
