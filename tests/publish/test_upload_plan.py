"""What a folder may publish: whole, finite, loadable, without secrets, without rows of the data, without local paths."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from ftkit.config.errors import UserError
from ftkit.model.adapters.files import record_base
from ftkit.model.loading import PLACE_KEYS, load_tokenizer
from ftkit.model.weights.conversion import import_weights
from ftkit.publish.hub.upload_plan import format_plan, format_size, plan_upload, without_local_paths

REPO = "owner/name"


@pytest.fixture
def folder(tiny_folder, tmp_path) -> Path:
    """A copy of the tiny model to spoil."""
    return Path(shutil.copytree(tiny_folder, tmp_path / "my-model"))


@pytest.fixture
def adapter(folder, tmp_path) -> Path:
    """A LoRA adapter of the tiny model, with the model's tokenizer."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    target = tmp_path / "my-adapter"
    config = LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM", init_lora_weights=False)
    get_peft_model(AutoModelForCausalLM.from_pretrained(folder), config).save_pretrained(target)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(folder / name, target / name)
    return target


def refused(folder, message: str, **settings) -> str:
    """The one line that refuses a folder."""
    with pytest.raises(UserError, match=message) as error:
        plan_upload(folder, REPO, **settings)
    assert "\n" not in str(error.value)
    return str(error.value)


def content(plan, name: str) -> bytes:
    """What is published as `name`."""
    file = next(file for file in plan.files if file.name == name)
    return file.path.read_bytes() if file.content is None else file.content


@pytest.mark.parametrize(
    ("secret", "what"),
    [
        ("hf_" + "aB3" * 12, "a Hugging Face token"),
        ("sk-proj-" + "a1" * 20, "an API key"),
        ("AKIA" + "ABCDEFGH12345678", "an AWS access key"),
        ("ghp_" + "a1" * 18, "a GitHub token"),
        ("AIza" + "a" * 35, "a Google API key"),
        ("xoxb-1234567890-abc", "a Slack token"),
        ("-----BEGIN OPENSSH " + "PRIVATE KEY-----", "a private key"),
        ("https://me:pass-word@example.org/x", "a password in an address"),
    ],
)
def test_a_secret_is_refused_with_file_and_line_and_not_repeated(folder, secret, what):
    (folder / "README.md").write_text(f"# Model\n\nnotes\nuse {secret} here\n")
    assert secret not in refused(folder, f"README.md:4: looks like {what}; remove it from the file")


def test_the_token_in_use_is_a_secret_whatever_its_form(folder):
    (folder / "README.md").write_text("a\nplain-pass-phrase\n")
    plan_upload(folder, REPO)
    assert "phrase" not in refused(folder, "README.md:2: looks like the token of this push", token="plain-pass-phrase")


def test_ordinary_text_is_no_secret(folder):
    text = "task-specific-fine-tuned-model-number-one sk-learn hf_hub_download https://example.org:8080/a@b AKIA sk-\n"
    (folder / "README.md").write_text(text)
    plan_upload(folder, REPO)


def test_a_secret_in_a_weight_files_header_is_refused(folder):
    weights = folder / "model.safetensors"
    save_file(load_file(weights), weights, metadata={"format": "pt", "note": "hf_" + "a1" * 17})
    refused(folder, "model.safetensors:1: looks like a Hugging Face token")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_refused(folder, value):
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"][3] = value
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    refused(folder, "tensor model.norm.weight holds NaN or infinity")


def test_large_finite_weights_whose_sum_overflows_pass(folder):
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"][:] = 3e38
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    plan_upload(folder, REPO)


def test_cut_weights_are_refused(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    refused(folder, "model.safetensors: not a whole safetensors file")


def test_a_tokenizer_that_does_not_fit_is_refused(folder):
    weights = load_file(folder / "model.safetensors")
    name = "model.embed_tokens.weight"
    save_file({**weights, name: weights[name][:200].clone()}, folder / "model.safetensors", metadata={"format": "pt"})
    refused(folder, f"{name} has 200 rows, config.json says vocab_size 300")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "vocab_size": 200}))
    refused(folder, "its tokenizer has 300 tokens and the model embeds 200")


def test_a_folder_that_others_could_not_use_is_refused(folder, tmp_path):
    refused(tmp_path / "nowhere", "no such folder")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "holds no model, adapter or .gguf file")
    (folder / "tokenizer.json").rename(tmp_path / "tokenizer.json")
    refused(folder, "holds no tokenizer")
    (tmp_path / "tokenizer.json").rename(folder / "tokenizer.json")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    refused(folder, "holds no weights in safetensors")


def test_broken_json_is_refused_with_file_and_line(folder):
    (folder / "receipt.json").write_text('{\n "a": 1,\n oops\n}')
    refused(folder, "receipt.json:3: not valid JSON")
    (folder / "receipt.json").write_text("[]")
    refused(folder, "receipt.json:1: expected a JSON object")


