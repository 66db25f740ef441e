"""A folder's own Python code runs only where a person said so, and nobody is asked on stdin."""

import builtins
import json
from pathlib import Path

import pytest

from ftkit.config.errors import UserError
from ftkit.model.classifier import load_classifier
from ftkit.model.loading import load_config, load_model, load_tokenizer

CODE = """
from pathlib import Path
Path({canary!r}).write_text("ran")
from transformers import {base}
class Own({base}):
    model_type = "own"
"""


@pytest.fixture
def canary(tmp_path) -> Path:
    """A file that code of the folder writes."""
    return tmp_path / "canary"


@pytest.fixture
def with_code(tiny_model_folder, canary, monkeypatch):
    """Makes a folder's config name code of its own, in one of its files; a question on stdin would be answered yes."""
    monkeypatch.setattr(builtins, "input", lambda *_: "y")

    def spoil(file: str, auto_map: dict, base: str, **changed) -> Path:
        path = tiny_model_folder / file
        path.write_text(json.dumps(json.loads(path.read_text()) | {"auto_map": auto_map} | changed))
        (tiny_model_folder / "own.py").write_text(CODE.format(canary=str(canary), base=base))
        return tiny_model_folder

    return spoil


@pytest.fixture
def tiny_model_folder(tiny_folder, tmp_path) -> Path:
    """A copy to spoil."""
    import shutil

    return Path(shutil.copytree(tiny_folder, tmp_path / "model"))


NEEDS = "model: needs Python code of its own, which runs only with --trust_remote_code; read it first"


def test_a_tokenizer_of_own_code_is_refused_in_one_line(with_code, canary):
    own = {"AutoTokenizer": ["own.Own", "own.Own"]}
    folder = with_code("tokenizer_config.json", own, "PreTrainedTokenizerFast", tokenizer_class="Own")
    with pytest.raises(UserError, match=NEEDS):
        load_tokenizer(folder)
    assert not canary.exists()
    load_tokenizer(folder, trust_remote_code=True)
    assert canary.exists()


def test_a_model_of_own_code_is_refused_in_one_line(with_code, canary):
    own = {"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.Own", "AutoModelForSequenceClassification": "own.Own"}
    folder = with_code("config.json", own, "PretrainedConfig", model_type="own")
    for load in (load_config, load_model, lambda name: load_classifier(name, ["a", "b"], pad_token_id=0)):
        with pytest.raises(UserError, match=NEEDS):
            load(folder)
    assert not canary.exists()
    load_config(folder, trust_remote_code=True)
    assert canary.exists()


def test_code_beside_a_model_that_transformers_knows_is_left_alone(with_code, canary):
    folder = with_code("config.json", {"AutoModelForCausalLM": "own.Own"}, "PretrainedConfig")
    assert type(load_model(folder)).__module__.startswith("transformers.")
    assert not canary.exists()
