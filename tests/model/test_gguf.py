"""A .gguf file becomes the original class's folder: same weights, a corrected tokenizer, one-line errors."""

import json
import math
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from ftkit.config.errors import UserError
from ftkit.model.weights.gguf import convert_gguf

SPECIAL_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
CHAT_TEMPLATE = "{% for m in messages %}<|im_start|>{{ m['content'] }}<|im_end|>{% endfor %}"
TEXT = "In 2024, 12345 cats cost 99 euros;  don't ask why.\n\tnaïve 10 000 ½ ٣٤ 日本 " * 3
SIZES = dict(bos_token_id=1, eos_token_id=2, pad_token_id=2)
ROPE = dict(
    SIZES,
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=64,
    rms_norm_eps=1e-5,
)
GPT2 = dict(SIZES, n_embd=32, n_layer=2, n_head=4)  # else at defaults: transformers' loader knows no others
MODELS = {
    "llama": (LlamaForCausalLM, LlamaConfig, ROPE),
    "llama-biases": (LlamaForCausalLM, LlamaConfig, dict(ROPE, attention_bias=True)),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config, ROPE),
    "gpt2": (GPT2LMHeadModel, GPT2Config, GPT2),
}
# llama.cpp's name of each module; `{n}` is a layer.
ROPE_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.layers.{n}.input_layernorm": "blk.{n}.attn_norm",
    "model.layers.{n}.self_attn.q_proj": "blk.{n}.attn_q",
    "model.layers.{n}.self_attn.k_proj": "blk.{n}.attn_k",
    "model.layers.{n}.self_attn.v_proj": "blk.{n}.attn_v",
    "model.layers.{n}.self_attn.o_proj": "blk.{n}.attn_output",
    "model.layers.{n}.post_attention_layernorm": "blk.{n}.ffn_norm",
    "model.layers.{n}.mlp.gate_proj": "blk.{n}.ffn_gate",
    "model.layers.{n}.mlp.up_proj": "blk.{n}.ffn_up",
    "model.layers.{n}.mlp.down_proj": "blk.{n}.ffn_down",
    "model.norm": "output_norm",
    "lm_head": "output",
}
GPT2_NAMES = {
    "transformer.wte": "token_embd",
    "transformer.wpe": "position_embd",
    "transformer.h.{n}.ln_1": "blk.{n}.attn_norm",
    "transformer.h.{n}.attn.c_attn": "blk.{n}.attn_qkv",
    "transformer.h.{n}.attn.c_proj": "blk.{n}.attn_output",
    "transformer.h.{n}.ln_2": "blk.{n}.ffn_norm",
    "transformer.h.{n}.mlp.c_fc": "blk.{n}.ffn_up",
    "transformer.h.{n}.mlp.c_proj": "blk.{n}.ffn_down",
    "transformer.ln_f": "output_norm",
    "lm_head": "output",
}


