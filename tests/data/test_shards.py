"""Folders of several files: shards of a split are read together, as the library `datasets` reads them."""

import itertools

import datasets
import pyarrow
import pyarrow.parquet
import pytest

from ftkit.config.errors import UserError
from ftkit.data.reading.documents import load_documents
from ftkit.data.reading.loading import find_splits, load_rows
from ftkit.data.reading.streaming import RowStream


def write(path, start, count=2):
    """A file of rows numbered from `start` on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    texts = [f"row {number}" for number in range(start, start + count)]
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.table({"text": texts}), path)
    elif path.suffix == ".csv":
        path.write_text("\n".join(["text", *texts]) + "\n")
    else:
        path.write_text("".join(f'{{"text": "{text}"}}\n' for text in texts))


LAYOUTS = [
    ["train-00000-of-00001.parquet"],
    ["train-00000-of-00002.parquet", "train-00001-of-00002.parquet"],
    ["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet", "data/test-00000-of-00001.parquet"],
    ["train-00000-of-00003.jsonl", "train-00002-of-00003.jsonl", "train-00001-of-00003.jsonl", "test.jsonl"],
    ["data/train-00000-of-00002.csv", "data/train-00001-of-00002.csv"],
    ["data/train.jsonl", "data/test.jsonl"],
    ["train.csv", "test.csv"],
]


@pytest.mark.parametrize("names", LAYOUTS, ids=lambda names: f"{names[0]} of {len(names)}")
def test_a_downloaded_folder_gives_the_rows_that_datasets_gives(names, tmp_path):
    folder = tmp_path / "set"
    for number, name in enumerate(names):
        write(folder / name, 10 * number)
    (folder / "README.md").write_text("A card.")
    expected = datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
    rows = load_rows(str(folder))
    found = {"train": rows.train} | ({"test": rows.test} if rows.test else {})
    assert {split: [row["text"] for row in part] for split, part in found.items()} == {
        split: part["text"] for split, part in expected.items()
    }
    assert [row["text"] for row in RowStream(str(folder))] == expected["train"]["text"]
    assert [row["text"] for row in load_documents(str(folder)).train] == expected["train"]["text"]


def test_rows_of_shards_name_their_file(tmp_path):
    for number in range(2):
        write(tmp_path / f"train-0000{number}-of-00002.jsonl", number)
    assert [row["source"] for row in load_rows(str(tmp_path)).train] == [
        f"{tmp_path}/train-0000{shard}-of-00002.jsonl:{line}" for shard, line in itertools.product((0, 1), (1, 2))
    ]
    (tmp_path / "train-00001-of-00002.jsonl").write_text('{"text": "a"}\n{"text": null}\n')
    with pytest.raises(UserError, match=r'train-00001-of-00002\.jsonl:2: "text" is null'):
        load_rows(str(tmp_path))


REFUSED = [
    (["train.jsonl", "train.csv"], "train.csv and train.jsonl are both the train split; keep one"),
    (["train1.jsonl", "train2.jsonl"], "train1.jsonl and train2.jsonl are both the train split; keep one"),
    (["train-00000-of-00002.jsonl", "train.jsonl"], "are both the train split; keep one"),
    (["train-00000-of-00002.jsonl", "train-00001-of-00002.csv"], "are both the train split; keep one"),
    (["train-00000-of-00003.jsonl", "train-00002-of-00003.jsonl"], "shard 1 of 3 of train is missing; add it"),
    (["a.jsonl", "b.jsonl"], r"which of a.jsonl, b.jsonl is the training split\? call it train.jsonl"),
    (["main/train.jsonl"], r"no data file in this folder; give .*main, which does$"),
]


@pytest.mark.parametrize("names, message", REFUSED, ids=[" ".join(names) for names, _ in REFUSED])
def test_files_that_could_be_meant_in_two_ways_are_refused(names, message, tmp_path):
    for name in names:
        write(tmp_path / name, 0)
    with pytest.raises(UserError, match=message):
        find_splits(str(tmp_path))


def test_excels_lock_file_is_no_data(tmp_path):
    write(tmp_path / "rows.jsonl", 0)
    (tmp_path / "~$rows.xlsx").write_text("")
    assert len(load_rows(str(tmp_path)).train) == 2
