"""A LoRA adapter as a .gguf file of its own: llama.cpp says with it what PEFT says, and a fault in it is caught."""

import json

import gguf
import pytest
import torch
from llama_cpp import check_in_llama_cpp, ids_of_no_letters
from peft import LoraConfig, PeftModel, get_peft_model
from random_models import make_folder, make_tokenizer

from ftkit.commands import export
from ftkit.config.parser import run
from ftkit.model.adapters.files import record_base
from ftkit.model.loading import load_model
from ftkit.model.weights.conversion import import_weights
from ftkit.publish.export import gguf_adapter

PRE = {"llama": "smollm", "qwen2": "qwen2", "gpt2": "gpt-2"}


def make_adapter(tmp_path, family: str, is_ftgpt=False, **changes):
    """A random adapter of a random model, both exact in float16, and its folder."""
    base = make_folder(tmp_path / "plain", family, make_tokenizer(PRE[family]))
    if is_ftgpt:
        base = import_weights(base, tmp_path / "ftgpt")
    torch.manual_seed(1)
    settings = {"task_type": "CAUSAL_LM", "r": 4, "lora_alpha": 8, "target_modules": "all-linear"}
    model = get_peft_model(load_model(base), LoraConfig(**settings | changes))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                torch.nn.init.normal_(parameter, std=0.2).copy_(parameter.half().float())
    model.save_pretrained(tmp_path / "adapter", save_embedding_layers=False)
    make_tokenizer(PRE[family]).save_pretrained(tmp_path / "adapter")
    record_base(tmp_path / "adapter", base, str(base))
    return tmp_path / "adapter", base


def exported(adapter, out, format_name, *words) -> int:
    words = ["--adapter", adapter, "--unmerged", "--format", format_name, "--output_dir", out, *words]
    return run(export.main, [str(word) for word in words])


PATTERNS = {"use_rslora": True, "rank_pattern": {"v_proj": 2}, "alpha_pattern": {"q_proj": 3}}
ADAPTERS = {
    "llama": ("llama", False, PATTERNS),
    "qwen2": ("qwen2", False, {}),
    "gpt2": ("gpt2", False, {}),
    "ftgpt as llama": ("llama", True, {"target_modules": ["q_proj", "k_proj", "down_proj"]}),
    "ftgpt as gpt2": ("gpt2", True, {"target_modules": ["q_proj", "v_proj", "up_proj"]}),
}


@pytest.mark.parametrize(("family", "is_ftgpt", "changes"), ADAPTERS.values(), ids=ADAPTERS)
def test_llama_cpp_says_with_base_and_lora_what_peft_says(family, is_ftgpt, changes, tmp_path):
    adapter, base = make_adapter(tmp_path, family, is_ftgpt, **changes)
    assert exported(adapter, tmp_path / "out", "ollama", "--quantization", "f32") == 0
    lines = (tmp_path / "out/Modelfile").read_text().splitlines()
    assert "FROM ./model.gguf" in lines and "ADAPTER ./adapter.gguf" in lines
    model, tokenizer = PeftModel.from_pretrained(load_model(base), adapter).eval(), make_tokenizer(PRE[family])
    files = (tmp_path / "out" / name for name in ("model.gguf", "adapter.gguf"))
    with torch.inference_mode():
        path, lora = files
        check_in_llama_cpp(path, model, tokenizer, 8, 2e-3, ids_of_no_letters(tokenizer), adapter=lora)


def test_the_file_is_in_llama_cpps_format(tmp_path, capsys):
    adapter, _ = make_adapter(tmp_path, "llama", target_modules=["q_proj"])
    assert exported(adapter, tmp_path / "out", "gguf") == 0
    assert "llama-server -m BASE.gguf --lora" in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"adapter.gguf", "export.json"}
    file = gguf.GGUFReader(tmp_path / "out/adapter.gguf")
    known = {"general.type": "adapter", "general.architecture": "llama", "adapter.type": "lora"}
    assert {name: file.get_field(name).contents() for name in known} == known
    assert file.get_field("adapter.lora.alpha").contents() == 8.0
    shapes = {tensor.name: tensor.shape.tolist() for tensor in file.tensors}  # GGUF's order: the fastest first
    assert shapes["blk.1.attn_q.weight.lora_a"] == [32, 4] and shapes["blk.1.attn_q.weight.lora_b"] == [4, 32]
    record = json.loads((tmp_path / "out/export.json").read_text())
    assert record["num_adapted_tensors"] == 2 and record["greedy_tokens_equal"] and record["mean_kl"] < 1e-6


FAULTS = {
    "rows of q and k in transformers' order": lambda patch: patch.setattr(gguf_adapter, "UNPERMUTE_Q", None),
    "alpha twice as large": lambda patch: patch.setattr(
        gguf_adapter, "read_updates",
        lambda adapter, read=gguf_adapter.read_updates: {
            name: update._replace(scaling=2 * update.scaling) for name, update in read(adapter).items()
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_file_that_is_not_the_adapter_is_caught_and_not_written(fault, tmp_path, monkeypatch, capsys):
    adapter, _ = make_adapter(tmp_path, "llama")
    fault(monkeypatch)
    assert exported(adapter, tmp_path / "out", "gguf", "--quantization", "f32") == 2
    assert "the exported model differs from the source" in capsys.readouterr().err and not (tmp_path / "out").exists()


REFUSED = {
    "dora": ({"use_dora": True}, "is a DoRA, whose magnitudes are no sum, so it can't be a LoRA .gguf"),
    "embedding": (
        {"target_modules": ["q_proj", "embed_tokens"]},
        "adapts model.embed_tokens, which a LoRA .gguf can't",
    ),
    "whole module": ({"modules_to_save": ["norm"]}, "replaces modules as a whole (modules_to_save)"),
}


@pytest.mark.parametrize(("changes", "message"), REFUSED.values(), ids=REFUSED)
def test_what_a_lora_gguf_cant_hold_is_refused_by_name(changes, message, tmp_path, capsys):
    adapter, _ = make_adapter(tmp_path, "llama", **changes)
    assert exported(adapter, tmp_path / "out", "gguf") == 2
    assert message in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_flags_that_contradict_unmerged_are_one_line(tmp_path, capsys):
    for words, message in (
        (["base", "--unmerged", "--format", "gguf"], "it needs --adapter OUT"),
        (["--adapter", "a", "--unmerged", "--format", "llama"], "--format gguf or ollama"),
        (["--adapter", "a", "--unmerged", "--format", "gguf", "--quantization", "q8_0"], "too short for its blocks"),
        (["--adapter", "a", "--unmerged", "--format", "gguf", "--dtype", "float32"], "--dtype has no effect"),
    ):
        assert run(export.main, [*words, "--output_dir", str(tmp_path / "out")]) == 2
        assert message in capsys.readouterr().err