@pytest.fixture(scope="module")
def bpe() -> Tokenizer:
    """A byte-level BPE of 300 tokens learned on text with digits, with SmolLM2's published pre-tokenizer."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=SPECIAL_TOKENS, initial_alphabet=alphabet)
    tokenizer.train_from_iterator([TEXT], trainer)
    return tokenizer


def build(name: str, tied: bool = True, **changes):
    model_class, config_class, settings = MODELS[name]
    torch.manual_seed(0)
    model = model_class(config_class(vocab_size=300, tie_word_embeddings=tied, **{**settings, **changes})).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


def permute(weights: np.ndarray, num_heads: int) -> np.ndarray:
    """As llama.cpp's convert_hf_to_gguf.py, LlamaModel.permute."""
    return (
        weights.reshape(num_heads, 2, weights.shape[0] // num_heads // 2, *weights.shape[1:])
        .swapaxes(1, 2)
        .reshape(weights.shape)
    )


def llama_cpp_tensors(model) -> dict[str, np.ndarray]:
    """The model's tensors as llama.cpp's converter would name and lay them out."""
    config = model.config
    names = GPT2_NAMES if config.model_type == "gpt2" else ROPE_NAMES
    tensors = {}
    for name, value in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        module, kind = name.rsplit(".", 1)
        layer = next((part for part in module.split(".") if part.isdigit()), "")
        target = names[module.replace(f".{layer}.", ".{n}.")].format(n=layer)
        array = value.numpy()
        if config.model_type == "gpt2" and value.ndim == 2 and ".h." in name:
            array = array.T
        if config.model_type == "llama" and target.endswith("attn_q"):
            array = permute(array, config.num_attention_heads)
        if config.model_type == "llama" and target.endswith("attn_k"):
            array = permute(array, config.num_key_value_heads)
        tensors[f"{target}.{kind}"] = np.ascontiguousarray(array)
    return tensors


def write_gguf(model, path: Path, bpe: Tokenizer | None, *, pre="smollm", kind="F32", extra=None, **metadata) -> Path:
    config = model.config
    writer = gguf.GGUFWriter(path, config.model_type)
    writer.add_name("tiny")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_embedding_length(config.hidden_size)
    writer.add_head_count(config.num_attention_heads)
    if config.model_type == "gpt2":
        writer.add_layer_norm_eps(config.layer_norm_epsilon)
        writer.add_feed_forward_length(4 * config.hidden_size)
    else:
        writer.add_feed_forward_length(config.intermediate_size)
        writer.add_head_count_kv(config.num_key_value_heads)
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
        writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
        writer.add_rope_dimension_count(config.head_dim if config.model_type == "llama" else 8)
    if bpe is not None:
        state = json.loads(bpe.to_str())["model"]
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(pre)
        writer.add_token_list(sorted(state["vocab"], key=state["vocab"].get))
        writer.add_token_types([3] * len(SPECIAL_TOKENS) + [1] * (len(state["vocab"]) - len(SPECIAL_TOKENS)))
        writer.add_token_merges([" ".join(pair) for pair in state["merges"]])
        writer.add_bos_token_id(1)
        writer.add_eos_token_id(2)
        writer.add_pad_token_id(2)
        writer.add_add_bos_token(False)
        writer.add_chat_template(CHAT_TEMPLATE)
    for key, value in metadata.items():
        add = writer.add_string if isinstance(value, str) else writer.add_float32
        add(f"{config.model_type}.{key.replace('__', '.')}", value)
    for name, array in {**llama_cpp_tensors(model), **(extra or {})}.items():
        quantised = gguf.GGMLQuantizationType[kind if array.ndim == 2 else "F32"]
        writer.add_tensor(name, gguf.quantize(array, quantised), raw_dtype=quantised)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@torch.no_grad()
def logits_of(model) -> torch.Tensor:
    return model.eval()(torch.arange(80).view(2, 40) + 3).logits


def difference(model, other) -> float:
    return (logits_of(model) - logits_of(other)).abs().max().item()


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("name", MODELS)
def test_float_weights_come_out_as_they_went_in(name, tied, bpe, tmp_path):
    model = build(name, tied)
    folder = convert_gguf(write_gguf(model, tmp_path / "tiny.gguf", bpe), tmp_path / "plain")
    plain, report = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert type(plain) is type(model)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    before, after = model.state_dict(), plain.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert difference(model, plain) <= 1e-5


@pytest.mark.parametrize("kind", ["F16", "Q8_0", "Q4_1"])
@pytest.mark.parametrize("name", ["llama", "qwen2", "gpt2"])
def test_quantised_weights_equal_those_of_transformers_own_loader(name, kind, bpe, tmp_path):
    path = write_gguf(build(name), tmp_path / "tiny.gguf", bpe, kind=kind)
    reference = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file=path.name, dtype=torch.float32)
    plain = AutoModelForCausalLM.from_pretrained(convert_gguf(path, tmp_path / "plain"))
    assert plain.dtype == torch.float32
    expected, found = reference.state_dict(), plain.state_dict()
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[key], found[key]) for key in expected)


@pytest.mark.parametrize("factor", [8.0, 32.0])
def test_the_scaled_rope_of_llama_3_is_recovered_from_its_divisors(factor, bpe, tmp_path):
    """transformers' loader ignores rope_freqs.weight, and its logits are wrong in silence."""
    scaling = {
        "rope_type": "llama3",
        "factor": factor,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    model = build("llama", head_dim=64, rope_parameters={"rope_theta": 500000.0, **scaling})
    divisors = []
    for i in range(0, 64, 2):  # llama.cpp, LlamaModel.generate_extra_tensors
        frequency = 500000.0 ** -(i / 64)
        wavelength = 2 * math.pi / frequency
        if wavelength < 8192 / 4.0:
            divisors.append(1.0)
        elif wavelength > 8192 / 1.0:
            divisors.append(factor)
        else:
            smooth = (8192 / wavelength - 1.0) / (4.0 - 1.0)
            divisors.append(1 / ((1 - smooth) / factor + smooth))
    extra = {"rope_freqs.weight": np.array(divisors, dtype=np.float32)}
    path = write_gguf(model, tmp_path / "tiny.gguf", bpe, pre="llama-bpe", extra=extra)
    plain = AutoModelForCausalLM.from_pretrained(convert_gguf(path, tmp_path / "plain"))
    assert plain.config.rope_parameters == {"rope_theta": 500000.0, **scaling}
    assert difference(model, plain) <= 1e-5

    extra = {"rope_freqs.weight": np.linspace(1, 5, 32, dtype=np.float32)}
    path = write_gguf(model, tmp_path / "other.gguf", bpe, extra=extra)
    with pytest.raises(UserError, match="RoPE divisors .rope_freqs.weight. are not those of Llama 3.1 or 3.2"):
        convert_gguf(path, tmp_path / "other")


def test_linear_rope_scaling_is_kept_and_another_refused(bpe, tmp_path):
    model = build("llama", rope_parameters={"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0})
    scaling = {"rope__scaling__type": "linear", "rope__scaling__factor": 4.0}
    path = write_gguf(model, tmp_path / "tiny.gguf", bpe, **scaling)
    plain = AutoModelForCausalLM.from_pretrained(convert_gguf(path, tmp_path / "plain"))
    assert difference(model, plain) <= 1e-5
    path = write_gguf(model, tmp_path / "yarn.gguf", bpe, rope__scaling__type="yarn")
    with pytest.raises(UserError, match='RoPE scaling "yarn" in GGUF; convertible are none, linear and Llama 3'):
        convert_gguf(path, tmp_path / "yarn")


def test_digits_are_split_one_by_one_where_the_merges_were_learned_so(bpe, tmp_path):
    path = write_gguf(build("llama"), tmp_path / "tiny.gguf", bpe, pre="smollm")
    tokenizer = AutoTokenizer.from_pretrained(convert_gguf(path, tmp_path / "plain"))
    assert tokenizer.convert_ids_to_tokens(tokenizer("12345 99")["input_ids"]) == [*"12345", "Ġ", "9", "9"]

    reference = Tokenizer.from_str(bpe.to_str())  # the file's vocabulary and merges under SmolLM2's published splitting
    bytes_of_words = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    reference.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), bytes_of_words])
    assert tokenizer(TEXT)["input_ids"] == reference.encode(TEXT).ids != bpe.encode(TEXT).ids
    assert tokenizer.decode(tokenizer(TEXT)["input_ids"]) == TEXT


