"""Weights into FTGPT and out again: equal logits, equal bits, and a clear refusal of what has no counterpart."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    Qwen2Config,
    Qwen2ForCausalLM,
)

import ftkit.model.weights.conversion
from ftkit.config.errors import UserError
from ftkit.model import FTGPTConfig, FTGPTForCausalLM, FTGPTForSequenceClassification
from ftkit.model.weights.conversion import export_weights, import_weights

MAX_LOGIT_DIFFERENCE = 1e-5
SIZES = dict(vocab_size=99, bos_token_id=0, eos_token_id=1, pad_token_id=2)
GPT2 = dict(SIZES, n_embd=32, n_layer=3, n_head=4, n_positions=64)
ROPE = dict(
    SIZES,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=4,
    max_position_embeddings=64,
)
GROUPED = dict(ROPE, num_key_value_heads=2)
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
OTHER_GPT2 = dict(n_inner=40, activation_function="relu", layer_norm_epsilon=0.1, initializer_range=0.3)
OTHER_GPT2 |= dict(attn_pdrop=0.2, resid_pdrop=0.3, embd_pdrop=0.4)
OTHER_LLAMA = dict(hidden_act="gelu", rms_norm_eps=0.1, attention_dropout=0.2, initializer_range=0.3, use_cache=False)
MODELS = {
    "gpt2": (GPT2LMHeadModel, GPT2Config(**GPT2)),
    "gpt2-other": (GPT2LMHeadModel, GPT2Config(**GPT2, **OTHER_GPT2)),
    "llama": (LlamaForCausalLM, LlamaConfig(**ROPE)),
    "llama-grouped": (LlamaForCausalLM, LlamaConfig(**GROUPED)),
    "llama-3-rope": (LlamaForCausalLM, LlamaConfig(**GROUPED, rope_parameters=LLAMA3_ROPE)),
    "llama-other": (LlamaForCausalLM, LlamaConfig(**GROUPED, **OTHER_LLAMA)),
    "llama-biases": (LlamaForCausalLM, LlamaConfig(**GROUPED, attention_bias=True, mlp_bias=True)),
    "llama-wide-heads": (LlamaForCausalLM, LlamaConfig(**GROUPED, head_dim=16)),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config(**ROPE)),
    "qwen2-grouped": (Qwen2ForCausalLM, Qwen2Config(**GROUPED)),
}


def build(name: str, tied: bool = False, model_class: type | None = None):
    """A tiny model whose every parameter is random: a fresh one has zero biases, which would hide a lost bias."""
    default_class, config = MODELS[name]
    config = type(config).from_dict({**config.to_dict(), "tie_word_embeddings": tied})
    torch.manual_seed(0)
    model = (model_class or default_class)(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


def save(model, folder: Path, **kwargs) -> Path:
    model.save_pretrained(folder, **kwargs)
    return folder


@torch.no_grad()
def logits_of(model) -> torch.Tensor:
    ids = torch.randint(3, 99, (2, 40), generator=torch.Generator().manual_seed(1))
    return model(ids).logits


def difference(model, other) -> float:
    return (logits_of(model) - logits_of(other)).abs().max().item()


def edit_config(folder: Path, **changes) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def stored_tensors(folder: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for path in folder.glob("*.safetensors") for name, tensor in load_file(path).items()}


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("name", MODELS)
def test_logits_are_equal_in_ftgpt_and_back_in_the_original_class_bit_for_bit(name, tied, tmp_path):
    model = build(name, tied)
    source = save(model, tmp_path / "source")
    imported = import_weights(source, tmp_path / "ftgpt")
    exported = export_weights(imported, tmp_path / "exported")

    ftgpt = AutoModelForCausalLM.from_pretrained(imported)
    assert isinstance(ftgpt, FTGPTForCausalLM)
    assert difference(model, ftgpt.eval()) <= MAX_LOGIT_DIFFERENCE
    assert ("lm_head.weight" in stored_tensors(imported)) is not tied

    plain, report = AutoModelForCausalLM.from_pretrained(exported, output_loading_info=True)
    assert type(plain) is type(model)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    assert difference(model, plain.eval()) <= MAX_LOGIT_DIFFERENCE
    before, after = stored_tensors(source), stored_tensors(exported)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert type(plain) is type(model) and "auto_map" not in json.loads((exported / "config.json").read_text())


@pytest.mark.parametrize("name", MODELS)
def test_the_exported_config_is_the_original_one(name, tmp_path):
    source = save(build(name), tmp_path / "source")
    exported = export_weights(import_weights(source, tmp_path / "ftgpt"), tmp_path / "exported")
    before, after = (json.loads((folder / "config.json").read_text()) for folder in (source, exported))
    if before.get("n_inner", 0) is None:  # GPT-2's default, 4 * 32, is written out
        before["n_inner"] = 128
    assert after == before


def test_an_ftgpt_written_by_hand_exports_with_equal_logits(tmp_path):
    torch.manual_seed(0)
    config = FTGPTConfig.llama(**{**GROUPED, "tie_word_embeddings": False})
    model = FTGPTForCausalLM(config).eval()
    source = save(model, tmp_path / "ftgpt")
    plain = AutoModelForCausalLM.from_pretrained(export_weights(source, tmp_path / "plain"))
    assert isinstance(plain, LlamaForCausalLM)
    assert difference(model, plain) <= MAX_LOGIT_DIFFERENCE


BIASES = ("attention_bias", "attention_output_bias", "mlp_bias")
LACKING = {  # biases that are off: the family asked for, and what its class is
    "gpt2 without any": (FTGPTConfig.gpt2, BIASES, None, GPT2LMHeadModel),
    "gpt2 without q, k, v": (FTGPTConfig.gpt2, BIASES[:1], None, GPT2LMHeadModel),
    "gpt2 without the MLP's": (FTGPTConfig.gpt2, BIASES[2:], "gpt2", GPT2LMHeadModel),
    "llama as qwen2": (FTGPTConfig.llama, BIASES, "qwen2", Qwen2ForCausalLM),
    "llama by itself": (FTGPTConfig.llama, BIASES, None, LlamaForCausalLM),
    "qwen2 as llama": (FTGPTConfig.llama, BIASES[1:], "llama", LlamaForCausalLM),
    "qwen2 by itself": (FTGPTConfig.llama, BIASES[1:], None, Qwen2ForCausalLM),
}


@pytest.mark.parametrize(("preset", "off", "family", "plain_class"), LACKING.values(), ids=LACKING)
def test_biases_that_only_the_original_has_are_zeros(preset, off, family, plain_class, tmp_path):
    switches = {name: name not in off for name in BIASES}
    torch.manual_seed(0)
    model = FTGPTForCausalLM(preset(**(GROUPED if preset == FTGPTConfig.llama else ROPE), **switches)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    plain = export_weights(save(model, tmp_path / "ftgpt"), tmp_path / "plain", family)
    found, report = AutoModelForCausalLM.from_pretrained(plain, output_loading_info=True)
    assert type(found) is plain_class and not report["missing_keys"]
    assert difference(model, found.eval()) <= MAX_LOGIT_DIFFERENCE


@pytest.mark.parametrize("name", ["gpt2", "llama-grouped"])
def test_shards_are_read_and_written(name, tmp_path):
    model = build(name)
    source = save(model, tmp_path / "source", max_shard_size="20KB")
    assert (source / "model.safetensors.index.json").is_file()
    imported = import_weights(source, tmp_path / "ftgpt", max_shard_bytes=20_000)
    exported = export_weights(imported, tmp_path / "exported", max_shard_bytes=20_000)
    for folder in (imported, exported):
        index = json.loads((folder / "model.safetensors.index.json").read_text())
        files = sorted(path.name for path in folder.glob("*.safetensors"))
        assert len(files) > 2 and files[0] == f"model-00001-of-{len(files):05d}.safetensors"
        assert sorted(set(index["weight_map"].values())) == files
        assert index["metadata"]["total_size"] == sum(t.nbytes for t in stored_tensors(folder).values())
        assert difference(model, AutoModelForCausalLM.from_pretrained(folder)) <= MAX_LOGIT_DIFFERENCE


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_dtype_is_kept(dtype, tmp_path):
    source = save(build("gpt2").to(dtype), tmp_path / "source")
    imported = import_weights(source, tmp_path / "ftgpt")
    exported = export_weights(imported, tmp_path / "exported")
    for folder in (imported, exported):
        assert {tensor.dtype for tensor in stored_tensors(folder).values()} == {dtype}
        assert AutoModelForCausalLM.from_pretrained(folder).dtype == dtype


def test_names_of_the_published_gpt2_are_read(tmp_path):
    """No `transformer.` prefix, and the causal mask stored as h.N.attn.bias."""
    model = build("gpt2", tied=True)
    source = save(model, tmp_path / "source")
    tensors = {name.removeprefix("transformer."): value for name, value in stored_tensors(source).items()}
    tensors |= {f"h.{n}.attn.bias": torch.ones(1, 1, 64, 64).tril() for n in range(3)}
    save_file(tensors, source / "model.safetensors")
    imported = import_weights(source, tmp_path / "ftgpt")
    assert difference(model, AutoModelForCausalLM.from_pretrained(imported)) <= MAX_LOGIT_DIFFERENCE


def test_a_tied_heads_stored_copy_is_dropped_and_a_different_one_unties(tmp_path, caplog):
    model = build("llama", tied=True)
    source = save(model, tmp_path / "source")
    tensors = stored_tensors(source)
    embedding = tensors["model.embed_tokens.weight"]
    save_file({**tensors, "lm_head.weight": embedding.clone()}, source / "model.safetensors")
    assert "lm_head.weight" not in stored_tensors(import_weights(source, tmp_path / "equal"))

    save_file({**tensors, "lm_head.weight": embedding + 1}, source / "model.safetensors")
    imported = import_weights(source, tmp_path / "different")
    assert "kept as untied" in caplog.text
    assert json.loads((imported / "config.json").read_text())["tie_word_embeddings"] is False
    ftgpt = AutoModelForCausalLM.from_pretrained(imported)
    assert torch.equal(ftgpt.lm_head.weight, embedding + 1)


@pytest.mark.parametrize(
    ("name", "model_class"), [("gpt2", GPT2ForSequenceClassification), ("llama", LlamaForSequenceClassification)]
)
def test_a_classifier_goes_both_ways_with_its_labels(name, model_class, tmp_path):
    model = build(name, model_class=model_class)
    model.config.id2label = {0: "ham", 1: "spam"}
    model.config.label2id = {"ham": 0, "spam": 1}
    imported = import_weights(save(model, tmp_path / "source"), tmp_path / "ftgpt")
    exported = export_weights(imported, tmp_path / "exported")
    for folder, expected in ((imported, FTGPTForSequenceClassification), (exported, model_class)):
        other = AutoModelForSequenceClassification.from_pretrained(folder)
        assert isinstance(other, expected)
        assert other.config.id2label == {0: "ham", 1: "spam"}
        assert difference(model, other.eval()) <= MAX_LOGIT_DIFFERENCE


def test_tokenizer_template_and_generation_settings_are_copied_but_nothing_else(tmp_path):
    source = save(build("llama"), tmp_path / "source")
    kept = ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "additional_chat_templates/rag.jinja"]
    for name in [*kept, "README.md", "optimizer.pt"]:
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_text(name)
    imported = import_weights(source, tmp_path / "ftgpt")
    exported = export_weights(imported, tmp_path / "exported")
    for folder in (imported, exported):
        assert all((folder / name).read_text() == name for name in kept)
        assert (folder / "generation_config.json").read_bytes() == (source / "generation_config.json").read_bytes()
        assert not (folder / "README.md").exists() and not (folder / "optimizer.pt").exists()
    package = Path(ftkit.model.__file__).parent
    for code in ("configuration_ftgpt.py", "modeling_ftgpt.py"):
        assert (imported / code).read_bytes() == (package / code).read_bytes()
        assert not (exported / code).exists()


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx is True"),
        ("gpt2", {"reorder_and_upcast_attn": True}, "reorder_and_upcast_attn is True"),
        ("gpt2", {"scale_attn_weights": False}, "scale_attn_weights is False"),
        ("gpt2", {"add_cross_attention": True}, "add_cross_attention is True"),
        (
            "qwen2",
            {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1, "layer_types": None},
            "layer_types is .*sliding_attention.*only full_attention converts",
        ),
        ("llama", {"model_type": "mistral"}, 'model_type "mistral"; convertible to FTGPT are gpt2, llama, qwen2'),
        ("llama", {"hidden_act": "nonsense"}, 'hidden_act is "nonsense"'),
        ("llama", {"num_hidden_layers": 4}, "tensor model.layers.3.input_layernorm.weight is missing"),
        ("llama", {"num_hidden_layers": 2}, "9 tensors have no counterpart, such as model.layers.2"),
        (
            "llama",
            {"intermediate_size": 50},
            "tensor model.layers.0.mlp.gate_proj.weight has 48 x 32, the configuration says 50 x 32",
        ),
        ("llama", {"tie_word_embeddings": True, "attention_bias": True}, "q_proj.bias is missing"),
    ],
)
def test_settings_without_a_counterpart_are_refused(name, changes, message, tmp_path):
    source = save(build(name), tmp_path / "source")
    edit_config(source, **changes)
    with pytest.raises(UserError, match=message):
        import_weights(source, tmp_path / "ftgpt")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]


def test_a_window_that_no_layer_uses_is_accepted(tmp_path):
    model = build("qwen2")
    source = save(model, tmp_path / "source")
    edit_config(source, use_sliding_window=True, sliding_window=8, max_window_layers=99, layer_types=None)
    imported = import_weights(source, tmp_path / "ftgpt")
    assert difference(model, AutoModelForCausalLM.from_pretrained(imported)) <= MAX_LOGIT_DIFFERENCE


@pytest.mark.parametrize(
    ("changes", "family", "message"),
    [
        ({"norm_type": "rmsnorm"}, None, r"norm_type is rmsnorm \(gpt2 needs layernorm\); GPT2 has no equivalent"),
        ({"mlp_gated": True}, None, r"mlp_gated is True \(gpt2 needs False\)"),
        ({"num_key_value_heads": 2}, None, "num_key_value_heads is 2 and num_attention_heads is 4"),
        ({"head_dim": 16}, None, r"head_dim is 16 \(gpt2 needs hidden_size / num_attention_heads\)"),
        ({}, "llama", r"norm_type is layernorm \(llama needs rmsnorm\); Llama has no equivalent"),
        ({}, "bert", "family bert; allowed are gpt2, llama, qwen2"),
    ],
)
def test_an_ftgpt_without_an_original_class_names_the_switch(changes, family, message, tmp_path):
    sizes = dict(SIZES, hidden_size=32, num_hidden_layers=1, num_attention_heads=4, max_position_embeddings=16)
    source = save(FTGPTForCausalLM(FTGPTConfig.gpt2(**sizes, **changes)), tmp_path / "ftgpt")
    with pytest.raises(UserError, match=message):
        export_weights(source, tmp_path / "plain", family)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ftgpt"]


def test_training_dropout_that_llama_lacks_is_left_out_with_a_warning(tmp_path, caplog):
    config = FTGPTConfig.llama(**GROUPED, residual_dropout=0.1)
    export_weights(save(FTGPTForCausalLM(config), tmp_path / "ftgpt"), tmp_path / "plain")
    assert "Llama has no residual_dropout" in caplog.text


def test_only_an_ftgpt_folder_is_exported(tmp_path):
    with pytest.raises(UserError, match='model_type "llama", not ftgpt'):
        export_weights(save(build("llama"), tmp_path / "source"), tmp_path / "plain")


def test_broken_folders_are_one_line_errors(tmp_path):
    with pytest.raises(UserError, match="has no config.json"):
        import_weights(tmp_path / "nowhere", tmp_path / "ftgpt")

    source = save(build("llama"), tmp_path / "source", max_shard_size="20KB")
    shard = sorted(source.glob("*.safetensors"))[1]
    whole = shard.read_bytes()
    shard.write_bytes(whole[:100])
    with pytest.raises(UserError, match="not a readable safetensors file"):
        import_weights(source, tmp_path / "ftgpt")
    shard.unlink()
    with pytest.raises(UserError, match="1 shards are missing, such as model-00002"):
        import_weights(source, tmp_path / "ftgpt")

    for path in source.glob("*.safetensors*"):
        path.unlink()
    with pytest.raises(UserError, match="has no weights"):
        import_weights(source, tmp_path / "ftgpt")
    (source / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(UserError, match="only pickled weights .pytorch_model.bin"):
        import_weights(source, tmp_path / "ftgpt")
    (source / "config.json").write_text("{")
    with pytest.raises(UserError, match="config.json:1: not valid JSON"):
        import_weights(source, tmp_path / "ftgpt")


def test_quantised_tensors_are_refused(tmp_path):
    source = save(build("llama"), tmp_path / "source")
    tensors = stored_tensors(source)
    tensors["model.norm.weight"] = tensors["model.norm.weight"].to(torch.int8)
    save_file(tensors, source / "model.safetensors")
    with pytest.raises(UserError, match="model.norm.weight has type I8; convertible are F64, F32, F16, BF16"):
        import_weights(source, tmp_path / "ftgpt")


def test_a_used_output_folder_is_refused_and_an_empty_one_taken(tmp_path):
    source = save(build("llama"), tmp_path / "source")
    (tmp_path / "ftgpt").mkdir()
    import_weights(source, tmp_path / "ftgpt")
    with pytest.raises(UserError, match="exists and is not empty"):
        import_weights(source, tmp_path / "ftgpt")


def test_values_start_aligned_and_the_folder_has_the_usual_permissions(tmp_path):
    (tmp_path / "usual").mkdir()
    for name in ("gpt2", "llama", "qwen2"):
        imported = import_weights(save(build(name), tmp_path / name), tmp_path / f"{name}-ftgpt")
        with open(imported / "model.safetensors", "rb") as file:
            assert int.from_bytes(file.read(8), "little") % 8 == 0  # the format's rule, for memory mapping
        assert imported.stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_a_failure_half_way_leaves_nothing_behind(tmp_path, monkeypatch):
    source = save(build("llama"), tmp_path / "source")

    def fill_then_fail(tensors, folder, max_shard_bytes):
        (folder / "model.safetensors").write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(ftkit.model.weights.conversion, "write_shards", fill_then_fail)
    with pytest.raises(OSError, match="No space left"):
        import_weights(source, tmp_path / "ftgpt")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]


MEASURE = """
import sys
from ftkit.model.weights.conversion import export_weights, import_weights

