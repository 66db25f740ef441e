"""`ftkit export`: each format is read back and compared before it appears; mistakes are one line."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel, LlamaForCausalLM

from ftkit.commands import export
from ftkit.config.parser import run
from ftkit.data.templates.templates import install_template
from ftkit.model.weights.conversion import import_weights
from ftkit.publish.export import export as publish

IDS = torch.arange(40)[None] + 5


@pytest.fixture(scope="module")
def chat_folder(tiny_folder, tmp_path_factory) -> Path:
    """The tiny Llama with the template chatml, beside files that must not travel."""
    folder = tmp_path_factory.mktemp("chat") / "llama"
    shutil.copytree(tiny_folder, folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    install_template(tokenizer, "chatml")
    tokenizer.save_pretrained(folder)
    (folder / "training_args.bin").write_bytes(b"pickle")
    (folder / "modeling_other.py").write_text("raise SystemExit")
    settings = json.loads((folder / "config.json").read_text())
    settings["auto_map"] = {"AutoModelForCausalLM": "modeling_other.Other"}
    (folder / "config.json").write_text(json.dumps(settings))
    return folder


@pytest.fixture(scope="module")
def gpt2_folder(tiny_folder, tmp_path_factory) -> Path:
    """A tiny GPT-2 with the same tokenizer and no chat template."""
    folder = tmp_path_factory.mktemp("gpt2") / "gpt2"
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=300, n_embd=32, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=0))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_folder).save_pretrained(folder)
    return folder


def logits(folder: Path) -> torch.Tensor:
    with torch.no_grad():
        return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()(IDS).logits


def difference(folder: Path, other: Path) -> float:
    return (logits(folder) - logits(other)).abs().max().item()


def test_ftgpt_becomes_a_plain_llama_that_needs_no_code(chat_folder, tmp_path, capsys):
    ftgpt = import_weights(chat_folder, tmp_path / "ftgpt")
    out = tmp_path / "out"
    export.main([str(ftgpt), "--format", "llama", "--output_dir", str(out)])
    printed = capsys.readouterr().out.splitlines()
    assert printed[-2].startswith("checked on ") and "top-1 agreement 100.0%, greedy text equal" in printed[-2]
    assert printed[-1].startswith(f"exported: {out}") and f"ftkit push {out} USER/NAME" in printed[-1]
    record = json.loads((out / "export.json").read_text())
    assert record["format"] == "llama" and record["source"] == "ftgpt"
    assert record["max_logit_difference"] <= 1e-5 and record["greedy_tokens_equal"]
    program = (
        "import sys; sys.modules['ftkit'] = None\n"  # as where ftkit is not installed
        "from transformers import AutoModelForCausalLM; import torch\n"
        f"model = AutoModelForCausalLM.from_pretrained({str(out)!r})\n"
        f"torch.save(model(torch.arange(40)[None] + 5).logits, {str(tmp_path / 'logits.pt')!r})\n"
        "print(type(model).__name__)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "LlamaForCausalLM", done.stderr
    assert (torch.load(tmp_path / "logits.pt") - logits(chat_folder)).abs().max() <= 1e-5


def test_ftgpt_becomes_a_plain_gpt2(gpt2_folder, tmp_path):
    ftgpt = import_weights(gpt2_folder, tmp_path / "ftgpt")
    export.main([str(ftgpt), "--format", "gpt2", "--output_dir", str(tmp_path / "out")])
    assert isinstance(AutoModelForCausalLM.from_pretrained(tmp_path / "out"), GPT2LMHeadModel)
    assert difference(tmp_path / "out", gpt2_folder) <= 1e-5


def test_a_folder_of_the_family_is_copied_by_an_allow_list(chat_folder, tmp_path):
    out = tmp_path / "out"
    export.main([str(chat_folder), "--format", "llama", "--output_dir", str(out)])
    assert {path.name for path in out.iterdir()} == {
        "config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
        "chat_template.jinja", "export.json",
    }  # fmt: skip
    assert "auto_map" not in json.loads((out / "config.json").read_text())
    assert "{%- generation -%}" in AutoTokenizer.from_pretrained(out).chat_template  # transformers and vLLM know it
    assert isinstance(AutoModelForCausalLM.from_pretrained(out), LlamaForCausalLM)


def test_dtype_rounds_the_weights_and_says_so(chat_folder, tmp_path):
    out = tmp_path / "out"
    export.main([str(chat_folder), "--format", "llama", "--dtype", "bfloat16", "--output_dir", str(out)])
    record = json.loads((out / "export.json").read_text())
    assert record["dtype"] == "bfloat16" and record["is_rounded"] and 0 < record["max_logit_difference"]
    source = AutoModelForCausalLM.from_pretrained(chat_folder, trust_remote_code=False).state_dict()
    found = AutoModelForCausalLM.from_pretrained(out)
    assert found.dtype == torch.bfloat16
    assert all(torch.equal(source[name].bfloat16(), value) for name, value in found.state_dict().items())


@pytest.mark.parametrize("quantization", ["f16", "q8_0", "f32", "bf16"])
def test_gguf_holds_the_model_its_tokenizer_and_its_template(quantization, chat_folder, tmp_path, capsys):
    out = tmp_path / "out"
    export.main([str(chat_folder), "--format", "gguf", "--quantization", quantization, "--output_dir", str(out)])
    assert {path.name for path in out.iterdir()} == {"model.gguf", "export.json"}
    assert f"llama-server -m {out}/model.gguf" in capsys.readouterr().out
    record = json.loads((out / "export.json").read_text())
    assert record["read_back_by"] == "transformers" and record["are_tokens_equal"]
    assert record["quantization"] == quantization and record["pre_tokenizer"] == "gpt-2"
    model = AutoModelForCausalLM.from_pretrained(out, gguf_file="model.gguf", dtype=torch.float32)
    with torch.no_grad():
        is_equal = torch.equal(model(IDS).logits, logits(chat_folder))
    assert is_equal is (quantization == "f32") is (record["max_logit_difference"] == 0)
    template = AutoTokenizer.from_pretrained(out, gguf_file="model.gguf").chat_template
    assert "generation -%}" not in template and "<|im_start|>" in template


def test_ftgpt_goes_to_gguf_in_one_command_with_and_without_a_template(chat_folder, gpt2_folder, tmp_path):
    for name, folder in (("chat", chat_folder), ("gpt2", gpt2_folder)):
        ftgpt = import_weights(folder, tmp_path / f"{name}-ftgpt")
        export.main([str(ftgpt), "--format", "gguf", "--quantization", "f32", "--output_dir", str(tmp_path / name)])
        assert json.loads((tmp_path / name / "export.json").read_text())["max_logit_difference"] <= 1e-5


def test_ollama_gets_a_modelfile_beside_the_gguf(chat_folder, tmp_path, capsys):
    out = tmp_path / "Mine"
    export.main([str(chat_folder), "--format", "ollama", "--output_dir", str(out)])
    assert {path.name for path in out.iterdir()} == {"model.gguf", "Modelfile", "export.json"}
    text = (out / "Modelfile").read_text()
    assert "FROM ./model.gguf\n" in text and 'PARAMETER stop "<eos>"' in text and 'TEMPLATE """' in text
    printed = capsys.readouterr().out
    assert f"ollama create mine -f {out}/Modelfile" in printed
    assert "a control token in a user's text acts as one" in printed


