"""A damaged JSON file is one line with its name, in whatever it is read for."""

import re
from pathlib import Path

import pytest

from ftkit.config.errors import UserError
from ftkit.config.json_object import read_object
from ftkit.evaluation.held_out.classification import classifier_parts
from ftkit.evaluation.pages.report import write_report
from ftkit.inference.end_tokens import stored_end_tokens
from ftkit.model.adapters.files import record_base
from ftkit.model.adapters.merging import load_base
from ftkit.model.classifier import stored_labels, stored_problem
from ftkit.model.loading import local_model_folder
from ftkit.model.weights.shards import safetensors_files
from ftkit.publish.card.card_text import results_text
from ftkit.publish.card.model_card import card_for
from ftkit.publish.export.export import export_model
from ftkit.publish.export.gguf import read_plain_config
from ftkit.publish.hub.upload_checks import embedding_rows
from ftkit.publish.hub.upload_plan import plan_upload

DAMAGES = {"cut": b'{"a": ', "empty": b"", "list": b"[1]", "latin-1": b'{"a": "\xfc"}', "deep": b"[" * 100_000}
READERS = {  # file: what reads it, given the folder
    "classes": ("config.json", stored_labels),
    "kind of outputs": ("config.json", stored_problem),
    "end tokens": ("generation_config.json", stored_end_tokens),
    "base of an adapter": ("config.json", lambda folder: record_base(folder, folder, "base")),
    "base to merge into": ("config.json", lambda folder: load_base(folder, folder, None)),
    "a folder that is no model": ("adapter_config.json", local_model_folder),
    "index of shards": ("model.safetensors.index.json", safetensors_files),
    "export": ("config.json", lambda folder: export_model(str(folder), folder / "out", "llama")),
    "gguf": ("config.json", read_plain_config),
    "rows of a push": ("config.json", lambda folder: embedding_rows(folder, [])),
    "shards of a push": (
        "model.safetensors.index.json",
        lambda folder: (folder / "config.json").write_text("{}") and plan_upload(folder, "a/b"),
    ),
    "card": ("config.json", lambda folder: card_for(folder, "a/b")),
    "card of an adapter": ("adapter_config.json", lambda folder: card_for(folder, "a/b")),
    "results of a card": ("evaluation.json", results_text),
    "report": ("receipt.json", write_report),
    "page of a classifier": ("evaluation.json", classifier_parts),
}


@pytest.mark.parametrize(("name", "read"), READERS.values(), ids=READERS)
def test_a_damaged_file_is_one_line_wherever_it_is_read(name, read, tmp_path):
    for number, damage in enumerate(DAMAGES.values()):
        folder: Path = tmp_path / f"{number}"
        folder.mkdir()
        (folder / name).write_bytes(damage)
        with pytest.raises(UserError, match=re.escape(name)) as raised:
            read(folder)
        assert "\n" not in str(raised.value) and "; " in str(raised.value)


def test_an_object_is_read_and_its_mistakes_have_their_line(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"a": 1}')
    assert read_object(path) == {"a": 1}
    path.write_text('{\n"a": 1,\n}')
    with pytest.raises(UserError, match=r"a.json:3: not valid JSON \(.*\); save or download it again"):
        read_object(path)


def test_a_file_larger_than_any_and_a_number_without_end_are_one_line(tmp_path):
    path = tmp_path / "config.json"
    for content, message in ((b" " * 2**26 + b"{}", "larger than 64 MiB"), (b'{"a": ' + b"9" * 5000 + b"}", "Exceeds")):
        path.write_bytes(content)
        with pytest.raises(UserError, match=message) as error:
            read_object(path, "fix")
        assert str(error.value).startswith(str(path)) and "\n" not in str(error.value)
