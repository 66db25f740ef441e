"""Models of 1.58 bits: made of any model, saved so that transformers reads them ("bitnet"), read again, and packed.

    strength, count = make_ternary(model)      # its linear layers but the head; save_pretrained says so in config.json
    use_own_layers(model)                      # in place of transformers', which compile themselves at first use
    write_packed("runs/ternary", "small")      # four weights in a byte

A run saves the weights it trains, which are rounded at each use (transformers: autobitlinear, online). Packed ones are
rounded for good (bitlinear).
"""

import json
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.quantizers.quantizers_utils import should_convert_module

from ftkit.config.errors import UserError
from ftkit.config.json_object import read_object
from ftkit.model.fast.bit_linear import BitLinear, Strength, ternary_scale
from ftkit.model.weights.shards import OutputTensor, SafetensorsFolder, write_shards

METHOD = "bitnet"
TRAINED = {"quant_method": METHOD, "linear_class": "autobitlinear", "quantization_mode": "online"}
PACKED = {"quant_method": METHOD, "linear_class": "bitlinear", "quantization_mode": "offline"}
PER_BYTE = 4  # weights, of 2 bits each: row n of a byte is row n * rows / 4 of the weight, as transformers has it
CLASSIFIER_HEAD = "score"  # that a classifier of the same weights would have; never rounded, as the head is not


def make_ternary(model: PreTrainedModel) -> tuple[Strength, int]:
    """Put BitLinear, at strength 0, in the place of every linear layer but the head; with their number.

    A layer whose rows don't divide by four stays as it is: it can't be packed. A model that is of 1.58 bits already is
    left so. Raises UserError where there is no such layer.
    """
    layers = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    if any(isinstance(layer, BitLinear) for layer in layers.values()):
        own = [layer for layer in layers.values() if isinstance(layer, BitLinear)]
        return own[0].strength, len(own)
    head = model.get_output_embeddings()
    kept = [name for name, layer in layers.items() if layer is head or layer.out_features % PER_BYTE]
    kept = [*kept, CLASSIFIER_HEAD]
    found = [name for name in layers if should_convert_module(name, kept)]
    if not found:
        raise UserError(f"--ternary: {type(model).__name__} has no linear layers to round; try --ftgpt, or drop it")
    strength = Strength(0.0, 0.0)
    for name in found:
        model.set_submodule(name, BitLinear(layers[name].weight, layers[name].bias, strength))
    model.train(model.training)  # new layers too
    model.config.quantization_config = TRAINED | {"modules_to_not_convert": kept}
    return strength, len(found)


def ternary_settings(folder: str | Path) -> dict | None:
    """What a model's config.json says of its 1.58 bits; None where it has none."""
    settings = read_object(Path(folder) / "config.json").get("quantization_config") or {}
    return settings if settings.get("quant_method") == METHOD else None


def is_packed(folder: str | Path) -> bool:
    """Whether a model's weights are of 1.58 bits and rounded for good."""
    settings = ternary_settings(folder)
    return settings is not None and settings.get("quantization_mode") != TRAINED["quantization_mode"]


def use_own_layers(model: PreTrainedModel) -> None:
    """Put BitLinear in the place of transformers' layers of 1.58 bits; those with a norm of their own stay."""
    from transformers.integrations.bitnet import AutoBitLinear
    from transformers.integrations.bitnet import BitLinear as PackedLinear

    found = {name: part for name, part in model.named_modules() if isinstance(part, AutoBitLinear | PackedLinear)}
    if not found or any(layer.rms_norm is not None for layer in found.values()):
        return
    strength = Strength()
    for name, layer in found.items():
        model.set_submodule(name, own_layer(layer, strength, is_packed=isinstance(layer, PackedLinear)))
    model.train(model.training)  # new layers too
    for name in ("hf_quantizer", "is_quantized", "quantization_method"):  # plain parameters, which can be trained
        vars(model).pop(name, None)


def own_layer(layer: Any, strength: Strength, *, is_packed: bool) -> BitLinear:
    """What computes the same as one of transformers' layers."""
    if not is_packed and layer.online_quant:
        return BitLinear(layer.weight, layer.bias, strength)
    if is_packed:
        weight, bias = unpack(layer.weight).to(layer.weight_scale.dtype) / layer.weight_scale, layer.bias
    else:
        bias = None if layer.bias is None else layer.bias * layer.weight_scale
        weight = layer.weight * layer.weight_scale
    frozen = [None if one is None else nn.Parameter(one.detach(), requires_grad=False) for one in (weight, bias)]
    return BitLinear(*frozen, strength, is_rounded=True)


def pack(values: Tensor) -> Tensor:
    """Bytes of four values of -1, 0 and 1 each, from the four quarters of the rows: (rows / 4, columns) uint8."""
    quarters = (values + 1).to(torch.uint8).view(PER_BYTE, -1, values.shape[1])
    shifts = 2 * torch.arange(PER_BYTE, dtype=torch.uint8).view(-1, 1, 1)
    return (quarters << shifts).sum(0, dtype=torch.uint8)


def unpack(packed: Tensor) -> Tensor:
    """The -1, 0 and 1 that `pack` has packed, as int8."""
    shifts = 2 * torch.arange(PER_BYTE, dtype=torch.uint8, device=packed.device).view(-1, 1, 1)
    return ((packed >> shifts) & 3).flatten(0, 1).to(torch.int8) - 1


def write_packed(folder: str | Path, target: Path, names: list[str], dtype: str = "auto") -> str:
    """Write the weights and config.json of a model of 1.58 bits, packed, into `target`; return the others' dtype.

    names: of its layers of 1.58 bits. dtype: of what is not rounded; auto keeps the stored one.
    """
    tensors, planned = SafetensorsFolder(folder), {}
    for name, spec in tensors.specs().items():
        stored = spec.dtype if dtype == "auto" else getattr(torch, dtype)
        layer, _, kind = name.rpartition(".")
        if layer in names and kind == "weight":
            rows, columns = spec.shape
            bytes_spec = torch.empty(rows // PER_BYTE, columns, dtype=torch.uint8, device="meta")
            planned[name] = OutputTensor(bytes_spec, partial(packed_weight, tensors, name))
            scale_spec = torch.empty(1, dtype=torch.float32, device="meta")
            planned[f"{layer}.weight_scale"] = OutputTensor(scale_spec, partial(scale_of, tensors, name))
        else:
            planned[name] = OutputTensor(spec.to(stored), partial(cast, tensors, name, stored))
    write_shards(planned, target)
    settings = read_object(Path(folder) / "config.json")
    kept = settings["quantization_config"]["modules_to_not_convert"]
    settings |= {"quantization_config": PACKED | {"modules_to_not_convert": kept}}
    settings |= {} if dtype == "auto" else {"dtype": dtype}
    (target / "config.json").write_text(json.dumps(settings, indent=2) + "\n", "utf-8")
    return str(settings.get("dtype", dtype))


def packed_weight(tensors: SafetensorsFolder, name: str) -> Tensor:
    """A stored weight rounded to -1, 0 and 1, and packed."""
    weight = tensors.load(name)
    return pack((weight.float() * ternary_scale(weight)).round().clamp(-1, 1))


def scale_of(tensors: SafetensorsFolder, name: str) -> Tensor:
    """What transformers divides a packed weight by: (1,) float32."""
    return ternary_scale(tensors.load(name)).view(1)


def cast(tensors: SafetensorsFolder, name: str, dtype: torch.dtype) -> Tensor:
    """A stored tensor in another dtype."""
    return tensors.load(name).to(dtype)
