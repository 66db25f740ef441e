"""The plan of a run, made and printed before the first step: what is trained on, in how many updates of how many tokens."""

import math
from dataclasses import dataclass

import torch

BLOCK_MULTIPLE = 64  # packed block lengths are rounded up to it
FEW_UPDATES = 50  # with fewer, most of a run is warm-up and the loss has hardly moved
ISOLATION_TOLERANCE = 0.02  # relative; a leak moves hidden states by far more, bf16 rounding by less


@dataclass
class PackingPlan:
    """packed block length in tokens, and the batch that keeps tokens per update near those of the unpacked run."""

    block_length: int
    per_device_train_batch_size: int
    gradient_accumulation_steps: int

    @property
    def tokens_per_update(self) -> int:
        return self.block_length * self.per_device_train_batch_size * self.gradient_accumulation_steps


def plan_packing(lengths: list[int], batch_size: int, accumulation: int, max_length: int) -> PackingPlan:
    """Choose the packed block so that an update sees about as many tokens as without packing.

    lengths: tokens of each row. Packing rows into blocks of max_length would turn 935 short rows into ten updates; the block is
    therefore as long as a batch of average rows, at least as long as the longest row, at most max_length.
    """
    target = batch_size * accumulation * sum(lengths) / len(lengths)
    wanted = max(max(lengths), target / accumulation)
    block = min(max_length, math.ceil(wanted / BLOCK_MULTIPLE) * BLOCK_MULTIPLE)
    return PackingPlan(block, 1, max(1, round(target / block)))


@torch.no_grad()
def packing_leak(model) -> float:
    """Largest relative change of a document's hidden states when another document is packed in front of it.

    About 0 where attention isolates packed documents (they are told apart by position_ids that restart at 0).
    """
    embeddings = model.get_input_embeddings()
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(embeddings.num_embeddings, (1, 12), generator=generator).to(embeddings.weight.device)
    positions = torch.arange(6, device=ids.device).repeat(2)[None]
    was_training = model.training
    model.eval()
    decoder = model.get_decoder()
    packed = decoder(input_ids=ids, position_ids=positions, use_cache=False).last_hidden_state[:, 6:]
    alone = decoder(input_ids=ids[:, 6:], position_ids=positions[:, 6:], use_cache=False).last_hidden_state
    model.train(was_training)
    return ((packed - alone).abs().max() / alone.abs().max()).item()


def num_updates(num_rows: int, batch_size: int, accumulation: int, num_processes: int, epochs: float, max_steps: int) -> int:
    """Optimizer steps of a run, counted as transformers' Trainer does."""
    if max_steps > 0:
        return max_steps
    batches = math.ceil(num_rows / (batch_size * num_processes))
    return math.ceil(epochs * max(1, math.ceil(batches / accumulation)))
