"""Weights that hold NaN or infinity, found by name: in a model, and in the files of a folder.

    check_loaded(model, safetensors_files(folder))

One look at every value, without a copy of any tensor, and one answer per device: little beside reading the weights.
"""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors import safe_open
from torch import nn

from ftkit.config.errors import UserError
from ftkit.config.launch import local_rank, sharding

WENT_WRONG = "the run that made it went wrong: take an earlier checkpoint, or train again with a lower --learning_rate"
FLOAT16_FIX = "float16 holds nothing above 65,504: take float32 or bfloat16"


def is_finite(tensor: torch.Tensor) -> bool:
    """Whether every value of a floating-point tensor is finite, without a copy of it."""
    return not tensor.numel() or bool(extremes(tensor).isfinite().all())


def extremes(tensor: torch.Tensor) -> torch.Tensor:
    """(lowest, highest) value in float32, both NaN if any value is."""
    values = tensor if tensor.element_size() > 1 else tensor.float()  # float8 knows no order
    return torch.stack(values.aminmax()).float()


def not_finite(tensors: Iterable[tuple[str, torch.Tensor]]) -> list[str]:
    """Names of the tensors that hold NaN or infinity, in order. Integers, and what has no values here, are passed over.

    Of a tensor that is shared by processes the part of this one is looked at.
    """
    by_device = defaultdict(list)
    for name, tensor in tensors:
        values = local_values(tensor)
        if values.is_floating_point() and not values.is_meta and values.numel():
            by_device[values.device].append((name, values))
    found = []
    for named in by_device.values():
        finite = torch.stack([extremes(values) for _, values in named]).isfinite().all(dim=1).tolist()
        found += [name for (name, _), is_good in zip(named, finite, strict=True) if not is_good]
    return found


def local_values(tensor: torch.Tensor) -> torch.Tensor:
    """What this process holds of a tensor: of FSDP's, a part."""
    tensor = tensor.detach()
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def check_loaded(model: nn.Module, files: Iterable[Path]) -> None:
    """Raise UserError, with the tensor's name, if a weight that was read holds NaN or infinity.

    files: from which. Of a quantised model they are looked at too: rounding to 4 or 8 bits hides what was not finite.
    """
    files = list(files)
    if sharding() and local_rank():
        return  # whose weights have no values yet: they come from the first process of this machine
    check_finite(model, files[0].parent)
    if getattr(model, "hf_quantizer", None) is not None:
        check_finite_files(files)


def check_finite(model: nn.Module, source: str | Path) -> None:
    """Raise UserError, with the tensor's name, if a weight holds NaN or infinity. source: what it is made of."""
    if names := not_finite(model.named_parameters()):
        dtype = str(model.get_parameter(names[0]).dtype).removeprefix("torch.")
        fix = FLOAT16_FIX if dtype == "float16" else WENT_WRONG
        raise UserError(f"{source}: {some_of(names)} NaN or infinity as {dtype}; {fix}")


def check_finite_files(paths: Iterable[Path]) -> None:
    """Raise UserError, with file and tensor, for NaN or infinity in safetensors files."""
    for path in paths:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():
                tensor = file.get_tensor(name)
                if tensor.is_floating_point() and not is_finite(tensor):
                    raise UserError(f"{path}: {some_of([name])} NaN or infinity; {WENT_WRONG}")


def some_of(names: list[str]) -> str:
    """`tensor NAME holds`, with how many more do."""
    more = len(names) - 1
    return f"tensor {names[0]} " + (f"and {more} more hold" if more else "holds")
