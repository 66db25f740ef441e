"""Safetensors folders read and written tensor by tensor: a conversion takes a tensor's memory, not a model's."""

import contextlib
import json
import math
import os
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
from safetensors import SafetensorError, safe_open

from ftkit.config.disk import require_room
from ftkit.config.errors import UserError
from ftkit.config.json_object import read_object

MAX_SHARD_BYTES = 5 * 10**9
SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
HEADER_ALIGNMENT = 8  # bytes; the safetensors format pads its JSON header with spaces
TORCH_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
DTYPE_NAMES = {dtype: name for name, dtype in TORCH_DTYPES.items()} | {torch.uint8: "U8"}  # of packed weights


class TensorSource(Protocol):
    """Where tensors come from: names with shape and dtype at no cost, values on demand."""

    def specs(self) -> Mapping[str, torch.Tensor]:
        """Every tensor of the source as an empty one on the device "meta"."""

    def load(self, name: str) -> torch.Tensor:
        """One tensor on the CPU."""


class OutputTensor(NamedTuple):
    """A tensor to write: its shape and dtype (as a meta tensor) and the function that makes its values."""

    spec: torch.Tensor
    make: Callable[[], torch.Tensor]


class SafetensorsFolder:
    """The tensors of a folder that holds model.safetensors, or shards with an index."""

    def __init__(self, folder: str | Path):
        self._files: dict[str, Path] = {}
        self._specs: dict[str, torch.Tensor] = {}
        for path in safetensors_files(folder):
            try:
                self._read_header(path)
            except SafetensorError as error:
                raise UserError(f"{path}: not a readable safetensors file ({error}); download it again") from error

    def _read_header(self, path: Path) -> None:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():
                view = file.get_slice(name)
                if view.get_dtype() not in TORCH_DTYPES:
                    allowed = ", ".join(TORCH_DTYPES)
                    raise UserError(
                        f"{path}: tensor {name} has type {view.get_dtype()}; convertible are {allowed}; "
                        "dequantise the model first"
                    )
                self._files[name] = path
                self._specs[name] = torch.empty(view.get_shape(), dtype=TORCH_DTYPES[view.get_dtype()], device="meta")

    def specs(self) -> Mapping[str, torch.Tensor]:
        """As TensorSource gives them."""
        return self._specs

    def load(self, name: str) -> torch.Tensor:
        """One tensor on the CPU."""
        # Opened again for each tensor: closing the file gives its memory-mapped pages back.
        with safe_open(self._files[name], framework="pt") as file:
            return file.get_tensor(name)


def check_same_tensors(models: Mapping[str, SafetensorsFolder]) -> None:
    """Raise UserError unless all models have tensors of the same names and shapes."""
    (known, first), *others = models.items()
    for name, other in others:
        if odd := sorted(first.specs().keys() ^ other.specs().keys()):
            raise UserError(f"{known} and {name} are different models: {odd[0]} is in one alone ({len(odd)} such)")
        for tensor, spec in first.specs().items():
            shapes = [" x ".join(map(str, each.shape)) for each in (spec, other.specs()[tensor])]
            if shapes[0] != shapes[1]:
                raise UserError(
                    f"{known} and {name} have different shapes: {tensor} is {shapes[0]} in the one, {shapes[1]} in the "
                    "other; take models of one architecture and vocabulary"
                )


def safetensors_files(folder: str | Path) -> list[Path]:
    """The weight files of a model folder, sorted; those of the index when there is one.

    Raises UserError if there are none (only pickles, say) or if one that the index names is missing.
    """
    folder = Path(folder)
    index = folder / INDEX_FILE
    if (folder / SINGLE_FILE).is_file():
        return [folder / SINGLE_FILE]
    if index.is_file():
        files = [folder / name for name in sorted(set(shard_names(index)))]
        missing = [path.name for path in files if not path.is_file()]
        if missing:
            raise UserError(f"{folder}: {len(missing)} shards are missing, such as {missing[0]}; download it again")
        return files
    pickles = sorted(path.name for path in folder.glob("*.bin")) + sorted(path.name for path in folder.glob("*.pt*"))
    if pickles:
        raise UserError(
            f"{folder}: has only pickled weights ({pickles[0]}), which can run code when loaded; "
            "only safetensors are read; save the model again with save_pretrained"
        )
    raise UserError(f"{folder}: has no weights; expected {SINGLE_FILE} or {INDEX_FILE}")


def num_weights(folder: str | Path) -> int:
    """Weights in a model's folder; fewer where several are packed into one, or a file can't be read."""
    count = 0
    for path in safetensors_files(folder):
        with contextlib.suppress(SafetensorError), safe_open(path, framework="pt") as file:
            count += sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())
    return count


def shard_names(index: Path) -> list[str]:
    """The files that an index of weights names. Raises UserError for none, and for files of other folders."""
    fix = "download the model again"
    names = read_object(index, fix).get("weight_map")
    if not isinstance(names, dict) or not all(isinstance(name, str) and "/" not in name for name in names.values()):
        raise UserError(f"{index}: its weight_map does not name files beside it; {fix}")
    return list(names.values())


def write_shards(tensors: Mapping[str, OutputTensor], folder: Path, max_shard_bytes: int = MAX_SHARD_BYTES) -> None:
    """Write tensors as model.safetensors, or as numbered shards with an index when they exceed `max_shard_bytes`.

    One tensor's values exist at a time. Layout: https://huggingface.co/docs/safetensors (8 bytes of header length,
    a JSON header, the values).
    """
    total = sum(tensor.spec.nbytes for tensor in tensors.values())
    require_room(folder.parent, total)
    shards = _plan_shards(tensors, max_shard_bytes)
    names = [SINGLE_FILE]
    if len(shards) > 1:
        names = [f"model-{i:05d}-of-{len(shards):05d}.safetensors" for i in range(1, len(shards) + 1)]
    for file_name, shard in zip(names, shards, strict=True):
        _write_safetensors(shard, folder / file_name)
    if len(shards) > 1:
        weight_map = {name: file for file, shard in zip(names, shards, strict=True) for name in shard}
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        (folder / INDEX_FILE).write_text(json.dumps(index, indent=2, sort_keys=True) + "\n", "utf-8")


def _plan_shards(tensors: Mapping[str, OutputTensor], max_shard_bytes: int) -> list[dict[str, OutputTensor]]:
    shards: list[dict[str, OutputTensor]] = [{}]
    size = 0
    for name, tensor in tensors.items():
        if shards[-1] and size + tensor.spec.nbytes > max_shard_bytes:
            shards.append({})
            size = 0
        shards[-1][name] = tensor
        size += tensor.spec.nbytes
    return shards


def _write_safetensors(tensors: Mapping[str, OutputTensor], path: Path) -> None:
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, tensor in tensors.items():
        start, end = end, end + tensor.spec.nbytes
        dtype = DTYPE_NAMES[tensor.spec.dtype]
        header[name] = {"dtype": dtype, "shape": list(tensor.spec.shape), "data_offsets": [start, end]}
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % HEADER_ALIGNMENT)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(encoded)) + encoded)
        for name, tensor in tensors.items():
            values = tensor.make()
            assert values.shape == tensor.spec.shape and values.dtype == tensor.spec.dtype, name
            file.write(memoryview(values.contiguous().view(-1).view(torch.uint8).numpy()))
        file.flush()
        os.fsync(file.fileno())
