"""Whether training has moved what it says it trains, in the precision in which it is stored, and nothing else.

A checksum of each tensor's bits is taken before the first update, after five and at the end: one pass over the weights,
on their own device. What is trained and is still as it was, and what is frozen and is not, is named; bfloat16 weights
swallow updates that are small beside them, and modules that no row reaches get no gradient.
"""

import logging
import re
from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import nn
from transformers import TrainerCallback

from ftkit.model.finite import local_values
from ftkit.training.stopped_batch import some

logger = logging.getLogger(__name__)

EARLY_UPDATES = 5  # the first may have a learning rate of 0, and lora_A stands still in it while lora_B is 0
FROZEN = "frozen"
# Groups by the name of a parameter; the first that fits. What fits none is "layers".
GROUPS = {
    "value head": r"^(module\.)?value\.score\b", "value trunk": r"^(module\.)?value\.",
    "lora_A": r"lora_(embedding_)?A\b", "lora_B": r"lora_(embedding_)?B\b", "magnitude": r"lora_magnitude_vector",
    "prompt": r"prompt_encoder", "embeddings": r"trainable_tokens|embed|\b(wte|wpe)\b",
    "head": r"\b(lm_head|score|classifier|pooler|pre_classifier|classification_head)\b",
}  # fmt: skip
# What has no gradient until something else has moved, and in which update it moves at the earliest: lora_A waits for
# lora_B, a trunk for the value head on it, which starts at 0 (its lora_A for both).
FIRST_UPDATE = {"lora_A": 2, "value trunk": 3}


def checksums(named: Iterable[tuple[str, torch.Tensor]]) -> dict[str, int]:
    """A number for the bits of each tensor, or of the part of it that this process holds."""
    by_device = defaultdict(list)
    for name, tensor in named:
        values = local_values(tensor)
        if not values.is_meta:
            by_device[values.device].append((name, values))
    found = {}
    for tensors in by_device.values():
        sums = torch.stack([sum_of_bits(values) for _, values in tensors]).tolist()
        found |= dict(zip((name for name, _ in tensors), sums, strict=True))
    return found


def checksums_of_all(model: nn.Module, args) -> dict[str, int]:
    """`checksums` of a model's parameters, added up over processes, which may hold a part each. args: a run's."""
    own = checksums(model.named_parameters())
    if args.world_size == 1:
        return own
    sums = torch.tensor(list(own.values()), device=args.device)
    torch.distributed.all_reduce(sums)
    return dict(zip(own, sums.tolist(), strict=True))


def sum_of_bits(values: torch.Tensor) -> torch.Tensor:
    """The bits as integers of 64, added up modulo 2**64: the same in any order."""
    flat = values.contiguous().view(-1).view(torch.uint8)
    if flat.storage_offset() % 8:
        flat = flat.clone()
    whole = len(flat) // 8 * 8
    return flat[:whole].view(torch.int64).sum() + flat[whole:].sum(dtype=torch.int64)


def group_of(name: str) -> str:
    """What part of a model a trained parameter belongs to."""
    return next((group for group, pattern in GROUPS.items() if re.search(pattern, name)), "layers")


class MovedTensors(TrainerCallback):
    """Compares the weights with those at the start of the run, and warns of what should have moved, or should not.

    report: of the last comparison, for receipt.json; None before the first.
    """

    def __init__(self):
        self.report: dict | None = None
        self.warned: set[str] = set()
        self.num_updates = 0

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        """Take the checksums of what is there."""
        self.num_updates = 0  # that could move something
        self.is_trained = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
        self.dtypes = {name: str(one.dtype).removeprefix("torch.") for name, one in model.named_parameters()}
        self.start = checksums_of_all(model, args)

    def on_pre_optimizer_step(self, args, state, control, optimizer=None, **kwargs):
        """Count the updates whose learning rate is not 0."""
        self.num_updates += any(group["lr"] for group in getattr(optimizer, "param_groups", ()))

    def on_step_end(self, args, state, control, model=None, **kwargs):
        """Compare after the first updates."""
        if self.num_updates == EARLY_UPDATES and self.report is None:
            self.compare(model, args, state)

    def on_train_end(self, args, state, control, model=None, **kwargs):
        """Compare at the end."""
        if self.num_updates:
            self.compare(model, args, state)

    def compare(self, model: nn.Module, args, state) -> None:
        """Make `report`, and warn once of each tensor that is not as it should be."""
        now = checksums_of_all(model, args)
        groups, still = defaultdict(lambda: {"tensors": 0, "moved": 0}), []
        for name, checksum in self.start.items():
            moved, is_trained = now[name] != checksum, self.is_trained[name]
            group = group_of(name) if is_trained else FROZEN
            groups[group]["tensors"] += 1
            groups[group]["moved"] += moved
            if moved != is_trained and self.num_updates >= FIRST_UPDATE.get(group, 1):
                still.append(name)
        self.report = {"updates": self.num_updates, "groups": dict(groups)}
        if state.is_world_process_zero:
            self.warn([name for name in still if name not in self.warned])
        self.warned |= set(still)

    def line(self) -> str:
        """The report for a person, when there is one."""
        groups = self.report["groups"].items()
        counts = (f"{group} {count['moved']} of {count['tensors']}" for group, count in groups)
        return f"moved      {', '.join(counts)} tensors, in {self.report['updates']} updates"

    def warn(self, names: list[str]) -> None:
        """Name the tensors that are not as they should be, by group."""
        by_group = defaultdict(list)
        for name in names:
            by_group[group_of(name) if self.is_trained[name] else FROZEN].append(name)
        for group, found in by_group.items():
            counts = self.report["groups"][group]
            if group == FROZEN:
                logger.warning("%d frozen tensors have moved: %s", len(found), some(found))
                continue
            dtypes = ", ".join(sorted({self.dtypes[name] for name in found}))
            logger.warning(
                "%s: %d of %d tensors have not moved in %d updates (%s): %s; they get no gradient, or updates too "
                "small for their precision (--dtype float32, or a higher --learning_rate)",
                group, len(found), counts["tensors"], self.num_updates, dtypes, some(found),
            )  # fmt: skip
