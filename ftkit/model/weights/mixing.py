"""Whole models of one architecture mixed into one, tensor by tensor: linear, slerp, ties.

    Mixture({"A": "runs/a", "B": "runs/b"}, "slerp", (0.5, 0.5)).write(staging)

Sources: model soups arXiv:2203.05482 (linear), Shoemake 1985 (slerp), TIES arXiv:2306.01708, by PEFT's own function.
"""

import json
import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import torch
from peft.utils.merge_utils import task_arithmetic, ties
from torch import Tensor

from ftkit.config.errors import UserError
from ftkit.config.json_object import read_object
from ftkit.model.loading import local_model_folder
from ftkit.model.weights.conversion import copy_files
from ftkit.model.weights.shards import OutputTensor, SafetensorsFolder, check_same_tensors, write_shards

SMALLEST_SINE = 1e-6  # of the angle between two tensors; below that slerp is a line
# Of a configuration: what may differ between models of one architecture.
NOT_OF_THE_SHAPE = {"_name_or_path", "transformers_version", "dtype", "torch_dtype", "use_cache", "auto_map"}


class Mixture:
    """What is mixed and how. models: by name; weights: of each. base: what ties takes differences from."""

    def __init__(
        self,
        models: Mapping[str, str],
        method: str,
        weights: tuple[float, ...],
        *,
        base: str | None = None,
        density=0.2,
    ):
        self.folders = {name: local_model_folder(path) for name, path in models.items()}
        self.sources = {name: SafetensorsFolder(folder) for name, folder in self.folders.items()}
        self.method, self.weights, self.density = method, weights, density
        self.base = SafetensorsFolder(local_model_folder(base)) if base else None
        check_configurations(self.folders)
        check_same_tensors(self.sources | ({str(base): self.base} if self.base else {}))

    def value(self, name: str) -> Tensor:
        """A mixed tensor, float32."""
        tensors = [source.load(name).float() for source in self.sources.values()]
        weights = torch.tensor(self.weights)
        if self.method == "slerp":
            return slerp(*tensors, float(weights[1] / weights.sum()))
        if self.method == "ties":
            start = self.base.load(name).float()
            return start + ties([tensor - start for tensor in tensors], weights, self.density)
        return task_arithmetic(tensors, weights)

    def write(self, staging: Path) -> None:
        """Write the mixed model's folder, in the first one's types; one tensor of each model is in memory at a time."""
        folder, first = next((Path(folder), self.sources[name]) for name, folder in self.folders.items())
        planned = {
            name: OutputTensor(spec, partial(self.rounded, name, spec.dtype)) for name, spec in first.specs().items()
        }
        write_shards(planned, staging)
        config = {key: value for key, value in read_object(folder / "config.json").items() if key != "_name_or_path"}
        (staging / "config.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")
        copy_files(folder, staging)
        for path in folder.glob("*.py"):
            shutil.copyfile(path, staging / path.name)

    def rounded(self, name: str, dtype: torch.dtype) -> Tensor:
        """A mixed tensor as it is stored."""
        return self.value(name).to(dtype)


def slerp(a: Tensor, b: Tensor, t: float) -> Tensor:
    """The point at `t` of the arc from a to b, flattened; a line where they are nearly parallel, or one is zero.

    sin((1 - t) w) / sin(w) a + sin(t w) / sin(w) b, with w the angle between them. Source: Shoemake 1985.
    """
    x, y = a.double().flatten(), b.double().flatten()
    cosine = torch.clamp((x @ y) / (x.norm() * y.norm()), -1, 1) if x.any() and y.any() else torch.tensor(1.0)
    angle = torch.arccos(cosine)
    sine = torch.sin(angle)
    if sine < SMALLEST_SINE:
        return torch.lerp(a, b, t)
    mixed = (torch.sin((1 - t) * angle) * x + torch.sin(t * angle) * y) / sine
    return mixed.view(a.shape).float()


def check_configurations(folders: Mapping[str, str]) -> None:
    """Raise UserError unless all models compute the same: their configurations differ in nothing of the shape."""
    configs = {name: read_object(Path(folder) / "config.json") for name, folder in folders.items()}
    (known, first), *others = configs.items()
    for name, config in others:
        for key in sorted((first.keys() | config.keys()) - NOT_OF_THE_SHAPE):
            if first.get(key) != config.get(key):
                raise UserError(
                    f"{known} and {name} are different models: {key} is {first.get(key)} in the one, {config.get(key)} "
                    "in the other; take models of one architecture"
                )
