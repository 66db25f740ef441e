"""Writes a LoRA adapter as a .gguf file of its own, for llama.cpp's --lora and Ollama's ADAPTER.

    write_adapter_gguf("runs/a", "exports/base", "adapter.gguf", "f16")

The format is that of llama.cpp's convert_lora_to_gguf.py: for a weight NAME, NAME.lora_a (rank, inputs) and NAME.lora_b
(outputs, rank); llama.cpp adds alpha / rank * B A. Rows of B lie as those of the weight do, so q and k of Llama are
reordered.
"""

from collections.abc import Mapping
from pathlib import Path

import gguf
import torch
from gguf import GGMLQuantizationType, GGUFWriter
from torch import Tensor
from transformers import PreTrainedConfig

from ftkit.config.errors import UserError
from ftkit.model.adapters.updates import Update, check_lora, read_updates
from ftkit.model.loading import load_tokenizer
from ftkit.model.weights.gguf_file import GgufFile
from ftkit.model.weights.tables import (
    FAMILIES,
    GGUF_TENSORS,
    UNPERMUTE_K,
    UNPERMUTE_Q,
    Facts,
    expand_rules,
)
from ftkit.publish.export.gguf import (
    QUANTIZATIONS,
    Packed,
    kind_of,
    read_plain_config,
    write_file,
    write_tensors,
)
from ftkit.publish.export.gguf_tokenizer import describe_tokenizer

ADAPTER_KINDS = ("f16", "bf16", "f32")  # rows of lora_b are too short for blocks
FACTORS = (".lora_a", ".lora_b")


def write_adapter_gguf(
    adapter: str | Path, plain: Path, path: str | Path, kind: str = "f16", *, is_ftgpt: bool, name: str = "adapter"
) -> dict:
    """Write an adapter's factors; return what export.json says of them.

    plain: the base as a gpt2, llama or qwen2 folder. is_ftgpt: whether the adapter's own names are FTGPT's.
    Raises UserError for adapters that are more than LoRA factors, and for modules that llama.cpp does not adapt.
    """
    lora, config = check_lora(adapter, "can't be a LoRA .gguf"), read_plain_config(plain)
    alpha = float(lora.lora_alpha) or 1.0
    factors = placed_factors(read_updates(adapter), config, is_ftgpt, str(adapter))
    writer = GGUFWriter(path, config.model_type)
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, alpha)
    writer.add_name(name)
    writer.add_file_type(QUANTIZATIONS[kind][1])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    packed = {}
    for weight, update in factors.items():
        scale = update.scaling * len(update.a_RI) / alpha  # 1, unless ranks or alphas differ by module
        for suffix, factor in zip(FACTORS, (update.a_RI, update.b_OR * scale), strict=True):
            shape = tuple(factor.shape)
            packed[weight + suffix] = Packed(
                kind_of("", shape, QUANTIZATIONS[kind][0]), shape, lambda factor=factor: factor
            )
    write_tensors(writer, packed)
    return {"adapter_type": kind, "adapter_alpha": alpha, "num_adapted_tensors": len(factors)}


def placed_factors(
    found: Mapping[str, Update], config: PreTrainedConfig, is_ftgpt: bool, where: str
) -> dict[str, Update]:
    """Updates by llama.cpp's name of the weight, rows in its order.

    A weight that joins several modules of FTGPT, such as GPT-2's q, k and v, gets the factors of all, side by side.
    """
    facts, table = Facts.of(config), GGUF_TENSORS[config.model_type]
    places = {right: (left, rule.op) for (left,), (right,), rule in expand_rules(table, facts.num_layers)}
    joined: dict[str, list[tuple[Update, int, int]]] = {}
    originals = original_names(config, facts) if is_ftgpt else {}
    for module, update in found.items():
        original, part, parts = originals.get(f"{module}.weight", (f"{module}.weight", 0, 1))
        name, op = places.get(original, ("", None))
        is_head = name == "output.weight" and config.tie_word_embeddings
        if not name.endswith(".weight") or is_head or "embd" in name:
            raise UserError(f"{where}: adapts {module}, which a LoRA .gguf can't; leave out --unmerged to merge it")
        if op in (UNPERMUTE_Q, UNPERMUTE_K):
            (rows,) = op.backward([update.b_OR], facts.num_heads, facts.num_key_value_heads)
            update = update._replace(b_OR=rows)
        joined.setdefault(name, []).append((update, part, parts))
    return {name: side_by_side(updates) for name, updates in joined.items()}


def original_names(config: PreTrainedConfig, facts: Facts) -> dict[str, tuple[str, int, int]]:
    """FTGPT's name of a weight to the original's, which part of it that is, and of how many."""
    rules = expand_rules(FAMILIES[config.model_type].tensors, facts.num_layers)
    return {name: (left[0], part, len(right)) for left, right, _ in rules for part, name in enumerate(right)}


def side_by_side(updates: list[tuple[Update, int, int]]) -> Update:
    """One update of a weight whose rows are some modules', one below the other: their ranks add up."""
    if updates[0][2] == 1:
        return updates[0][0]
    a_RI = torch.cat([update.a_RI for update, _, _ in updates])
    rows = len(updates[0][0].b_OR)
    b_OR, column = torch.zeros(rows * updates[0][2], len(a_RI)), 0
    for update, part, _ in updates:
        rank = len(update.a_RI)
        b_OR[part * rows : (part + 1) * rows, column : column + rank] = update.scaling * update.b_OR
        column += rank
    return Update(a_RI, b_OR, 1.0)


def write_merged_gguf(base: Path, adapter: Path, plain: Path, path: Path) -> None:
    """Write a float32 .gguf of what llama.cpp computes with two files: each weight plus alpha / rank * B A.

    plain: the folder that `base` was made of, for its configuration and tokenizer.
    """
    weights, factors = GgufFile(base), GgufFile(adapter)
    alpha = float(factors.get(gguf.Keys.Adapter.LORA_ALPHA))

    def value(name: str) -> Tensor:
        if f"{name}.lora_a" not in factors.specs():
            return weights.load(name)
        a_RI, b_OR = (factors.load(name + suffix) for suffix in FACTORS)
        return weights.load(name) + alpha / len(a_RI) * (b_OR @ a_RI)

    tensors = {
        name: Packed(GGMLQuantizationType.F32, tuple(spec.shape), lambda name=name: value(name))
        for name, spec in weights.specs().items()
    }
    placeless = {name.removesuffix(".lora_a").removesuffix(".lora_b") for name in factors.specs()} - tensors.keys()
    if placeless:
        raise UserError(f"{min(placeless)}: the base has no such tensor, so llama.cpp could not add to it")
    tokenizer = describe_tokenizer(load_tokenizer(plain), tensors["token_embd.weight"].shape[0])
    write_file(path, read_plain_config(plain), tensors, tokenizer, "f32", "merged")
