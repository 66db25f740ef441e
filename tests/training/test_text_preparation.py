"""Text made ready for pretraining: what is held out of a single text, end tokens that are written, every block kept."""

import logging
from types import SimpleNamespace

import pytest
from torch.utils.data import DataLoader
from transformers import Trainer

from ftkit.config.errors import UserError
from ftkit.config.settings.common import RunSettings
from ftkit.config.settings.needs import check_needs
from ftkit.config.settings.pretrain import PretrainArguments, PretrainDataArguments, PretrainModelArguments
from ftkit.training.methods.pretrain import FTPretrainTrainer
from ftkit.training.text_preparation import prepare_blocks

BLOCK = 16


@pytest.fixture
def prepare(tiny_folder, tmp_path):
    """Makes a file of text ready, with settings as a person gives them."""

    def prepare_text(text, name="book.txt", **given):
        path = tmp_path / name
        path.write_text(text, encoding=given.get("encoding", "utf-8"))
        given = {"dataset_name": str(path), "block_size": BLOCK} | given
        data = {name: value for name, value in given.items() if name in PretrainDataArguments.__dataclass_fields__}
        model = PretrainModelArguments(tokenizer=str(tiny_folder))
        training = PretrainArguments(output_dir=str(tmp_path), eval_strategy=given.get("eval_strategy", "no"))
        asked = RunSettings(PretrainDataArguments(**data), model, training, frozenset(given))
        check_needs(asked)
        return prepare_blocks(asked)

    return prepare_text


BOOK = "".join(f"line {number} of a book\n" for number in range(200))


def test_a_single_text_holds_out_its_last_tenth_and_says_so(prepare):
    data = prepare(BOOK)
    (note,) = data.notes
    assert "one text: its last tenth, from " in note and "book.txt:182 on, is held out; --test_size changes it" in note
    assert data.receipt["num_held_out_documents"] == 1
    assert 0.08 < data.receipt["num_held_out_bytes"] / len(BOOK) < 0.12
    assert data.receipt["num_bytes"] + data.receipt["num_held_out_bytes"] == len(BOOK)
    assert data.tokenizer.decode(data.beginnings[0][:3]) in BOOK[data.receipt["num_bytes"] :]


HELD_OUT = [
    (BOOK, {"test_size": 0.5}, 0.5, []),
    (BOOK, {"test_size": 0.0}, 0, []),
    (BOOK, {"eval_strategy": "no"}, 0, []),
    (BOOK[:120], {}, 0, ["one text: nothing is held out, as its last tenth "]),
    (BOOK.replace("line 99 ", "#"), {"document_separator": "#"}, 0, []),
]


@pytest.mark.parametrize("text, given, share, notes", HELD_OUT)
def test_what_a_person_asked_for_is_held_out(text, given, share, notes, prepare):
    data = prepare(text, **given)
    assert data.receipt["num_held_out_bytes"] / len(text) == pytest.approx(share, abs=0.02)
    assert len(data.notes) == len(notes) and all(map(str.startswith, data.notes, notes))


def test_an_end_token_that_is_written_is_counted_with_how_to_split_there(prepare):
    text = "<|endoftext|>".join([BOOK] * 3)
    notes = prepare(text, test_size=0.0).notes
    assert notes == [
        '"<|endoftext|>" is written 2 times in the text and read as plain text, not as an end; '
        "--document_separator '<|endoftext|>' splits documents there"
    ]
    data = prepare(text, document_separator="<|endoftext|>")
    assert data.notes == [] and data.receipt["num_documents"] == 3
    row = '{"text": "' + "a <|endoftext|> b " * 20 + '"}\n'
    assert prepare(row * 2, "rows.jsonl").notes[0].endswith("not as an end; split the rows there")


REFUSED = [
    ("rows.jsonl", '{"text": "a"}\n', {"document_separator": "#"}, "has no effect on .*: each row is a document"),
    ("a.txt", BOOK, {"document_separator": "#"}, '--document_separator "#" does not stand between texts in it$'),
    ("a.txt", BOOK, {"document_separator": "\\n\\n"}, r"does not stand between texts in it; write a line break as \$"),
    ("a.txt", BOOK, {"test_size": 3}, "is one document, none is left to hold out; give a share of it"),
    ("a.txt", BOOK, {"document_separator": "#", "dataset_streaming": True}, "has no effect with --dataset_streaming"),
    ("a.csv", "text\na\n", {"columns": "text=body"}, '--columns names "body", which is not a column'),
]


@pytest.mark.parametrize("name, text, given, message", REFUSED)
def test_settings_without_effect_are_refused(name, text, given, message, prepare):
    with pytest.raises(UserError, match=message):
        prepare(text, name, **given)


def test_text_in_another_encoding_is_read(prepare):
    data = prepare("Über allen Gipfeln\n" * 99, encoding="cp1252")
    assert data.tokenizer.decode(data.train[0]["input_ids"]).startswith("Über allen")


def test_files_held_out_beside_test_size_are_said(prepare, tmp_path, caplog):
    (tmp_path / "texts").mkdir()
    for name in ("train", "validation"):
        (tmp_path / "texts" / f"{name}.txt").write_text(BOOK)
    with caplog.at_level(logging.WARNING):
        prepare(BOOK, dataset_name=str(tmp_path / "texts"), test_size=0.2)
    assert "test_size=0.2 has no effect" in caplog.text


@pytest.mark.parametrize("num_blocks", [1, 7, 8, 9])
def test_every_held_out_block_is_measured(num_blocks, monkeypatch):
    """In batches of 8, though training leaves out a last batch that is smaller."""

    def loader(self, dataset):
        return DataLoader(dataset, batch_size=8, drop_last=self.args.dataloader_drop_last)

    monkeypatch.setattr(Trainer, "get_eval_dataloader", loader)
    trainer = object.__new__(FTPretrainTrainer)
    trainer.args = SimpleNamespace(dataloader_drop_last=True)
    assert sum(map(len, trainer.get_eval_dataloader(range(num_blocks)))) == num_blocks
    assert trainer.args.dataloader_drop_last