def test_digits_stay_together_where_the_merges_join_them(bpe, tmp_path):
    path = write_gguf(build("gpt2"), tmp_path / "tiny.gguf", bpe, pre="gpt-2")
    tokenizer = AutoTokenizer.from_pretrained(convert_gguf(path, tmp_path / "plain"))
    assert tokenizer(TEXT)["input_ids"] == bpe.encode(TEXT).ids


def test_pad_is_not_eos_and_tokenizer_config_and_generation_config_agree(bpe, tmp_path):
    folder = convert_gguf(write_gguf(build("llama"), tmp_path / "tiny.gguf", bpe), tmp_path / "plain")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert [tokenizer.pad_token, tokenizer.bos_token, tokenizer.eos_token] == SPECIAL_TOKENS
    assert tokenizer.model_max_length == 64
    for name in ("config.json", "generation_config.json"):
        ids = json.loads((folder / name).read_text())
        assert (ids["pad_token_id"], ids["eos_token_id"], ids["bos_token_id"]) == (0, 2, 1)


def test_special_tokens_and_chat_template_are_the_files(bpe, tmp_path):
    folder = convert_gguf(write_gguf(build("qwen2"), tmp_path / "tiny.gguf", bpe), tmp_path / "plain")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.chat_template == CHAT_TEMPLATE
    ids = tokenizer.apply_chat_template([{"role": "user", "content": "a"}], return_dict=False)
    assert ids == [1, *tokenizer("a")["input_ids"], 2]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "a"
    assert len(tokenizer) == 300


def test_a_file_without_a_tokenizer_converts_with_a_warning(tmp_path, caplog):
    model = build("llama")
    folder = convert_gguf(write_gguf(model, tmp_path / "tiny.gguf", None), tmp_path / "plain")
    assert "holds no tokenizer" in caplog.text
    assert not (folder / "tokenizer.json").exists()
    assert difference(model, AutoModelForCausalLM.from_pretrained(folder)) <= 1e-5


def test_what_is_not_a_gguf_file_is_a_one_line_error(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        convert_gguf(tmp_path / "nowhere.gguf", tmp_path / "plain")
    (tmp_path / "empty.gguf").touch()
    with pytest.raises(UserError, match="empty.gguf: is empty"):
        convert_gguf(tmp_path / "empty.gguf", tmp_path / "plain")
    (tmp_path / "text.gguf").write_text("version https://git-lfs.github.com/spec/v1")
    with pytest.raises(UserError, match="text.gguf: is not a GGUF file"):
        convert_gguf(tmp_path / "text.gguf", tmp_path / "plain")


def test_a_file_cut_short_anywhere_is_a_one_line_error(bpe, tmp_path):
    whole = write_gguf(build("llama"), tmp_path / "tiny.gguf", bpe).read_bytes()
    for end in [*range(5, 200, 13), *range(200, len(whole), len(whole) // 20), len(whole) - 1]:
        (tmp_path / "cut.gguf").write_bytes(whole[:end])
        with pytest.raises(UserError, match="cut.gguf: broken GGUF file") as caught:
            convert_gguf(tmp_path / "cut.gguf", tmp_path / "plain")
        assert "\n" not in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cut.gguf", "tiny.gguf"]


def test_another_architecture_and_a_partial_file_are_refused(bpe, tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "other.gguf", "mamba")
    writer.add_tensor("a", np.zeros((2, 32), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(UserError, match="GGUF architecture mamba; convertible are llama, qwen2, gpt2"):
        convert_gguf(tmp_path / "other.gguf", tmp_path / "plain")

    extra = {"blk.0.ffn_gate_exps.weight": np.zeros((2, 32), dtype=np.float32)}
    path = write_gguf(build("llama"), tmp_path / "more.gguf", bpe, extra=extra)
    with pytest.raises(UserError, match="1 tensors have no counterpart, such as blk.0.ffn_gate_exps.weight"):
        convert_gguf(path, tmp_path / "plain")
