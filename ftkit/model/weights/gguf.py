"""Turns a .gguf file into a plain safetensors folder of the original class, with the tokenizer corrected.

    convert_gguf("SmolLM2-135M-Instruct.Q4_1.gguf", "smollm2")    # then load_model("smollm2")

The weights are dequantised to float32 one tensor at a time. transformers' own loader holds all of them, cannot save
what it loaded, loses the digit splitting of some tokenizers and the scaled RoPE of Llama 3.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from tokenizers import pre_tokenizers
from transformers import GenerationConfig, PreTrainedConfig, PreTrainedTokenizerBase, PreTrainedTokenizerFast
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from ftkit.config.errors import UserError
from ftkit.config.files import staged_folder
from ftkit.model.padding import ensure_pad_token
from ftkit.model.weights.gguf_file import GgufFile, reading
from ftkit.model.weights.shards import OutputTensor, write_shards
from ftkit.model.weights.tables import FAMILIES, GGUF_TENSORS, Facts, apply_table, check_shapes

logger = logging.getLogger(__name__)

ROPE_FACTORS = "rope_freqs.weight"  # llama.cpp keeps Llama 3's RoPE scaling as one divisor per frequency
# GGUF's setting after "<architecture>." and the original configuration's.
ROPE_SETTINGS = {
    "context_length": "max_position_embeddings",
    "block_count": "num_hidden_layers",
    "feed_forward_length": "intermediate_size",
    "embedding_length": "hidden_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
}
SETTINGS = {
    "llama": ROPE_SETTINGS,
    "qwen2": ROPE_SETTINGS,
    "gpt2": {
        "context_length": "n_positions",
        "block_count": "n_layer",
        "feed_forward_length": "n_inner",
        "embedding_length": "n_embd",
        "attention.head_count": "n_head",
        "attention.layer_norm_epsilon": "layer_norm_epsilon",
    },
}
# Values of tokenizer.ggml.pre whose merges were learned on single digits, then GPT-2's split
# (llama.cpp, src/llama-vocab.cpp: the first regular expression of these is "\\p{N}").
SINGLE_DIGIT_PRE = frozenset({"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"})


def convert_gguf(path: str | Path, output_dir: str | Path) -> Path:
    """Write a .gguf file as a float32 safetensors folder that plain AutoModelForCausalLM loads; return the folder.

    Architectures: llama (SmolLM2 is one), qwen2, gpt2. Raises UserError if the file is not GGUF, is broken, holds
    another architecture or a RoPE scaling that the original class lacks, or if `output_dir` is not empty.
    """
    with reading(path):
        config, tensors, tokenizer = _plan(GgufFile(path))
    with staged_folder(output_dir) as staging:
        if tokenizer is not None:
            tokenizer.save_pretrained(staging)
        else:
            logger.warning("%s holds no tokenizer; the folder is written without one", path)
        write_shards(tensors, staging)
        config.save_pretrained(staging)
        ids = {name: getattr(config, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
        GenerationConfig(**ids).save_pretrained(staging)
    return Path(output_dir)


def _plan(source: GgufFile) -> tuple[PreTrainedConfig, dict[str, OutputTensor], PreTrainedTokenizerBase | None]:
    """The configuration, the tensors to write and the tokenizer; reads all but the weights."""
    if source.architecture not in GGUF_TENSORS:
        allowed = ", ".join(GGUF_TENSORS)
        raise UserError(
            f"{source.path}: GGUF architecture {source.architecture}; convertible are {allowed}; "
            "use the model's safetensors folder instead"
        )
    config = read_gguf_config(source)
    where, table = str(source.path), GGUF_TENSORS[source.architecture]
    tensors = apply_table(table, source, Facts.of(config), where=where, ignored=(ROPE_FACTORS,))
    check_shapes(tensors, config, where=where)
    tokenizer = load_gguf_tokenizer(source)
    if tokenizer is not None:
        config.pad_token_id = tokenizer.pad_token_id
    return config, tensors, tokenizer


def read_gguf_config(source: GgufFile) -> PreTrainedConfig:
    """The original class's configuration (LlamaConfig, Qwen2Config or GPT2Config) of a .gguf file."""
    arch = source.architecture
    settings = {}
    for key, name in SETTINGS[arch].items():
        value = source.get(f"{arch}.{key}")
        if value is None:
            raise UserError(f"{source.path}: GGUF metadata lacks {arch}.{key}; download another copy of the model")
        settings[name] = value
    specs = source.specs()
    for name in ("token_embd.weight", "blk.0.attn_norm.weight"):
        if name not in specs:
            raise UserError(f"{source.path}: tensor {name} is missing; the file holds no whole language model")
    settings.update(
        vocab_size=specs["token_embd.weight"].shape[0],
        tie_word_embeddings="output.weight" not in specs,
        dtype="float32",
        architectures=[f"{FAMILIES[arch].class_prefix}ForCausalLM"],
        bos_token_id=source.get("tokenizer.ggml.bos_token_id"),
        eos_token_id=source.get("tokenizer.ggml.eos_token_id"),
        pad_token_id=source.get("tokenizer.ggml.padding_token_id"),
    )
    if arch != "gpt2":
        settings["head_dim"] = specs["blk.0.attn_q.weight"].shape[0] // settings["num_attention_heads"]
        settings["rope_parameters"] = _rope_parameters(source, settings)
    if arch == "llama":
        settings["attention_bias"] = "blk.0.attn_q.bias" in specs
    return CONFIG_MAPPING[arch](**settings)