def test_only_ftgpts_own_code_is_published(folder, tmp_path):
    ftgpt = tmp_path / "ftgpt"
    import_weights(folder, ftgpt)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(folder / name, ftgpt / name)
    names = {file.name for file in plan_upload(ftgpt, REPO).files}
    assert {"configuration_ftgpt.py", "modeling_ftgpt.py"} <= names
    with open(ftgpt / "modeling_ftgpt.py", "a") as file:
        file.write("import os\n")
    refused(ftgpt, r"loads modeling_ftgpt.py, which is not published \(Python code that differs from ftkit's own\)")
    (ftgpt / "modeling_ftgpt.py").unlink()
    refused(ftgpt, r"loads modeling_ftgpt.py, which is not published \(missing\)")


def test_shards_of_the_index_are_published_and_no_others(folder):
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(weights)
    parts = {"model-00001-of-00002.safetensors": names[:5], "model-00002-of-00002.safetensors": names[5:]}
    for file, part in parts.items():
        save_file({name: weights[name] for name in part}, folder / file, metadata={"format": "pt"})
    shutil.copy(folder / "model-00001-of-00002.safetensors", folder / "model-00001-of-00003.safetensors")
    index = {"metadata": {}, "weight_map": {name: file for file, part in parts.items() for name in part}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    plan = plan_upload(folder, REPO)
    published = {file.name for file in plan.files if file.name.startswith("model")}
    assert published == {*parts, "model.safetensors.index.json"}
    assert [name for name, _ in plan.skipped] == ["model-00001-of-00003.safetensors"]
    (folder / "model-00002-of-00002.safetensors").unlink()
    refused(folder, "model-00002-of-00002.safetensors: missing .*index names it")


def test_a_receipt_goes_without_its_rows(folder):
    receipt = {
        "num_rows": 3,
        "packed": False,
        "template": {"name": "alpaca"},
        "typical_rows": [{"tokens": [["a row", True]]}],
        "pairs": {"first": [["a row"]]},
    }
    (folder / "receipt.json").write_text(json.dumps(receipt))
    plan = plan_upload(folder, REPO)
    assert json.loads(content(plan, "receipt.json")) == {"num_rows": 3, "packed": False, "template": {"name": "alpaca"}}
    assert json.loads((folder / "receipt.json").read_text()) == receipt  # the folder is as it was
    assert "receipt.json" in format_plan(plan, REPO) and "without rows" in format_plan(plan, REPO)


@pytest.mark.parametrize(
    ("base", "published", "noted"),
    [
        ("some-owner/base", "some-owner/base", False),
        ("/home/me/.cache/hub/models--some-owner--a-b/snapshots/0123abc", "some-owner/a-b", False),
        ("/home/me/models/base", "base", True),
        ("C:\\models\\base", "base", True),
    ],
)
def test_an_adapter_names_its_base_without_a_path(adapter, base, published, noted):
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": base}))
    plan = plan_upload(adapter, REPO)
    assert json.loads(content(plan, "adapter_config.json")) == {**config, "base_model_name_or_path": published}
    assert any("is not a model on the Hub" in warning for warning in plan.warnings) == noted
    assert b"/home/me" not in b"".join(content(plan, file.name) for file in plan.files)


def test_the_runs_hub_id_is_the_base_where_the_adapter_names_a_folder(adapter):
    (adapter / "run.yaml").write_text(
        "# ftkit sft --config x\n# versions\nmodel_name_or_path: some-owner/base\ndataset_name: rows.jsonl\n"
    )
    plan = plan_upload(adapter, REPO)
    assert json.loads(content(plan, "adapter_config.json"))["base_model_name_or_path"] == "some-owner/base"


def test_a_relative_base_is_no_hub_id_where_it_is_pushed_from_another_folder(adapter, folder, tmp_path, monkeypatch):
    base = Path(shutil.copytree(folder, tmp_path / "at_training" / "runs" / "base"))
    monkeypatch.chdir(base.parents[1])
    record_base(adapter, "runs/base", "runs/base")
    config = json.loads((adapter / "adapter_config.json").read_text()) | {"base_model_name_or_path": "runs/base"}
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    (adapter / "run.yaml").write_text("# ftkit sft --config x\n# versions\nmodel_name_or_path: runs/base\n")
    monkeypatch.chdir(tmp_path)
    plan = plan_upload(adapter, REPO)
    assert json.loads(content(plan, "adapter_config.json"))["base_model_name_or_path"] == "base"
    card = content(plan, "README.md").decode()
    assert "base_model:" not in card and "runs/base" not in card and "of `base`" in card
    assert any("is not a model on the Hub" in warning for warning in plan.warnings)


def test_no_configuration_says_where_its_files_lay(folder):
    for name in ("config.json", "tokenizer_config.json"):
        values = json.loads((folder / name).read_text())
        places = {"_name_or_path": "/home/me/a", "special_tokens_map_file": "/home/me/b", "tokenizer_file": "C:\\me\\c"}
        (folder / name).write_text(
            json.dumps(values | places | {"extra": "/home"} if "tokenizer" in name else values | places)
        )
    plan = plan_upload(folder, REPO)
    for name in ("config.json", "tokenizer_config.json"):
        assert not PLACE_KEYS & json.loads(content(plan, name)).keys()
        assert next(file.note for file in plan.files if file.name == name) == "without this machine's paths"
    assert json.loads(content(plan, "tokenizer_config.json"))["extra"] == "/home"  # other values may look like paths


CARDS = {  # metadata, and the line of the refusal; None for what the Hub takes
    "a path as its base": (
        "license: mit\nbase_model: /home/me/base",
        'README.md:3: base_model: "/home/me/base" is no model',
    ),
    "a file among the bases": ("base_model:\n- owner/name\n- ./base", 'README.md:2: base_model: "./base" is no model'),
    "a path among the data": (
        "datasets:\n- /data/rows.jsonl",
        'README.md:2: datasets: "/data/rows.jsonl" is no dataset',
    ),
    "a language's name": ("language: English", 'README.md:2: language: "English" is not a language code'),
    "Norwegian as YAML reads it": ("language:\n- no", 'language: "False" is not a language code; .*in quotes'),
    "tags that are no list": ("tags: llama", "README.md:2: tags: must be a list; write"),
    "a number as a tag": ("tags:\n- 2024", "README.md:2: tags: must be strings"),
    "two licences": ("license:\n- mit\n- apache-2.0", "README.md:2: license: must be a single string"),
    "no YAML": ("license: mit\nbase_model: [", r"README.md:\d: metadata that is not YAML"),
    "a list": ("- license", "README.md:2: metadata must be `key: value` lines"),
    "results without a task": (
        "model-index:\n- name: x\n  results:\n  - metrics: []",
        "README.md:2: model-index: lacks what",
    ),
    "all in order": (
        "license: llama3.1\nlanguage:\n- en\n- pt-BR\nbase_model: owner/name\ndatasets:\n- squad\ntags:\n- x",
        None,
    ),
    "empty": ("", None),
}


@pytest.mark.parametrize(("metadata", "message"), CARDS.values(), ids=CARDS)
def test_metadata_that_the_hub_refuses_is_found_before_anything_is_sent(folder, metadata, message):
    (folder / "README.md").write_text(f"---\n{metadata}\n---\n# Model\n")
    if message:
        refused(folder, message)
    else:
        assert not any("licence" in warning for warning in plan_upload(folder, REPO).warnings)


def test_a_licence_that_the_hub_may_not_know_is_a_note(folder):
    (folder / "README.md").write_text("---\nlicense: apache2.0\n---\n# Model\n")
    assert (
        'the Hub may not know the licence apache2.0; did you mean "apache-2.0"?' in plan_upload(folder, REPO).warnings
    )


def test_an_adapter_that_changes_nothing_or_is_anothers_is_refused(adapter, folder):
    weights = load_file(adapter / "adapter_model.safetensors")
    zeros = {name: torch.zeros_like(tensor) if "lora_B" in name else tensor for name, tensor in weights.items()}
    save_file(zeros, adapter / "adapter_model.safetensors", metadata={"format": "pt"})
    refused(adapter, "the adapter changes nothing")
    save_file(weights, adapter / "adapter_model.safetensors", metadata={"format": "pt"})
    (adapter / "base.json").write_text(json.dumps({"name": "x", "sha256": "0" * 64}))
    refused(adapter, "was trained on other weights")


def test_a_gguf_folder_is_published_as_it_is(tmp_path):
    folder = tmp_path / "exported"
    folder.mkdir()
    (folder / "model.gguf").write_bytes(b"GGUF")
    (folder / "Modelfile").write_text("FROM ./model.gguf\n")
    (folder / "export.json").write_text(json.dumps({"format": "ollama", "source": "some-owner/base", "mean_kl": 0.001}))
    plan = plan_upload(folder, REPO)
    assert [file.name for file in plan.files] == ["Modelfile", "README.md", "export.json", "model.gguf"]
    card = content(plan, "README.md").decode()
    assert "base_model: some-owner/base\n" in card and "base_model_relation: quantized\n" in card
    assert "| mean_kl | 0.001 |" in card
    assert "ollama create" in card


def test_paths_are_cut_and_other_text_is_not():
    value = {
        "a": "/home/me/x.json",
        "b": ["~/y/", "C:\\z\\w"],
        "c": {"d": "owner/name", "e": "either/or", "f": 1, "g": "/"},
    }
    assert without_local_paths(value) == {
        "a": "x.json", "b": ["y", "w"], "c": {"d": "owner/name", "e": "either/or", "f": 1, "g": "/"},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("num_bytes", "text"), [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1572864, "1.5 MiB"), (2**31, "2.0 GiB")]
)
def test_sizes_have_units(num_bytes, text):
    assert format_size(num_bytes) == text


def test_a_tokenizer_is_saved_without_the_places_of_its_files(folder, tmp_path):
    path = folder / "tokenizer_config.json"
    places = {"_name_or_path": "/home/me/a", "special_tokens_map_file": "/home/me/b"}
    path.write_text(json.dumps(json.loads(path.read_text()) | places))
    load_tokenizer(folder).save_pretrained(tmp_path / "again")
    assert "/home/me" not in (tmp_path / "again" / "tokenizer_config.json").read_text()
