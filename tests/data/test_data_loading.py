"""Names of data: files, folders, bundled datasets and Hub ids become checked rows in train and test."""

import json
import logging

import datasets
import pytest

from ftkit.config.errors import UserError
from ftkit.data.reading import loading
from ftkit.data.reading.loading import load_rows


def write_rows(path, count, start=0):
    path.write_text("".join(json.dumps({"text": f"row {start + i}"}) + "\n" for i in range(count)))


def texts(rows):
    return [row["text"] for row in rows]


def test_a_file_is_all_training_rows_with_their_source(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('\n{"prompt": "a", "completion": "b", "id": 1}\n')
    rows = load_rows(str(path))
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    assert rows.train == [{"messages": messages, "source": f"{path}:2"}]
    assert (rows.test, rows.format, rows.source) == (None, "prompt_completion", str(path))
    assert rows.ignored_columns == ["id"]


def test_files_of_a_folder_are_its_splits(tmp_path):
    write_rows(tmp_path / "train.jsonl", 3)
    write_rows(tmp_path / "test_small.jsonl", 1, start=3)
    write_rows(tmp_path / "validation.jsonl", 2, start=4)
    (tmp_path / "README.md").write_text("about")
    rows = load_rows(str(tmp_path))
    assert (texts(rows.train), texts(rows.test)) == (["row 0", "row 1", "row 2"], ["row 3"])
    assert rows.test[0]["source"] == f"{tmp_path}/test_small.jsonl:1"
    assert texts(load_rows(str(tmp_path), test_split="validation").test) == ["row 4", "row 5"]
    assert texts(load_rows(str(tmp_path), train_split="validation", test_split="train").train) == ["row 4", "row 5"]


def test_a_single_file_in_a_folder_is_the_training_split(tmp_path):
    write_rows(tmp_path / "mine.jsonl", 2)
    assert len(load_rows(str(tmp_path)).train) == 2


def test_test_size_holds_rows_out_reproducibly(tmp_path):
    write_rows(tmp_path / "a.jsonl", 20)
    path = str(tmp_path / "a.jsonl")
    rows = load_rows(path, test_size=0.25, seed=3)
    assert (len(rows.train), len(rows.test)) == (15, 5)
    assert sorted(texts(rows.train + rows.test)) == sorted(f"row {i}" for i in range(20))
    assert load_rows(path, test_size=5, seed=3).test == rows.test
    assert load_rows(path, test_size=5, seed=4).test != rows.test
    order = [int(text.split()[1]) for text in texts(rows.train)]
    assert order == sorted(order)


@pytest.mark.parametrize("test_size", [20, 0.99, 0.01, 0])
def test_test_size_leaves_rows_on_both_sides(tmp_path, test_size):
    write_rows(tmp_path / "a.jsonl", 20)
    with pytest.raises(UserError, match=f"test_size {test_size} of 20 rows leaves .* both need at least one row"):
        load_rows(str(tmp_path / "a.jsonl"), test_size=test_size)


def test_test_size_is_a_share_or_a_whole_number(tmp_path):
    write_rows(tmp_path / "a.jsonl", 20)
    with pytest.raises(UserError, match="test_size is 1.5; give a share below 1 or a whole number of rows"):
        load_rows(str(tmp_path / "a.jsonl"), test_size=1.5)


def test_a_test_split_wins_over_test_size_and_says_so(tmp_path, caplog):
    write_rows(tmp_path / "train.jsonl", 3)
    write_rows(tmp_path / "test.jsonl", 1)
    with caplog.at_level(logging.WARNING):
        assert len(load_rows(str(tmp_path), test_size=2).test) == 1
    assert "test_size=2 has no effect" in caplog.text


def test_an_unused_split_is_named(tmp_path, caplog):
    write_rows(tmp_path / "train.jsonl", 3)
    write_rows(tmp_path / "validation.jsonl", 1)
    with caplog.at_level(logging.WARNING):
        assert load_rows(str(tmp_path)).test is None
    assert "it also has: ['validation']" in caplog.text


def test_a_missing_split_names_those_there_are(tmp_path):
    write_rows(tmp_path / "train.jsonl", 3)
    with pytest.raises(UserError, match=r'no split "trian"; did you mean "train"\?; it has: train$'):
        load_rows(str(tmp_path), train_split="trian")
    with pytest.raises(UserError, match='no split "validation"; it has: train$'):
        load_rows(str(tmp_path), test_split="validation")


def test_the_test_split_has_the_training_format(tmp_path):
    write_rows(tmp_path / "train.jsonl", 3)
    (tmp_path / "test.jsonl").write_text('{"prompt": "a", "completion": "b"}')
    with pytest.raises(UserError, match=r"test\.jsonl:1: this row is prompt_completion, but text is expected"):
        load_rows(str(tmp_path))


def test_a_folder_without_a_clear_training_file_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"no data file in this folder; put train\.jsonl there"):
        load_rows(str(tmp_path))
    write_rows(tmp_path / "a.jsonl", 1)
    write_rows(tmp_path / "b.jsonl", 1)
    with pytest.raises(UserError, match=r"which of a\.jsonl, b\.jsonl is the training split\? call it train\.jsonl"):
        load_rows(str(tmp_path))
    write_rows(tmp_path / "train1.jsonl", 1)
    write_rows(tmp_path / "train2.jsonl", 1)
    with pytest.raises(UserError, match=r"train1\.jsonl and train2\.jsonl are both the train split; keep one"):
        load_rows(str(tmp_path))


