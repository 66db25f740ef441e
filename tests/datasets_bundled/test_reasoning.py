"""The bundled reasoning rows: every step and answer recomputed, splits without a shared name, number or template."""

import hashlib
import importlib
import json
import re
import subprocess
import sys
from collections import Counter
from fractions import Fraction
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "datasets" / "reasoning"
COLUMNS = ["question", "answer", "instruction", "input", "output", "template"]
TRAINED = {
    "ages", "animal_food", "boxes_minus_gift", "bus_stops", "change_from_note", "discount", "factory_output",
    "fence_cost", "minutes_of_practice", "more_and_fewer", "overtime", "packing_to_sell", "pages_left",
    "rows_of_plants", "seats_sold", "share_equally", "three_weeks", "two_prices", "two_speeds", "weeks_of_saving",
}  # fmt: skip
UNSEEN = {"average_score", "bigger_recipe", "child_tickets", "shared_profit", "tank_filling"}
CONSTANTS = {"2", "3", "4", "7", "60", "100"}  # half, twice, three times, a quarter, a week, an hour, percent


@pytest.fixture(scope="module")
def splits() -> dict[str, list[dict]]:
    names = ("train", "test", "unseen_templates")
    files = {name: (FOLDER / f"{name}.jsonl").read_text(encoding="utf-8") for name in names}
    return {name: [json.loads(line) for line in text.splitlines()] for name, text in files.items()}


@pytest.fixture(scope="module")
def rows(splits) -> list[dict]:
    return [row for found in splits.values() for row in found]


@pytest.fixture(scope="module")
def builder():
    """The builder's problems.py and wordlists.py."""
    folders = [str(FOLDER), str(FOLDER.parent / "instructions")]
    sys.path[:0] = folders
    try:
        yield importlib.import_module("problems"), importlib.import_module("wordlists")
    finally:
        for folder in folders:
            sys.path.remove(folder)
        for name in ("problems", "wordlists", "rows"):
            sys.modules.pop(name, None)


def test_every_row_is_one_of_gsm8k_and_one_of_alpaca(rows):
    for row in rows:
        assert list(row) == COLUMNS
        assert row["instruction"] == row["question"] and row["output"] == row["answer"] and row["input"] == ""
        assert row["question"].endswith("?") or row["question"].endswith("dollars?")
        assert re.fullmatch(r"(.+\n){2,4}#### [1-9]\d*", row["answer"]), row


def test_rows_per_split_and_template_are_those_of_the_card(splits):
    for split, templates, number in (("train", TRAINED, 76), ("test", TRAINED, 12), ("unseen_templates", UNSEEN, 40)):
        assert Counter(row["template"] for row in splits[split]) == dict.fromkeys(templates, number)


def test_every_step_is_true_uses_known_numbers_and_the_last_gives_the_answer(rows):
    for row in rows:
        *steps, final = row["answer"].splitlines()
        known = set(re.findall(r"\d+", row["question"])) | CONSTANTS
        for step in steps:
            (expression, value) = re.fullmatch(r"[^=]*?(\d+(?: [+×÷-] \d+)+) = (\d+)[^=]*", step).groups()
            assert set(re.findall(r"\d+", expression)) <= known, row
            python = re.sub(r"(\d+)", r"Fraction(\1)", expression).replace("×", "*").replace("÷", "/")
            assert eval(python, {"Fraction": Fraction}) == int(value), row
            known.add(value)
        assert final == f"#### {value}", row


def test_no_person_or_thing_of_a_test_row_is_in_any_train_row(splits, builder):
    listed = {word for words in builder[1].LISTS.values() for word in words}
    used = {
        split: listed & {word for row in found for word in re.findall("[A-Za-z]+", row["question"])}
        for split, found in splits.items()
    }
    assert len(used["train"]) > 150 and len(used["test"]) > 50
    assert used["train"] & (used["test"] | used["unseen_templates"]) == set()


def test_no_two_rows_ask_the_same_with_the_same_numbers(rows):
    numbers = Counter(
        (row["template"], tuple(re.findall(r"\d+", row["question"])), re.sub(r"[A-Z]\w+|\d+", "", row["question"]))
        for row in rows
    )
    assert numbers.most_common(1)[0][1] == 1