def peak_mib():  # of this process alone: ru_maxrss would start from the parent's
    return int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) / 1024

start = peak_mib()
import_weights(sys.argv[1], sys.argv[2])
middle = peak_mib()
export_weights(sys.argv[2], sys.argv[3])
print(middle - start, peak_mib() - start)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_peak_memory_of_a_conversion_is_far_below_the_size_of_the_model(name, tmp_path):
    wide = {"gpt2": dict(n_embd=1024, n_layer=10, n_inner=None), "llama": dict(hidden_size=1024, num_hidden_layers=10)}
    model_class, config = MODELS[name]
    settings = {**config.to_dict(), **wide[name], "intermediate_size": 4096, "head_dim": 256}
    model = model_class(type(config).from_dict(settings))
    size_mib = sum(p.nbytes for p in model.parameters()) / 2**20
    source = save(model, tmp_path / "source")
    folders = [str(source), str(tmp_path / "ftgpt"), str(tmp_path / "plain")]
    run = subprocess.run([sys.executable, "-c", MEASURE, *folders], capture_output=True, text=True, check=True)
    importing, exporting = map(float, run.stdout.split())
    print(f"{name}: {size_mib:.0f} MiB of weights; import +{importing:.0f} MiB, export +{exporting:.0f} MiB")
    assert max(importing, exporting) < size_mib / 2