def test_bundled_datasets_are_found_by_name(tmp_path, monkeypatch):
    write_rows(tmp_path / "train.jsonl", 1)
    monkeypatch.setattr(loading, "list_assets", lambda kind: ["words"])
    monkeypatch.setattr(loading, "asset_path", lambda kind, name: tmp_path)
    rows = load_rows("words")
    assert (len(rows.train), rows.source) == (1, "bundled dataset words")


def test_a_path_that_is_not_there_is_not_looked_up_on_the_hub(tmp_path):
    write_rows(tmp_path / "train.jsonl", 1)
    with pytest.raises(UserError, match=r'trian\.jsonl: no such file; did you mean "train\.jsonl"\?'):
        load_rows(str(tmp_path / "trian.jsonl"))
    with pytest.raises(UserError, match="no such file; check the path"):
        load_rows("./nothing")


def test_hub_rows_get_the_same_checks_with_row_numbers(monkeypatch):
    splits = {"train": datasets.Dataset.from_list([{"text": "a"}, {"text": None}])}
    monkeypatch.setattr(datasets, "load_dataset", lambda name, config, **_: datasets.DatasetDict(splits))
    with pytest.raises(UserError, match='^me/data/train:2: "text" is null; fill it in or delete the row$'):
        load_rows("me/data")
    splits["train"] = datasets.Dataset.from_list([{"text": "a"}])
    rows = load_rows("me/data")
    assert (rows.train, rows.source) == ([{"text": "a", "source": "me/data/train:1"}], "Hub dataset me/data")
    splits["train"] = datasets.Dataset.from_dict({"text": []})
    with pytest.raises(UserError, match="me/data/train: the split has no rows; choose another"):
        load_rows("me/data")


def test_a_hub_id_that_cannot_be_had_is_one_line(monkeypatch):
    def offline(name, config, **_):
        raise ConnectionError("Couldn't reach 'me/data' on the Hub\nwith details")

    monkeypatch.setattr(datasets, "load_dataset", offline)
    with pytest.raises(UserError, match='is called "me/data", and HF_HUB_OFFLINE is set; give a file'):
        load_rows("me/data")
    monkeypatch.setattr("ftkit.data.reading.loading.go_offline_where_unreachable", lambda: "")
    with pytest.raises(UserError) as error:
        load_rows("me/data")
    message = str(error.value)
    assert 'is called "me/data", and the Hub gave ConnectionError: Couldn\'t reach' in message
    assert "\n" not in message
