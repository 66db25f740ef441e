"""How two adapters, or two models, differ in their weights: norms and cosine by kind of module.

header, *rows = adapter_table("runs/a", "runs/b")
"""

from collections import defaultdict

import torch

from ftkit.config.errors import UserError
from ftkit.model.adapters.updates import read_updates
from ftkit.model.loading import local_model_folder
from ftkit.model.weights.shards import SafetensorsFolder, check_same_tensors

Row = tuple[str, ...]


def adapter_table(first: str, second: str) -> list[Row]:
    """Norms of both updates and the cosine of the angle between them, by kind of module, under a header.

    Raises UserError where a module's updates have different shapes, and for adapters without LoRA factors.
    """
    ups = [read_updates(adapter) for adapter in (first, second)]
    for adapter, up in zip((first, second), ups, strict=True):
        if not up:
            raise UserError(f"{adapter}: has no LoRA factors to compare; give LoRA adapters")
    sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0, 0.0])
    for module in dict.fromkeys([*ups[0], *ups[1]]):
        pair = [up.get(module) for up in ups]
        of_kind = sums[module.rsplit(".", 1)[-1]]
        of_kind[3] += 1
        for place, update in enumerate(pair):
            of_kind[place] += update.norm() ** 2 if update else 0.0
        if pair[0] and pair[1]:
            shapes = [(len(update.b_OR), update.a_RI.shape[1]) for update in pair]
            if shapes[0] != shapes[1]:
                raise UserError(f"{first} and {second} are of different bases: {module} is {shapes[0]} and {shapes[1]}")
            of_kind[2] += pair[0].dot(pair[1])
    return [
        ("kind", "modules", "norm A", "norm B", "cosine"),
        *(adapter_row(kind, *found) for kind, found in sums.items()),
    ]


def adapter_row(kind: str, first: float, second: float, dot: float, count: float) -> Row:
    """A row of figures from sums over the modules of a kind."""
    cosine = f"{dot / (first * second) ** 0.5:.4f}" if first and second else "-"
    return kind, f"{count:.0f}", f"{first**0.5:.4g}", f"{second**0.5:.4g}", cosine


def model_table(first: str, second: str) -> list[Row]:
    """Norms of A, of B - A and the cosine of the angle between A and B, by kind of tensor, under a header.

    Tensors pass one at a time. Raises UserError for models of different tensors.
    """
    sources = {name: SafetensorsFolder(local_model_folder(name)) for name in (first, second)}
    if len(sources) == 1:
        sources = {first: sources[first], f"{first} ": sources[first]}
    check_same_tensors(sources)
    one, two = sources.values()
    sums: dict[str, torch.Tensor] = defaultdict(lambda: torch.zeros(5, dtype=torch.float64))
    for name in one.specs():
        a, b = one.load(name).double().flatten(), two.load(name).double().flatten()
        module = name.removesuffix(".weight")
        sums[module.rsplit(".", 1)[-1]] += torch.stack([a @ a, b @ b, a @ b, (b - a) @ (b - a), torch.ones_like(a[0])])
    rows = []
    for kind, found in sums.items():
        aa, bb, ab, dd, count = found.tolist()
        relative = f"{100 * (dd / aa) ** 0.5:.2f} %" if aa else "-"
        cosine = f"{ab / (aa * bb) ** 0.5:.6f}" if aa and bb else "-"
        rows.append((kind, f"{count:.0f}", f"{aa**0.5:.4g}", f"{dd**0.5:.4g}", relative, cosine))
    return [("kind", "tensors", "norm A", "norm B - A", "relative", "cosine"), *rows]
