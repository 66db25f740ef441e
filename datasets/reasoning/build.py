"""Rebuilds train.jsonl, test.jsonl and unseen_templates.jsonl of the bundled reasoning rows, byte for byte.

python datasets/reasoning/build.py OUT

Needs nothing but Python: every number is drawn from a hash, every answer worked out and checked.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "instructions"))  # for rows.py; the names differ

import counting  # noqa: E402
import measuring  # noqa: E402
from problems import Draw, Problem, check  # noqa: E402
from rows import rank  # noqa: E402

TRAINED = (*counting.TRAINED, *measuring.TRAINED)
NUM_TRAIN, NUM_TEST, NUM_UNSEEN = 76, 12, 40  # rows of each template


def make(template: Callable[[Draw], Problem], side: str, number: int, seen: set) -> list[dict]:
    """`number` rows of a template, all with numbers that no row of `seen` has; adds theirs to it."""
    rows, attempt = [], 0
    while len(rows) < number:
        attempt += 1
        problem = template(Draw(side, template.__name__, side, attempt))
        check(problem)
        key = (template.__name__, problem.numbers)
        if key not in seen and 0 < problem.result < 10_000:
            seen.add(key)
            rows.append(to_row(problem, template.__name__))
    return rows


def to_row(problem: Problem, name: str) -> dict:
    """GSM8K's two columns, and the same as an Alpaca row."""
    return {
        "question": problem.question,
        "answer": problem.answer,
        "instruction": problem.question,
        "input": "",
        "output": problem.answer,
        "template": name,
    }


def build() -> dict[str, list[dict]]:
    """Rows per split, shuffled by hash."""
    seen = set()
    rows = {
        "train": [row for template in TRAINED for row in make(template, "train", NUM_TRAIN, seen)],
        "test": [row for template in TRAINED for row in make(template, "test", NUM_TEST, seen)],
        "unseen_templates": [row for template in measuring.UNSEEN for row in make(template, "test", NUM_UNSEEN, seen)],
    }
    for split in rows:
        rows[split].sort(key=lambda row: rank("order", row["question"]))
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output_dir", type=Path)
    args = parser.parse_args()
    for split, rows in build().items():
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        path = args.output_dir / f"{split}.jsonl"
        path.write_bytes(text.encode())
        print(f"{path}: {len(rows)} rows, sha256 {hashlib.sha256(text.encode()).hexdigest()}")


if __name__ == "__main__":
    main()
