"""Prompts read block by block; blocks that begin alike are read once, for each version by itself.

    reading = Prompt(prompt_ids, version.digest)
    while not reader.read(reading): ...                # one block at a time, so that answers go on in between
    reading.cache, reading.logits_V, reading.num_cached

A block always has the same shape, whether the ones before it were kept or read again, so that what is kept changes no
bit of an answer. The last token is never taken from what was kept: its logits are needed.
"""

import hashlib
import inspect
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from ftkit.inference.batching.slots import additive

# T tokens of a block, L layers

BLOCK = 64  # tokens
Block = list[tuple[Tensor, Tensor]]  # keys and values of each layer, (1, H, BLOCK, E)


@dataclass
class Prompt:
    """A prompt that is being read. key: what its keys and values depend on beside its tokens: the version's digest.

    cache, num_read: so far. logits_V: after its last token, once all is read. num_cached: tokens not read again.
    """

    ids: Sequence[int]
    key: str
    cache: Any = None  # a DynamicCache, once reading has begun
    num_read: int = 0
    num_cached: int = 0
    logits_V: Any = None
    chain: list[bytes] = field(default_factory=list)  # of its whole blocks, each digest with all before it


class PromptReader:
    """Reads prompts, and keeps the blocks that were read longest ago as long as `max_bytes` allow."""

    def __init__(self, model, max_bytes: float):
        self.model, self.max_bytes = model, max_bytes
        self.kept: OrderedDict[bytes, Block] = OrderedDict()
        self.num_bytes = 0
        keeps_logits = "logits_to_keep" in inspect.signature(model.forward).parameters
        self.last_logits = {"logits_to_keep": 1} if keeps_logits else {}

    def read(self, prompt: Prompt) -> bool:
        """Read the next block; whether the prompt is read now."""
        if prompt.cache is None:
            self.start(prompt)
        block = list(prompt.ids[prompt.num_read : prompt.num_read + BLOCK])
        input_ids = torch.tensor([block], device=self.model.device)
        positions = torch.arange(prompt.num_read, prompt.num_read + len(block), device=self.model.device)
        seen = torch.arange(prompt.num_read + len(block), device=self.model.device)
        output = self.model(
            input_ids=input_ids, position_ids=positions[None], past_key_values=prompt.cache, use_cache=True,
            attention_mask=additive(seen <= positions[:, None], self.model.dtype)[None, None], **self.last_logits,
        )  # fmt: skip
        if len(block) == BLOCK:
            self.keep(prompt)
        prompt.num_read += len(block)
        if prompt.num_read < len(prompt.ids):
            return False
        prompt.logits_V = output.logits[0, -1].float()
        return True

    def start(self, prompt: Prompt) -> None:
        """Begin with the blocks that were kept."""
        prompt.cache = DynamicCache(config=self.model.config.get_text_config())
        digest = prompt.key.encode()
        for start in range(0, len(prompt.ids) - len(prompt.ids) % BLOCK, BLOCK):
            text = ",".join(map(str, prompt.ids[start : start + BLOCK]))
            digest = hashlib.sha256(digest + b"\0" + text.encode()).digest()
            prompt.chain.append(digest)
        found = []
        for digest in prompt.chain[: (len(prompt.ids) - 1) // BLOCK]:
            if digest not in self.kept:
                break
            self.kept.move_to_end(digest)
            found.append(self.kept[digest])
        if found:
            for number, layers in enumerate(zip(*found, strict=True)):
                keys, values = (torch.cat(part, dim=2) for part in zip(*layers, strict=True))
                prompt.cache.update(keys, values, number)
        prompt.num_read = prompt.num_cached = len(found) * BLOCK

    def forget(self) -> None:
        """Keep nothing."""
        self.kept.clear()
        self.num_bytes = 0

    def keep(self, prompt: Prompt) -> None:
        """Keep the block that was read last, and forget those that were not asked for longest."""
        digest = prompt.chain[prompt.num_read // BLOCK]
        if digest in self.kept:
            return
        start, stop = prompt.num_read, prompt.num_read + BLOCK
        block = [
            (layer.keys[:, :, start:stop].clone(), layer.values[:, :, start:stop].clone())
            for layer in prompt.cache.layers
        ]
        size = num_bytes(block)
        if size > self.max_bytes:
            return
        self.kept[digest] = block
        self.num_bytes += size
        while self.num_bytes > self.max_bytes:
            _, oldest = self.kept.popitem(last=False)
            self.num_bytes -= num_bytes(oldest)


def num_bytes(block: Block) -> int:
    """Memory that a block takes."""
    return sum(tensor.numel() * tensor.element_size() for pair in block for tensor in pair)