def _rope_parameters(source: GgufFile, settings: Mapping[str, Any]) -> dict[str, Any]:
    """transformers' rope_parameters: the base, and the linear or Llama-3 scaling of the file."""
    arch = source.architecture
    rope = {"rope_type": "default", "rope_theta": float(source.get(f"{arch}.rope.freq_base", 10000.0))}
    scaling = source.get(f"{arch}.rope.scaling.type", "none")
    if scaling == "linear":
        rope.update(rope_type="linear", factor=float(source.get(f"{arch}.rope.scaling.factor", 1.0)))
    elif scaling != "none":
        raise UserError(f'{source.path}: RoPE scaling "{scaling}" in GGUF; convertible are none, linear and Llama 3')
    if ROPE_FACTORS in source.specs():
        rope.update(_llama3_scaling(source, settings["head_dim"], rope["rope_theta"]))
    return rope


def _llama3_scaling(source: GgufFile, head_dim: int, theta: float) -> dict[str, Any]:
    """The scaling whose divisors equal the file's; it keeps only these, so the published settings are tried.

    Source of the divisors: llama.cpp, convert_hf_to_gguf.py, LlamaModel.generate_extra_tensors.
    """
    divisors = source.load(ROPE_FACTORS)
    scaling = {
        "rope_type": "llama3",
        "factor": float(divisors.max()),
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    config = CONFIG_MAPPING["llama"](head_dim=head_dim, rope_parameters={"rope_theta": theta, **scaling})
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")
    plain = theta ** -(torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim)
    if divisors.shape != scaled.shape or not torch.allclose(plain / divisors, scaled, rtol=1e-4):
        raise UserError(
            f"{source.path}: its RoPE divisors ({ROPE_FACTORS}) are not those of Llama 3.1 or 3.2; "
            "use the model's safetensors folder instead"
        )
    return scaling


def load_gguf_tokenizer(source: GgufFile) -> PreTrainedTokenizerBase | None:
    """The tokenizer of a .gguf file, corrected; None if the file holds none.

    Fixed: digits split one by one where the merges were learned so (transformers forgets it for SmolLM2), a pad token
    that is not eos, the model's context as maximum length.
    """
    if source.get("tokenizer.ggml.tokens") is None:
        return None
    path = source.path
    tokenizer = PreTrainedTokenizerFast.from_pretrained(str(path.parent), gguf_file=path.name)
    if source.get("tokenizer.ggml.pre") in SINGLE_DIGIT_PRE:
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
            ]
        )
    for name in ("is_local", "local_files_only"):  # how it was loaded, not what it is
        tokenizer.init_kwargs.pop(name, None)
    ensure_pad_token(tokenizer)
    tokenizer.model_max_length = int(source.get(f"{source.architecture}.context_length"))
    return tokenizer
