"""Writes a GPT-2, Llama or Qwen2 folder as one .gguf file, tokenizer and chat template inside.

    write_gguf("runs/merged", "model.gguf", "q8_0")

For llama.cpp, Ollama and what is built on them. `ftkit.model.weights.gguf` is the way back. Tensors pass one at a time.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType, GGUFWriter
from transformers import PreTrainedConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from ftkit.config.errors import UserError
from ftkit.config.json_object import read_object
from ftkit.model.loading import load_tokenizer
from ftkit.model.weights.conversion import OriginalTensors
from ftkit.model.weights.gguf import ROPE_FACTORS, SETTINGS
from ftkit.model.weights.shards import OutputTensor, SafetensorsFolder
from ftkit.model.weights.tables import FAMILIES, GGUF_TENSORS, Facts, apply_table
from ftkit.publish.export.gguf_tokenizer import TokenizerMetadata, describe_tokenizer, write_tokenizer

QUANTIZATIONS = {
    "f16": (GGMLQuantizationType.F16, gguf.LlamaFileType.MOSTLY_F16),
    "q8_0": (GGMLQuantizationType.Q8_0, gguf.LlamaFileType.MOSTLY_Q8_0),
    "f32": (GGMLQuantizationType.F32, gguf.LlamaFileType.ALL_F32),
    "bf16": (GGMLQuantizationType.BF16, gguf.LlamaFileType.MOSTLY_BF16),
}
# What llama.cpp computes whatever the file says: the configuration must agree.
FIXED_SETTINGS = {
    "llama": {"hidden_act": ("silu",), "mlp_bias": (False,)},
    "qwen2": {"hidden_act": ("silu",), "use_sliding_window": (False,)},
    "gpt2": {
        "activation_function": ("gelu_new", "gelu_pytorch_tanh"),  # ggml's gelu is the tanh form
        "scale_attn_weights": (True,),
        "scale_attn_by_inverse_layer_idx": (False,),
        "add_cross_attention": (False,),
    },
}
FULL_PRECISION = ("position_embd.weight", ROPE_FACTORS)  # llama.cpp reads these as float32


class Packed(NamedTuple):
    """A tensor as the file stores it: GGML type, shape, and the function that makes its float32 values."""

    kind: GGMLQuantizationType
    shape: tuple[int, ...]
    make: Callable[[], torch.Tensor]


def write_gguf(
    folder: str | Path, path: str | Path, quantization: str = "f16", *, name: str = "model", where: Path | None = None
) -> dict:
    """Write a folder as a .gguf file; return what export.json says of it.

    folder: a gpt2, llama or qwen2 folder with a tokenizer. quantization: f16, q8_0, f32 or bf16; vectors and positions
    stay float32. name: the file's general.name. where: what a refusal names, if the folder is a temporary one.
    Raises UserError for another architecture, for settings that llama.cpp does not compute, for a tokenizer other
    than byte-level BPE, and for weights too large for f16.
    """
    folder = Path(folder)
    config = read_plain_config(folder)
    check_settings(config, where or folder)
    tensors = pack_tensors(folder, config, QUANTIZATIONS[quantization][0])
    num_rows = tensors["token_embd.weight"].shape[0]
    tokenizer = describe_tokenizer(load_tokenizer(folder), num_rows)
    write_file(path, config, tensors, tokenizer, quantization, name)
    fallen_back = sum(
        tensor.kind == GGMLQuantizationType.F16 != QUANTIZATIONS[quantization][0] for tensor in tensors.values()
    )
    return {
        "pre_tokenizer": tokenizer.pre,
        "is_pre_tokenizer_known": tokenizer.is_pre_known,
        "add_bos": tokenizer.add_bos,
        "num_tensors_in_f16_instead": fallen_back,
    }


def read_plain_config(folder: Path) -> PreTrainedConfig:
    """The configuration of a folder that GGUF can hold; UserError for another architecture."""
    settings = read_object(folder / "config.json")
    model_type = settings.get("model_type", "")
    if model_type not in GGUF_TENSORS:
        raise UserError(
            f'{folder}: model_type "{model_type}"; GGUF export knows FTGPT, {", ".join(GGUF_TENSORS)}; '
            "llama.cpp's own converter knows more"
        )
    return CONFIG_MAPPING[model_type].from_pretrained(folder)


def check_settings(config: PreTrainedConfig, where: Path) -> None:
    """Raise UserError if llama.cpp would compute something else than this configuration says."""
    for setting, allowed in FIXED_SETTINGS[config.model_type].items():
        value = getattr(config, setting, allowed[0])
        if value not in allowed:
            raise UserError(
                f"{where}: {setting} is {value}; llama.cpp computes {config.model_type} with {allowed[0]}, so the "
                "model can't be a .gguf; choose a plain --format"
            )
    rope = getattr(config, "rope_parameters", None) or {}
    kind = rope.get("rope_type", "default")
    allowed = ("default", "linear", "llama3") if config.model_type == "llama" else ("default", "linear")
    if kind not in allowed or rope.get("partial_rotary_factor", 1.0) != 1.0:
        raise UserError(f"{where}: RoPE scaling {kind}; GGUF export of {config.model_type} knows {', '.join(allowed)}")


def pack_tensors(folder: Path, config: PreTrainedConfig, kind: GGMLQuantizationType) -> dict[str, Packed]:
    """Every tensor of the file under llama.cpp's name; nothing is read yet but shapes."""
    source = OriginalTensors(SafetensorsFolder(folder), FAMILIES[config.model_type])
    if config.tie_word_embeddings:
        source.drop_tied_head(FAMILIES[config.model_type].tensors[0].left)
    table = GGUF_TENSORS[config.model_type]
    planned = apply_table(table, source, Facts.of(config), backward=True, where=str(folder))
    if (rope := rope_divisors(config)) is not None:
        planned[ROPE_FACTORS] = OutputTensor(rope, lambda: rope)
    return {
        name: Packed(kind_of(name, tuple(tensor.spec.shape), kind), tuple(tensor.spec.shape), tensor.make)
        for name, tensor in planned.items()
    }


