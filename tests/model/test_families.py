"""The table of families in the guide says what is so: each is made small and random, converted, trained and asked.

A family that becomes FTGPT keeps its logits; any other runs as its own class through `ftkit sft` and `ftkit generate`.
"""

import json
import re
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from ftkit.commands import generate
from ftkit.config.errors import UserError
from ftkit.model.loading import load_model, local_model_folder
from ftkit.model.weights.tables import FAMILIES
from ftkit.sft import main

GUIDE = Path(__file__).resolve().parents[2] / "examples/guides/fine-tune.md"
ROW = re.compile(r"^\| `(\w+)` \| .+ \| (FTGPT|own class) \| (packed|apart) \|$", re.MULTILINE)
TABLE = {name: (becomes, rows) for name, becomes, rows in ROW.findall(GUIDE.read_text("utf-8"))}
SHOWN_FIRST = ("mistral", "qwen3", "phi3")  # the others only where there is time
SIZES = dict(
    hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=2,
    max_position_embeddings=512, pad_token_id=1, eos_token_id=0, bos_token_id=None, tie_word_embeddings=False,
    initializer_range=0.2,
)  # fmt: skip
EXPERTS = dict(num_experts_per_tok=1, moe_intermediate_size=16)
OWN_SIZES = {
    "gpt2": dict(n_embd=32, n_layer=1, n_head=4, n_positions=512, tie_word_embeddings=True),
    "mixtral": dict(num_local_experts=2, **EXPERTS), "qwen3_moe": dict(num_experts=2, **EXPERTS),
    "gemma2": dict(head_dim=8), "gemma3_text": dict(head_dim=8), "qwen3": dict(head_dim=8),
    "falcon": dict(num_kv_heads=2, new_decoder_architecture=True),
}  # fmt: skip


def make_family(folder: Path, name: str, tokenizer_folder: Path) -> Path:
    """A random model of one layer, with the tokenizer of another."""
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    torch.manual_seed(0)
    config = CONFIG_MAPPING[name](**{**SIZES, **OWN_SIZES.get(name, {}), "vocab_size": len(tokenizer)})
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_the_guide_names_every_family_that_becomes_ftgpt_and_no_other():
    assert {name for name, (becomes, _) in TABLE.items() if becomes == "FTGPT"} == set(FAMILIES)
    assert {"mistral", "qwen3", "phi3"} < TABLE.keys()


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_that_becomes_ftgpt_keeps_its_logits(name, tiny_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("FTKIT_CACHE", str(tmp_path / "cache"))
    folder = make_family(tmp_path / name, name, tiny_folder)
    ids = torch.arange(2, 42).view(2, 20)
    converted = load_model(local_model_folder(folder, ftgpt=True))
    assert type(converted).__name__ == "FTGPTForCausalLM"
    torch.testing.assert_close(converted(ids).logits, load_model(folder)(ids).logits, rtol=1e-5, atol=1e-5)


OWN = [name for name, (becomes, _) in TABLE.items() if becomes != "FTGPT"]


@pytest.mark.parametrize("name", [pytest.param(n, marks=[] if n in SHOWN_FIRST else pytest.mark.slow) for n in OWN])
def test_any_other_is_trained_and_asked_as_its_own_class(name, tiny_folder, word_rows, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FTKIT_CACHE", str(tmp_path / "cache"))
    folder, rows, out = make_family(tmp_path / name, name, tiny_folder), tmp_path / "rows.jsonl", tmp_path / "out"
    rows.write_text("".join(json.dumps(row) + "\n" for row in word_rows[:16]))
    with pytest.raises(UserError, match="convertible to FTGPT are gpt2, llama, qwen2; every command also takes it"):
        local_model_folder(folder, ftgpt=True)
    main([
        "--model_name_or_path", str(folder), "--dataset_name", str(rows), "--output_dir", str(out), "--template",
        "alpaca", "--use_peft", "--lora_r", "2", "--max_steps", "1", "--disable_tqdm", "--bf16", "false",
        "--save_strategy", "no", "--dtype", "float32",
    ])  # fmt: skip
    packed = "packing on" in capsys.readouterr().err
    assert packed is (TABLE[name][1] == "packed")
    moved = json.loads((out / "receipt.json").read_text())["moved"]["groups"]
    assert moved["lora_B"]["moved"] == moved["lora_B"]["tensors"] > 0
    generate.main(["--adapter", str(out), "--prompt", "Write in upper case: cat", "--max_new_tokens", "3"])
    assert capsys.readouterr().out
