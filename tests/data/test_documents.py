"""Raw text becomes documents: files, folders, splits; mistakes are named with file and line."""

import json

import pytest

from ftkit.config.errors import UserError
from ftkit.data.reading.documents import documents_of, load_documents, stream_documents


def write(path, text: str):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def texts(rows) -> list[str]:
    return [row["text"] for row in rows]


def test_a_text_file_is_one_document_or_several_with_a_separator(tmp_path):
    path = write(tmp_path / "book.txt", "one\ntwo\n---\nthree\n---\n \n")
    assert texts(load_documents(str(path)).train) == ["one\ntwo\n---\nthree\n---\n \n"]
    rows = documents_of(path, "---\n")
    assert texts(rows) == ["one\ntwo\n", "three\n"]
    assert [row["source"] for row in rows] == [f"{path}:1", f"{path}:4"]


def test_a_folder_of_text_files_is_read_with_its_subfolders_in_order_of_names(tmp_path):
    write(tmp_path / "b.md", "second")
    write(tmp_path / "a" / "x.txt", "first")
    write(tmp_path / "note.pdf", "no text")
    rows = load_documents(str(tmp_path))
    assert texts(rows.train) == ["first", "second"] and rows.test is None


def test_files_called_validation_are_held_out_and_test_serves_where_there_is_none(tmp_path):
    write(tmp_path / "train_1.txt", "learn")
    write(tmp_path / "validation.txt", "hold")
    write(tmp_path / "test.txt", "not now")
    rows = load_documents(str(tmp_path))
    assert (texts(rows.train), texts(rows.test)) == (["learn"], ["hold"])
    (tmp_path / "validation.txt").unlink()
    assert texts(load_documents(str(tmp_path)).test) == ["not now"]


def test_rows_of_jsonl_are_documents_and_their_validation_split_is_held_out(tmp_path):
    for split in ("train", "validation", "test"):
        write(tmp_path / f"{split}.jsonl", json.dumps({"text": split}) + "\n")
    rows = load_documents(str(tmp_path))
    assert (texts(rows.train), texts(rows.test)) == (["train"], ["validation"])
    (tmp_path / "validation.jsonl").unlink()
    assert texts(load_documents(str(tmp_path)).test) == ["test"]


def test_test_size_draws_whole_documents_the_same_ones_for_a_seed(tmp_path):
    for number in range(10):
        write(tmp_path / f"{number}.txt", f"document {number}")
    rows, again = (load_documents(str(tmp_path), test_size=0.3, seed=5) for _ in range(2))
    assert len(rows.test) == 3 and texts(rows.test) == texts(again.test)
    assert sorted(texts(rows.train) + texts(rows.test)) == [f"document {number}" for number in range(10)]


def test_the_bundled_sample_has_all_three_splits():
    rows = load_documents("corpus")
    assert len(rows.train) == 899 and len(rows.test) == 139
    assert len(load_documents("corpus", test_split="test").test) == 140


def test_streamed_documents_leave_out_the_held_out_first_ones(tmp_path):
    path = write(tmp_path / "long.jsonl", "".join(json.dumps({"text": f"t{n}"}) + "\n" for n in range(5)))
    stream = stream_documents(str(path), num_held_out=2)
    assert texts(stream) == ["t2", "t3", "t4"] and texts(stream.held_out) == ["t0", "t1"]


def test_streamed_documents_hold_out_the_test_split_where_there_is_no_validation_split(tmp_path):
    for split, number in (("train", 5), ("test", 2)):
        write(tmp_path / f"{split}.jsonl", "".join(json.dumps({"text": f"{split}{n}"}) + "\n" for n in range(number)))
    stream = stream_documents(str(tmp_path), num_held_out=3)
    assert len(list(stream)) == 5 and texts(stream.held_out) == ["test0", "test1"]
    assert texts(load_documents(str(tmp_path)).test) == texts(stream.held_out)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"a\.txt:1: holds no text"),
        (b"fine\n\xff", r"a\.txt:2: not UTF-8"),
        (b" \n\n", r"a\.txt:1: holds no text"),
    ],
)
def test_files_without_text_are_named(tmp_path, content, message):
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(UserError, match=message):
        load_documents(str(tmp_path / "a.txt"))


def test_what_cannot_be_held_out_or_found_is_said(tmp_path):
    path = write(tmp_path / "one.txt", "a single document")
    with pytest.raises(UserError, match="is one document, none is left to hold out"):
        load_documents(str(path), test_size=1)
    with pytest.raises(UserError, match='no split "training"; it has: train'):
        load_documents(str(path), train_split="training")
    with pytest.raises(UserError, match="gone.txt: no such file"):
        load_documents(str(tmp_path / "gone.txt"))
    bad = write(tmp_path / "bad.jsonl", '{"text": "fine"}\n{"text": 7}\n')
    with pytest.raises(UserError, match=r"bad\.jsonl:2"):
        load_documents(str(bad))