def test_a_model_without_a_template_continues_text_in_ollama(gpt2_folder, tmp_path, capsys):
    out = tmp_path / "ollama"
    export.main([str(gpt2_folder), "--format", "ollama", "--output_dir", str(out)])
    lines = (out / "Modelfile").read_text().splitlines()
    assert lines[2:] == ["FROM ./model.gguf", 'TEMPLATE """{{ .Prompt }}"""', 'PARAMETER stop "<eos>"']
    printed = capsys.readouterr().out
    assert f"ollama create gpt2 -f {out}/Modelfile" in printed and "it continues a text instead of answering" in printed


@pytest.mark.parametrize(
    ("folder", "source", "name"),
    [
        ("exports/Mine", "runs/a", "mine"),
        ("runs/ollama", "runs/mine", "mine"),
        ("runs/gguf", "owner/My Model", "my-model"),
        ("out", "models/tiny.gguf", "tiny"),
        ("out", "runs/out", "my-model"),
    ],
)
def test_the_name_in_ollama_is_the_folders_or_the_runs(folder, source, name):
    assert export.ollama_name(Path(folder), source) == name


def test_an_adapter_is_merged_first(chat_folder, tmp_path):
    pytest.importorskip("ftkit.model.adapters.merging")
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(1)
    base = AutoModelForCausalLM.from_pretrained(chat_folder)
    model = get_peft_model(base, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM", lora_alpha=32))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    model.save_pretrained(tmp_path / "adapter")
    AutoTokenizer.from_pretrained(chat_folder).save_pretrained(tmp_path / "adapter")
    with torch.no_grad():
        expected = model.eval()(IDS).logits
    out = tmp_path / "out"
    export.main(["--adapter", str(tmp_path / "adapter"), "--format", "llama", "--output_dir", str(out)])
    assert (logits(out) - expected).abs().max() <= 1e-4
    assert (logits(out) - logits(chat_folder)).abs().max() > 0.1
    record = json.loads((out / "export.json").read_text())
    assert (record["source"], record["adapter"]) == ("llama", "adapter")


MISTAKES = {
    "no model": (["--format", "gguf"], "name a model: ftkit export MODEL"),
    "another family": (["M", "--format", "gpt2"], 'model_type "llama" is not gpt2; choose --format llama'),
    "unknown format": (["M", "--format", "onnx"], "argument --format: invalid choice: 'onnx'"),
    "misspelt flag": (["M", "--format", "gguf", "--quantisation", "f16"], "did you mean --quantization"),
    "quantised plain folder": (["M", "--format", "llama", "--quantization", "f16"], "choose --dtype instead"),
    "dtype of a gguf": (["M", "--format", "gguf", "--dtype", "bfloat16"], "choose --quantization instead"),
    "no such model": (["./nowhere", "--format", "gguf"], "no such folder"),
    "what llama.cpp quantises": (
        ["M", "--format", "gguf", "--quantization", "q4_k_m"],
        "llama.cpp makes that; export f16, then run: llama-quantize {out}/model.gguf {out}/model-q4_k_m.gguf Q4_K_M",
    ),
    "no quantisation": (["M", "--format", "gguf", "--quantization", "fp16"], "allowed are f16, q8_0, f32, bf16; did"),
}


@pytest.mark.parametrize(("argv", "message"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_one_line_and_leave_nothing(argv, message, chat_folder, gpt2_folder, tmp_path, capsys):
    names = {"M": str(chat_folder), "G": str(gpt2_folder)}
    argv = [names.get(part, part) for part in argv]
    assert run(export.main, [*argv, "--output_dir", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err.strip()
    assert message.format(out=tmp_path / "out") in error and "\n" not in error
    assert not list(tmp_path.iterdir())


def test_what_llama_cpp_cannot_compute_is_refused_by_the_models_own_name(gpt2_folder, tmp_path, capsys):
    settings = json.loads((gpt2_folder / "config.json").read_text()) | {"activation_function": "gelu"}
    exact = Path(shutil.copytree(gpt2_folder, tmp_path / "exact"))
    (exact / "config.json").write_text(json.dumps(settings))
    ftgpt = import_weights(exact, tmp_path / "ftgpt")
    assert run(export.main, [str(ftgpt), "--format", "gguf", "--output_dir", str(tmp_path / "out")]) == 2
    line = f"{ftgpt}: activation_function is gelu; llama.cpp computes gpt2 with gelu_new, so the model can't be a .gguf"
    assert line in capsys.readouterr().err


def test_a_folder_in_use_is_left_alone(chat_folder, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/precious").touch()
    assert run(export.main, [str(chat_folder), "--format", "gguf", "--output_dir", str(tmp_path / "out")]) == 2
    assert "exists and is not empty" in capsys.readouterr().err
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "precious"]


@pytest.mark.parametrize("format_name", ["llama", "gguf"])
def test_a_result_that_is_another_model_is_not_published(format_name, chat_folder, tmp_path, capsys, monkeypatch):
    """The exporter is made to damage one matrix: the comparison must find it."""
    from ftkit.model.weights.shards import SafetensorsFolder

    real = SafetensorsFolder.load

    def damaged(self, name):
        values = real(self, name)
        return values.flip(0) if name.endswith("layers.1.self_attn.q_proj.weight") else values

    monkeypatch.setattr(SafetensorsFolder, "load", damaged)
    assert run(export.main, [str(chat_folder), "--format", format_name, "--output_dir", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("the exported model differs from the source (checked on ")
    assert not list(tmp_path.iterdir())


def test_the_command_and_the_exporter_agree_on_their_choices():
    from ftkit.publish.export.gguf import QUANTIZATIONS

    assert export.FORMATS == publish.FORMATS
    assert set(export.QUANTIZATIONS) == set(QUANTIZATIONS)
    assert export.DTYPES == publish.DTYPES
