"""A saved FTGPT folder loads with trust_remote_code where nothing but torch and transformers is installed."""

import ast
import importlib.metadata
import json
import os
import re
import subprocess
import sys
import venv
from pathlib import Path

import pytest
import torch

from ftkit.model import FTGPTForSequenceClassification, configuration_ftgpt, modeling_ftgpt

SCRIPT = """
import importlib.util, json, sys
import torch
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification
from transformers import AutoTokenizer, pipeline

for name in ("ftkit", "trl", "peft", "datasets", "accelerate", "bitsandbytes"):
    assert importlib.util.find_spec(name) is None, name
folder, classifier, copy = sys.argv[1:]
trust = {"trust_remote_code": True}
ids = torch.tensor([[5, 6, 7]])
model = AutoModelForCausalLM.from_pretrained(folder, **trust)
model.save_pretrained(copy)  # what was loaded as remote code can be saved and loaded again
again = AutoModelForCausalLM.from_pretrained(copy, **trust)
assert torch.equal(again(ids).logits, model(ids).logits)
assert again.lm_head.weight is again.model.embed_tokens.weight
fresh = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder, **trust), **trust)
tokenizer = AutoTokenizer.from_pretrained(folder, **trust)
text = pipeline("text-generation", folder, tokenizer=tokenizer, **trust)("Hi", max_new_tokens=3, do_sample=False)
scores = AutoModelForSequenceClassification.from_pretrained(classifier, **trust)(ids).logits
hidden = AutoModel.from_pretrained(folder, **trust)(ids).last_hidden_state
print(json.dumps({
    "module": type(model).__module__, "logits": model(ids).logits.tolist(), "scores": scores.tolist(),
    "generated": model.generate(ids, max_new_tokens=4, do_sample=False).tolist(), "hidden": list(hidden.shape),
    "text": text[0]["generated_text"], "fresh": type(fresh).__name__,
}))
"""


def installed_files(requirements):
    """Top-level files and folders of the named distributions and of all that they need without extras."""
    from packaging.requirements import Requirement

    waiting, seen, files = list(requirements), set(), {}
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in seen:
            continue
        seen.add(name)
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # a requirement of another platform
        for path in distribution.files or []:
            if path.parts[0] not in ("..", "__pycache__"):
                files[path.parts[0]] = Path(distribution.locate_file(path.parts[0]))
        parsed = [Requirement(text) for text in distribution.requires or []]
        waiting += [item.name for item in parsed if item.marker is None or item.marker.evaluate({"extra": ""})]
    return files


@pytest.fixture
def bare_python(tmp_path):
    """The interpreter of a new environment whose packages are links to torch, transformers and what they need."""
    builder = venv.EnvBuilder(with_pip=False, symlinks=True)
    builder.create(tmp_path / "venv")
    site_packages = next((tmp_path / "venv").glob("lib/python*/site-packages"))
    for name, path in installed_files(["torch", "transformers"]).items():
        (site_packages / name).symlink_to(path)
    return tmp_path / "venv" / "bin" / "python"


@pytest.mark.slow
def test_a_folder_loads_where_only_torch_and_transformers_are_installed(
    bare_python, preset, tiny_model, character_tokenizer, tmp_path
):
    model = tiny_model(preset)
    scorer = tiny_model(preset, FTGPTForSequenceClassification, num_labels=3)
    model.save_pretrained(tmp_path / "causal")
    scorer.save_pretrained(tmp_path / "classifier")
    character_tokenizer.save_pretrained(tmp_path / "causal")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment |= {"HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    folders = [str(tmp_path / name) for name in ("causal", "classifier", "copy")]
    finished = subprocess.run(
        [bare_python, "-c", SCRIPT, *folders], capture_output=True, text=True, cwd=tmp_path, env=environment
    )
    assert finished.returncode == 0, finished.stderr[-3000:]
    seen = json.loads(finished.stdout.splitlines()[-1])
    ids = torch.tensor([[5, 6, 7]])
    assert seen["module"].startswith("transformers_modules.")
    assert (torch.tensor(seen["logits"]) - model(ids).logits).abs().max() <= 1e-5
    assert (torch.tensor(seen["scores"]) - scorer(ids).logits).abs().max() <= 1e-5
    assert seen["generated"] == model.generate(ids, max_new_tokens=4, do_sample=False).tolist()
    assert seen["hidden"] == [1, 3, 32] and seen["fresh"] == "FTGPTForCausalLM"
    assert seen["text"].startswith("Hi")


@pytest.mark.parametrize("module", [configuration_ftgpt, modeling_ftgpt])
def test_the_code_files_import_only_torch_transformers_and_each_other(module):
    allowed = {"torch", "transformers", *sys.stdlib_module_names}
    tree = ast.parse(Path(module.__file__).read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            assert {alias.name.split(".")[0] for alias in node.names} <= allowed
        if isinstance(node, ast.ImportFrom):
            name = node.module.split(".")[0]
            assert name in allowed if node.level == 0 else f"{name}.py" in configuration_ftgpt.CODE_FILES


@pytest.mark.parametrize("trust_remote_code", [True, False, None])
def test_with_ftkit_imported_a_folder_loads_as_ftkits_own_class(trust_remote_code, preset, tiny_model, tmp_path):
    from transformers import AutoModelForCausalLM

    tiny_model(preset).save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, trust_remote_code=trust_remote_code)
    assert type(loaded) is modeling_ftgpt.FTGPTForCausalLM


def test_saving_over_the_own_code_files_leaves_them_alone(tmp_path, monkeypatch, tiny_config):
    for name in configuration_ftgpt.CODE_FILES:
        (tmp_path / name).write_text("kept")
    monkeypatch.setattr(configuration_ftgpt, "__file__", str(tmp_path / "configuration_ftgpt.py"))
    tiny_config("gpt2").save_pretrained(tmp_path)
    assert [(tmp_path / name).read_text() for name in configuration_ftgpt.CODE_FILES] == ["kept", "kept"]