def kind_of(name: str, shape: tuple[int, ...], kind: GGMLQuantizationType) -> GGMLQuantizationType:
    """The type a tensor is stored in: vectors stay float32; rows that don't divide into blocks fall back to f16."""
    if len(shape) < 2 or name in FULL_PRECISION:
        return GGMLQuantizationType.F32
    block_size, _ = gguf.GGML_QUANT_SIZES[kind]
    return GGMLQuantizationType.F16 if shape[-1] % block_size else kind


def rope_divisors(config: PreTrainedConfig) -> torch.Tensor | None:
    """What Llama 3 divides each RoPE frequency by, float32 (head_dim / 2,); None without its scaling."""
    rope = getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type") != "llama3":
        return None
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")
    head_dim = head_dim_of(config)
    plain = 1.0 / (rope["rope_theta"] ** (torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim))
    return plain / scaled


def head_dim_of(config: PreTrainedConfig) -> int:
    """Size of an attention head."""
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def write_file(
    path: str | Path,
    config: PreTrainedConfig,
    tensors: dict[str, Packed],
    tokenizer: TokenizerMetadata,
    quantization: str,
    name: str,
) -> None:
    """Write header, metadata and tensors, in this order, one tensor in memory at a time."""
    writer = GGUFWriter(path, config.model_type)
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name(name)
    writer.add_file_type(QUANTIZATIONS[quantization][1])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    for key, value in hyperparameters(config, tensors["token_embd.weight"].shape[0]).items():
        add = {int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}[type(value)]
        add(f"{config.model_type}.{key}", value)
    write_tokenizer(writer, tokenizer)
    write_tensors(writer, tensors)


def write_tensors(writer: GGUFWriter, tensors: dict[str, Packed]) -> None:
    """Write what a writer has of metadata, and tensors, one in memory at a time; close it."""
    for tensor_name, tensor in tensors.items():
        shape = gguf.quant_shape_to_byte_shape(tensor.shape, tensor.kind)
        writer.add_tensor_info(tensor_name, shape, np.dtype(np.uint8), int(np.prod(shape)), raw_dtype=tensor.kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for tensor_name, tensor in tensors.items():
        writer.write_tensor_data(packed_bytes(tensor_name, tensor))
    writer.close()


def hyperparameters(config: PreTrainedConfig, num_rows: int) -> dict[str, Any]:
    """GGUF's settings after "<architecture>."; the same table as for reading."""
    settings = {key: getattr(config, name) for key, name in SETTINGS[config.model_type].items()}
    if config.model_type == "gpt2":
        settings["feed_forward_length"] = settings["feed_forward_length"] or 4 * config.hidden_size
        return {**settings, "vocab_size": num_rows}
    rope = config.rope_parameters
    head_dim = head_dim_of(config)
    settings.update({"vocab_size": num_rows, "rope.dimension_count": head_dim})
    settings["rope.freq_base"] = float(rope["rope_theta"])
    if head_dim * config.num_attention_heads != config.hidden_size:
        settings.update({"attention.key_length": head_dim, "attention.value_length": head_dim})
    if rope.get("rope_type") == "linear":
        settings.update({"rope.scaling.type": "linear", "rope.scaling.factor": float(rope["factor"])})
    return settings


def packed_bytes(name: str, tensor: Packed) -> np.ndarray:
    """A tensor's values in its GGML type, as bytes. Raises UserError for values that f16 can't hold."""
    values = np.ascontiguousarray(tensor.make().float().numpy())
    with np.errstate(over="ignore"):
        packed = np.ascontiguousarray(gguf.quantize(values, tensor.kind))
    if tensor.kind == GGMLQuantizationType.F16 and not np.isfinite(packed).all():
        raise UserError(f"tensor {name} has values beyond f16's 65504, or not finite; try --quantization bf16 or f32")
    return packed.view(np.uint8)
