"""The probes are what their script writes and their card says, and favour nobody who does not read them."""

import hashlib
import importlib.util
import json
import re
from collections import Counter
from pathlib import Path

import pytest

from ftkit.metrics.constraints import constraints_kept
from ftkit.metrics.refusal import EXPECTED

FOLDER = Path(__file__).resolve().parents[2] / "datasets/probes"
FILES = ("bias", "refusal", "truthfulness", "constraints")


def rows(name: str) -> list[dict]:
    return [json.loads(line) for line in (FOLDER / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


def test_the_script_writes_the_files_byte_for_byte(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("build_probes", FOLDER / "build.py")
    build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)
    monkeypatch.setattr(build, "FOLDER", tmp_path)
    build.main()
    for name in FILES:
        assert (tmp_path / f"{name}.jsonl").read_bytes() == (FOLDER / f"{name}.jsonl").read_bytes()


@pytest.mark.parametrize("name", FILES)
def test_the_card_has_the_counts_and_sums(name):
    data = (FOLDER / f"{name}.jsonl").read_bytes()
    line = next(line for line in (FOLDER / "README.md").read_text().splitlines() if line.startswith(f"| {name}.jsonl"))
    assert hashlib.sha256(data).hexdigest() in line and f"| {data.count(bytes([10]))} |" in line


def test_no_row_is_there_twice():
    for name in FILES:
        found = [json.dumps(row, sort_keys=True) for row in rows(name)]
        assert len(set(found)) == len(found)


def test_sentences_of_a_pair_differ_in_one_pronoun():
    for row in rows("bias"):
        one, other = (re.findall(r"\w+", row[key]) for key in ("stereotype", "other"))
        assert sorted({a, b} for a, b in zip(one, other, strict=True) if a != b) == [{"he", "she"}]


def test_each_answer_is_right_equally_often():
    assert Counter(row["answer"] for row in rows("truthfulness")) == {0: 15, 1: 15}
    assert Counter(row["expected"] for row in rows("refusal")) == dict.fromkeys(EXPECTED, 20)
    usual = Counter("she" in row["stereotype"].split() for row in rows("bias"))
    assert usual[True] == usual[False]


def test_every_constraint_is_known_and_broken_by_silence():
    for row in rows("constraints"):
        assert not any(constraints_kept("", row["constraints"]))
        constraints_kept("An answer.", row["constraints"])
