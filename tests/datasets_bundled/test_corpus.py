"""The bundled sample of the corpus is what its card says, and holds nothing that the instructions' test rows ask."""

import hashlib
import json
import re
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "datasets/corpus"
CARD = (FOLDER / "README.md").read_text(encoding="utf-8")


def rows_of(split: str) -> list[dict]:
    return [json.loads(line) for line in (FOLDER / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()]


def test_the_files_have_the_counts_and_checksums_of_the_card():
    for split in ("train", "validation", "test"):
        documents, size, checksum = re.search(rf"\n\| {split}.jsonl \| (.+?) \| (.+?) \| `(.+?)` \|", CARD).groups()
        rows = rows_of(split)
        assert len(rows) == int(documents.replace(",", ""))
        assert sum(len(row["text"].encode()) for row in rows) == int(size.replace(",", ""))
        assert hashlib.sha256((FOLDER / f"{split}.jsonl").read_bytes()).hexdigest() == checksum
    assert sum((FOLDER / f"{split}.jsonl").stat().st_size for split in ("train", "validation", "test")) < 1_000_000


def test_no_document_is_twice_in_it_and_none_in_two_splits():
    texts = [
        " ".join(row["text"].lower().split()) for split in ("train", "validation", "test") for row in rows_of(split)
    ]
    assert len(set(texts)) == len(texts)


def test_every_source_but_python_is_in_the_sample():
    found = {row["source"] for row in rows_of("train")}
    assert found == {"speeches", "moby_dick", "austen", "king_james", "wordnet", "word_games"}


def test_word_games_ask_about_no_word_of_the_instructions_test_rows():
    held_out = set()
    for line in (FOLDER.parent / "instructions/test.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if row["family"] in ("plural", "past_tense", "ing_form", "adverb", "upper_case"):
            held_out |= set(re.findall('"([a-z]+)"', row["instruction"])) | set(re.findall("^[a-z]+$", row["input"]))
    assert len(held_out) > 100
    for row in rows_of("train"):
        is_number = "in digits" in row["text"] or "the number" in row["text"]  # their words are held out as digits
        if row["source"] == "word_games" and "### Response:" in row["text"] and not is_number:
            answer = row["text"].partition("### Instruction:")[2]
            asked = re.findall(r"### Input:\n([a-z]+)\n", answer) + re.findall(r': "?([a-z]+)"?\n', answer)
            assert not held_out & set(asked), row["text"]


def test_the_answers_of_copying_games_are_what_was_asked_for():
    checked = 0
    for row in rows_of("train"):
        found = re.search(
            r"### Instruction:\n(.*?)\n\n### Input:\n(.*?)\n\n### Response:\n(.*)", row["text"], re.DOTALL
        )
        if row["source"] != "word_games" or not found:
            continue
        asked, given, answer = found.groups()
        if asked.startswith(("Repeat", "Copy")):
            assert answer == given
        elif asked.startswith("Reverse"):
            assert answer == ", ".join(given.split(", ")[::-1])
        elif asked in ("Write in upper case.", "Use capital letters only."):
            assert answer == given.upper()
        elif asked.startswith("Sort"):
            assert answer == ", ".join(sorted(given.split(", ")))
        else:
            continue
        checked += 1
    assert checked > 20
