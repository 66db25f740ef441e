"""What holds for every bundled dataset: a card that can be read, a line in the table, a format, a small total size."""

import re
from pathlib import Path

import pytest
import yaml

from ftkit.config.assets import asset_path, list_assets
from ftkit.data.reading.loading import load_rows

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("corpus", "instructions", "multiple_choice", "preferences", "probes", "reasoning", "spam")
TABLE = (ROOT / "datasets/README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_the_card_names_every_data_file_and_the_script_is_there(name):
    folder = ROOT / "datasets" / name
    header = yaml.safe_load((folder / "README.md").read_text(encoding="utf-8").split("---\n")[1])
    files = {part["path"] for config in header["configs"] for part in config["data_files"]}
    assert files == {path.name for path in folder.glob("*.jsonl")}
    assert {"pretty_name", "language", "license", "task_categories", "size_categories", "tags"} <= set(header)
    assert (folder / "build.py").is_file() and name in list_assets("datasets")


def test_the_table_of_all_has_the_rows_of_each_file():
    lines = re.findall(r"^\| \[(\w+)\]\(\w+/README.md\) \| ([^|]+) \|", TABLE, flags=re.MULTILINE)
    assert set(NAMES) <= {name for name, _ in lines}
    for name, counts in lines:
        for split, number in re.findall(r"(\w+) ([\d,]+)", counts):
            with (ROOT / "datasets" / name / f"{split}.jsonl").open(encoding="utf-8") as file:
                assert sum(1 for _ in file) == int(number.replace(",", "")), (name, split)


@pytest.mark.parametrize(("name", "train", "test"), [("instructions", 4500, 780), ("reasoning", 1520, 240)])
def test_conversations_load_by_name(name, train, test):
    rows = load_rows(name)
    assert (rows.format, len(rows.train), len(rows.test)) == ("alpaca", train, test)


def test_the_unseen_templates_load_as_a_file():
    rows = load_rows(str(asset_path("datasets", "reasoning/unseen_templates.jsonl")))
    assert rows.format == "alpaca" and len(rows.train) == 200
    assert re.search(r"\n#### \d+$", rows.train[0]["messages"][-1]["content"])


def test_all_datasets_together_are_small():
    assert sum(path.stat().st_size for path in (ROOT / "datasets").rglob("*.*") if path.suffix != ".pyc") < 4_000_000