def test_every_template_is_told_in_at_least_two_ways(rows):
    openings = {}
    for row in rows:
        openings.setdefault(row["template"], set()).add(re.sub(r"\d+|[A-Z]\w+", "", row["question"])[-25:])
    assert all(len(found) >= 2 for found in openings.values()), openings


@pytest.mark.parametrize(
    ("template", "solve"),
    [
        ("ages", lambda n, text: 2 * (n[0] + n[1]) + n[2]),
        ("boxes_minus_gift", lambda n, text: n[0] * n[1] - n[2]),
        ("bus_stops", lambda n, text: n[0] - n[1] + n[2] - n[3] + n[4]),
        ("average_score", lambda n, text: sum(n) // 4),
        ("two_speeds", lambda n, text: n[0] * n[1] + n[2] * n[3]),
        ("fence_cost", lambda n, text: 2 * (n[0] + n[1]) * n[2]),
    ],
)
def test_answers_follow_from_the_numbers_of_the_question(rows, template, solve):
    found = [row for row in rows if row["template"] == template]
    numbers = [[int(number) for number in re.findall(r"\d+", row["question"])] for row in found]
    wanted = [f"#### {solve(n, row['question'])}" for n, row in zip(numbers, found, strict=True)]
    assert found and wanted == [row["answer"].splitlines()[-1] for row in found]


def test_no_fixed_answer_is_right_often(splits):
    for split in ("test", "unseen_templates"):
        answers = Counter(row["answer"].splitlines()[-1] for row in splits[split])
        assert answers.most_common(1)[0][1] / len(splits[split]) < 0.05


def problem(builder, steps, result=12):
    return builder[0].Problem("Ada has 3 jars with 4 pens in each. How many pens are that?", steps, result, (3, 4))


@pytest.mark.parametrize(
    ("steps", "result", "message"),
    [
        (("The jars hold 3 × 4 = 13 pens.",), 13, "3 × 4 is 12"),
        (("The jars hold 3 × 5 = 15 pens.",), 15, "5 came from nowhere"),
        (("The jars hold many pens.",), 12, "one equation in each step"),
        (("The jars hold 3 × 4 = 12 pens.",), 11, "the steps give 12, the formula 11"),
    ],
)
def test_the_builder_refuses_a_wrong_step(builder, steps, result, message):
    builder[0].check(problem(builder, ("The jars hold 3 × 4 = 12 pens.",)))
    with pytest.raises(ValueError, match=message):
        builder[0].check(problem(builder, steps, result))


@pytest.mark.parametrize(
    ("text", "value"), [("2 + 3 × 4", 14), ("10 - 2 + 3", 11), ("60 × 15 ÷ 100", 9), ("7 - 2 - 3", 2)]
)
def test_the_builder_evaluates_products_before_sums(builder, text, value):
    assert builder[0].evaluate(text) == value


def test_the_card_has_the_checksum_and_number_of_rows_of_each_file(splits):
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    for split, found in splits.items():
        digest = hashlib.sha256((FOLDER / f"{split}.jsonl").read_bytes()).hexdigest()
        assert f"| {split}.jsonl | {len(found)} | `{digest}` |" in card


def test_the_example_of_the_card_is_a_row_of_the_data(splits):
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    question, answer = re.search(r"```text\n(.+?)\n\n(.+?)\n```", card, flags=re.DOTALL).groups()
    assert [row["answer"] for row in splits["train"] if row["question"] == question.replace("\n", " ")] == [answer]
    named = set(re.findall(r"^\| (\w+) \| (?:train, test|unseen) \|", card, flags=re.MULTILINE))
    assert named == TRAINED | UNSEEN


def test_build_reproduces_the_files_byte_for_byte(tmp_path):
    command = [sys.executable, "-B", FOLDER / "build.py", tmp_path]
    subprocess.run(command, check=True, cwd=tmp_path, capture_output=True)
    for split in ("train", "test", "unseen_templates"):
        assert (tmp_path / f"{split}.jsonl").read_bytes() == (FOLDER / f"{split}.jsonl").read_bytes()


def test_the_data_files_are_small_and_no_package():
    assert sum(path.stat().st_size for path in FOLDER.glob("*.jsonl")) < 1_300_000
    assert not (FOLDER / "__init__.py").exists()
