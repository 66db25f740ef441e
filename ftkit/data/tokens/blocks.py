"""Documents joined into blocks of a fixed length, an end token after each: what pretraining feeds to a model.

blocks = join_blocks(tokenize_documents(texts, tokenizer), block_size=512)
print(format_block(blocks[0], tokenizer, num_tokens=12))      # the input/target pairs of a block
"""

import hashlib
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from datasets import Dataset, IterableDataset
from transformers import PreTrainedTokenizerBase

from ftkit.config.errors import UserError
from ftkit.data.tokens.receipt_text import printable
from ftkit.data.tokens.tokenization import IGNORE_INDEX

TEXTS_AT_ONCE = 256  # handed to the tokenizer together
SHUFFLE_BUFFER = 1000  # blocks of a stream that are mixed

# B batch, T tokens of a block


@dataclass
class TokenizedDocuments:
    """ids: one int32 array per document, its end token included. num_bytes: UTF-8 bytes of all texts."""

    ids: list[np.ndarray]
    num_bytes: int

    @property
    def num_tokens(self) -> int:
        """Tokens of all documents, end tokens included."""
        return sum(map(len, self.ids))

    @property
    def sha256(self) -> str:
        """Of all tokens, in their order, in hexadecimal."""
        digest = hashlib.sha256()
        for ids in self.ids:
            digest.update(ids.tobytes())
        return digest.hexdigest()


def tokenize_documents(texts: Iterable[str], tokenizer: PreTrainedTokenizerBase) -> TokenizedDocuments:
    """Tokenize whole documents. What reads like a control token in a text stays text: only the added end is one."""
    result = TokenizedDocuments([], 0)
    for ids, num_bytes in tokenized(texts, tokenizer):
        result.ids.append(ids)
        result.num_bytes += num_bytes
    return result


def tokenized(texts: Iterable[str], tokenizer: PreTrainedTokenizerBase) -> Iterator[tuple[np.ndarray, int]]:
    """(ids with the end token, bytes) of each text. Raises UserError for a tokenizer without an end token."""
    end = tokenizer.eos_token_id
    if end is None:
        raise UserError(f"{tokenizer.name_or_path}: the tokenizer has no eos token to end a document; set eos_token")
    batch = []
    for text in texts:
        batch.append(text)
        if len(batch) == TEXTS_AT_ONCE:
            yield from encode_batch(batch, tokenizer, end)
            batch = []
    if batch:
        yield from encode_batch(batch, tokenizer, end)


def encode_batch(texts: list[str], tokenizer: PreTrainedTokenizerBase, end: int) -> Iterator[tuple[np.ndarray, int]]:
    """(ids with the end token, bytes) of some texts."""
    encoded = tokenizer(texts, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"]
    for text, ids in zip(texts, encoded, strict=True):
        yield np.array([*ids, end], dtype=np.int32), len(text.encode("utf-8"))


def shuffled(items: list, seed: int) -> list:
    """The items in an order that depends on the seed only."""
    order = list(items)
    random.Random(seed).shuffle(order)
    return order


def join_blocks(documents: Iterable[np.ndarray], block_size: int, *, keep_rest: bool = False) -> Iterator[dict]:
    """Yield {"input_ids": (block_size,) int32, "seq_lengths": tokens of each document's part in it}.

    A document goes on in the next block where it does not fit. The rest that fills no block is left out, or with
    `keep_rest` yielded as a shorter one.
    """
    parts, room = [], block_size
    for document in documents:
        start = 0
        while start < len(document):
            part = document[start : start + room]
            parts.append(part)
            start, room = start + len(part), room - len(part)
            if room == 0:
                yield block_of(parts)
                parts, room = [], block_size
    if parts and keep_rest:
        yield block_of(parts)


def block_of(parts: list[np.ndarray]) -> dict:
    """A block of parts of documents, one after the other."""
    return {"input_ids": np.concatenate(parts), "seq_lengths": [len(part) for part in parts]}


def block_dataset(documents: TokenizedDocuments, block_size: int, seed: int | None) -> Dataset:
    """All blocks of the documents, which are mixed first where a seed is given."""
    ids = documents.ids if seed is None else shuffled(documents.ids, seed)
    blocks = list(join_blocks(ids, block_size))
    if not blocks:
        raise UserError(
            f"{documents.num_tokens} tokens do not fill one block of {block_size}; "
            "give more text or a smaller --block_size"
        )
    columns = {key: [block[key] for block in blocks] for key in ("input_ids", "seq_lengths")}
    return Dataset.from_dict(columns).with_format("numpy")


def block_stream(
    texts: Iterable[str], tokenizer: PreTrainedTokenizerBase, block_size: int, seed: int
) -> IterableDataset:
    """Blocks of texts that are read as they are needed, mixed in a buffer; each pass gives the same blocks."""

    def generate():
        documents = (ids for ids, _ in tokenized(texts, tokenizer))
        for block in join_blocks(documents, block_size):
            yield {key: list(map(int, value)) for key, value in block.items()}

    return IterableDataset.from_generator(generate).shuffle(seed=seed, buffer_size=SHUFFLE_BUFFER)


class BlockCollator:
    """Stacks blocks into {"input_ids", "labels"} (B, T), and with `isolate` "position_ids" that restart by document.

    The first token of a block has no context and is no target; with `isolate` neither is that of a document.
    """

    def __init__(self, isolate: bool):
        self.isolate = isolate

    def __call__(self, blocks: list[dict]) -> dict[str, torch.Tensor]:
        input_ids = torch.from_numpy(np.stack([np.asarray(block["input_ids"]) for block in blocks]).astype(np.int64))
        labels = input_ids.clone()
        labels[:, 0] = IGNORE_INDEX
        if not self.isolate:
            return {"input_ids": input_ids, "labels": labels}
        position_ids = torch.empty_like(input_ids)
        for row, block in enumerate(blocks):
            start = 0
            for length in map(int, block["seq_lengths"]):
                position_ids[row, start : start + length] = torch.arange(length)
                labels[row, start] = IGNORE_INDEX
                start += length
        return {"input_ids": input_ids, "labels": labels, "position_ids": position_ids}


def format_block(
    block: dict, tokenizer: PreTrainedTokenizerBase, *, num_tokens: int = 16, isolate: bool = False
) -> str:
    """A block as the model is taught it: one line per position, what it sees and what it has to say next.

    With `isolate` a document sees nothing of the one before it, and its first token is no target.
    """
    ids = [int(token) for token in block["input_ids"]][: num_tokens + 1]
    starts = set(np.cumsum([0, *block["seq_lengths"]]).tolist())
    lines, first = [f"{'position':>8}  input → target"], 0
    for position in range(len(ids) - 1):
        if isolate and position in starts:
            first = position
        context = tokenizer.decode(ids[first : position + 1], clean_up_tokenization_spaces=False)
        if isolate and position + 1 in starts:
            target = "(not trained: another document begins)"
        else:
            target = repr(tokenizer.decode([ids[position + 1]], clean_up_tokenization_spaces=False))
        lines.append(f"{position:>8}  {printable(repr(context))} → {printable(target)}")
    return "\n".join(lines)
