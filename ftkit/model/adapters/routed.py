"""Adapters that share a base in memory: each row of a batch gets the update of its own adapter, or none.

    router, parts = Router(model), read_parts("runs/a", model)
    with router.routes([(parts, slice(0, 2)), (other, slice(3, 4))]):
        model(input_ids=ids_BT)                        # rows 0 and 1 with the one, row 3 with the other, 2 as the base

Nothing in the model changes when an adapter comes or goes: its tensors stand apart, and hooks on the modules that it
names add what it adds to its rows.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ftkit.model.adapters.parts import LoraPart, Parts

# B rows of the batch, I inputs, O outputs, R rank


class RowStack:
    """The plain LoRA parts of a module's rows side by side, so that a step of all of them is two products, and not two
    for each adapter. A row is copied when another part takes it."""

    def __init__(self, part: LoraPart):
        self.rank = 0
        self.tokens: list[object] = []
        self.a_BIR, self.b_BRO = (
            part.a_RI.new_zeros(0, part.a_RI.shape[1], 0),
            part.b_OR.new_zeros(0, 0, len(part.b_OR)),
        )

    def hold(self, parts: Sequence[LoraPart | None]) -> None:
        """Have these parts, one a row; None is zero."""
        tokens = [part and part.token for part in parts]
        if self.tokens[: len(tokens)] == tokens:
            return
        rank = max([self.rank, *(len(part.a_RI) for part in parts if part)])
        if rank > self.rank or len(parts) > len(self.tokens):
            num = max(len(parts), len(self.tokens))
            self.a_BIR = self.a_BIR.new_zeros(num, self.a_BIR.shape[1], rank)
            self.b_BRO = self.b_BRO.new_zeros(num, rank, self.b_BRO.shape[2])
            self.rank, self.tokens = rank, [None] * num
        for row, (part, token) in enumerate(zip(parts, tokens, strict=True)):
            if self.tokens[row] is not token:
                self.tokens[row] = token
                self.a_BIR[row].zero_(), self.b_BRO[row].zero_()
                if part is not None:
                    self.a_BIR[row, :, : len(part.a_RI)] = part.a_RI.t()
                    self.b_BRO[row, : len(part.a_RI)] = part.scaling * part.b_OR.t()

    def apply(self, given: Tensor, output: Tensor) -> None:
        """Change the output, (B, 1, O), of what the module made of the input, (B, 1, I)."""
        num = len(output)
        h_B1R = torch.bmm(given.to(self.a_BIR.dtype), self.a_BIR[:num])
        if output.dtype == h_B1R.dtype:
            output.baddbmm_(h_B1R, self.b_BRO[:num])
        else:
            output += torch.bmm(h_B1R, self.b_BRO[:num]).to(output.dtype)


class Router:
    """Hooks on a model's modules that give each row of a batch to its adapter.

    Each thread has a routing of its own. Modules are hooked when the first adapter names them.
    """

    def __init__(self, model: nn.Module):
        self.modules = dict(model.named_modules(remove_duplicate=False))
        self.hooked: set[str] = set()
        self.local = threading.local()
        self.lock = threading.Lock()

    @contextmanager
    def routes(self, routing: Sequence[tuple[Parts, slice]]) -> Iterator[None]:
        """Inside, rows of the batch are answered by these adapters; rows that none has are the base's."""
        for name in {name for parts, _ in routing for name in parts} - self.hooked:
            with self.lock:
                self.hook(name)
        before = getattr(self.local, "routing", ())
        self.local.routing = routing
        try:
            yield
        finally:
            self.local.routing = before

    def hook(self, name: str) -> None:
        """Let a module ask for the updates of its rows."""
        if name in self.hooked:
            return

        def add_updates(module: nn.Module, given: tuple, output: Tensor) -> None:
            routing = getattr(self.local, "routing", ())
            if not routing:
                return
            stacked: list[LoraPart | None] = [None] * len(output)
            is_step = output.ndim == 3 and output.shape[1] == 1
            for parts, rows in routing:
                for part in parts.get(name, ()):
                    if is_step and isinstance(part, LoraPart) and part.is_plain:
                        stacked[rows] = [part] * (rows.stop - rows.start)
                    else:
                        part.apply(module, given[0], output, rows)
            if any(stacked):
                self.stack(name, stacked).apply(given[0], output)

        self.modules[name].register_forward_hook(add_updates)
        self.hooked.add(name)  # last: another thread may rely on it at once

    def stack(self, name: str, parts: Sequence[LoraPart | None]) -> RowStack:
        """The stack of a module, with these parts in its rows."""
        stacks = vars(self.local).setdefault("stacks", {})
        if name not in stacks:
            stacks[name] = RowStack(next(part for part in parts if part))
        stacks[name].hold(parts)
        return stacks[name]
