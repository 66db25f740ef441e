"""Weights as a training script saved them: a .pth or .pt file of torch.save, or .safetensors.

    found = read_checkpoint("model.pth")      # found.tensors, found.settings

A file of torch.save is a pickle, which can run code when it is loaded; here only tensors and plain values are read.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from ftkit.config.errors import UserError
from ftkit.config.foreign import foreign
from ftkit.model.weights.shards import DTYPE_NAMES

WRAPPERS = ("model_state_dict", "state_dict", "model")  # keys under which scripts save the weights beside other things
PREFIXES = ("module.", "_orig_mod.", "model.")  # of DataParallel, torch.compile and Lightning
FIX = "save the weights alone: torch.save(model.state_dict(), FILE)"


@dataclass
class Checkpoint:
    """Tensors by name, without what wrappers put before the names; settings: the model_args saved beside them."""

    path: Path
    tensors: dict[str, torch.Tensor]
    settings: dict[str, Any] = field(default_factory=dict)

    def specs(self) -> Mapping[str, torch.Tensor]:
        """As TensorSource gives them."""
        return {name: torch.empty_like(tensor, device="meta") for name, tensor in self.tensors.items()}

    def load(self, name: str) -> torch.Tensor:
        """One tensor on the CPU."""
        return self.tensors[name]


def read_checkpoint(path: str | Path) -> Checkpoint:
    """The tensors and settings of a file. Raises UserError for one that holds anything but plain tensors and values."""
    path = Path(path).expanduser()
    if not path.is_file():
        raise UserError(f"{path}: no such file; name the .pth, .pt or .safetensors file of your model")
    if path.suffix == ".safetensors":
        with foreign(path, "not a readable safetensors file", "save it again"):
            content: Any = load_file(path)
    else:
        reason = "holds more than tensors and plain values, or is damaged, so it is not loaded"
        with foreign(path, reason, FIX), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of how the pickle was written
            content = torch.load(path, map_location="cpu", weights_only=True)
    settings = {}
    while isinstance(content, dict) and (key := next((key for key in WRAPPERS if _is_mapping(content, key)), None)):
        settings = content["model_args"] if _is_mapping(content, "model_args") else settings
        content = content[key]
    if not isinstance(content, dict) or not content:
        raise UserError(f"{path}: holds no weights by name; {FIX}")
    for name, tensor in content.items():
        _check_tensor(path, name, tensor)
    return Checkpoint(path, without_prefixes(content), settings)


def _is_mapping(content: dict, key: str) -> bool:
    return isinstance(content.get(key), dict)


def _check_tensor(path: Path, name: Any, tensor: Any) -> None:
    """Raise UserError for what is no tensor of numbers, or one that is larger than the file it came from."""
    if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
        raise UserError(f"{path}: {name!s:.60} is not a tensor; {FIX}")
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta or tensor.is_complex():
        raise UserError(f"{path}: tensor {name} is not plain numbers (sparse or quantised); save it unquantised")
    if tensor.nbytes > path.stat().st_size:
        raise UserError(f"{path}: tensor {name} is larger than the file, so the file is damaged or made up; {FIX}")


def without_prefixes(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors without the prefixes that all names share."""
    while prefix := next((prefix for prefix in PREFIXES if all(name.startswith(prefix) for name in tensors)), None):
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors


def check_types(checkpoint: Checkpoint, names: list[str]) -> None:
    """Raise UserError unless these tensors are of one floating-point type that safetensors folders hold here."""
    types = {checkpoint.tensors[name].dtype: name for name in names}
    for dtype, name in types.items():
        if dtype not in DTYPE_NAMES:
            found = str(dtype).removeprefix("torch.")
            raise UserError(f"{checkpoint.path}: tensor {name} has type {found}; convert the model to float32 first")
    if len(types) > 1:
        found = " and ".join(sorted(str(dtype).removeprefix("torch.") for dtype in types))
        raise UserError(f"{checkpoint.path}: holds {found}; convert the model to one type first, such as float32")
