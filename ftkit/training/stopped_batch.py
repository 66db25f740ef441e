"""The rows of a batch by name, for a run that stops: found only then, by their tokens.

batch_rows(batches, losses, run.data, tokenizer)    # [{"source": "train.jsonl:12", "text": "..."}, ...]
"""

import math
from collections.abc import Iterable, Iterator

import torch

from ftkit.data.tokens.receipt import sources_of

LONGEST_TEXT = 2000  # characters of a row that are kept
ROWS_NAMED = 3  # in a message; the file has all


def batch_rows(batches: list[dict], losses: list[torch.Tensor], data, tokenizer) -> list[dict]:
    """What is known of the rows in `batches`: source (`file:line`, None where it is not known), tokens, text, loss.

    losses: of the batches, written as text: what is not finite is no JSON. data: of the run, whose `origins` yields
    (token ids, source) of its rows; None for none.
    """
    values = [str(loss.item()) for loss in losses]
    found = [(ids, loss) for batch, loss in zip(batches, values, strict=True) for ids in sequences(batch)]
    sources = sources_of([ids for ids, _ in found], data.origins() if hasattr(data, "origins") else ())
    texts = [tokenizer.decode(ids)[:LONGEST_TEXT] for ids, _ in found]
    return [
        {"source": source, "num_tokens": len(ids), "loss": loss, "text": text}
        for (ids, loss), source, text in zip(found, sources, texts, strict=True)
    ]


def those_at_fault(rows: list[dict]) -> list[dict]:
    """The rows of batches whose loss is not finite; all of them where no loss says which."""
    return [row for row in rows if not math.isfinite(float(row["loss"]))] or rows


def sequences(batch: dict | list[dict]) -> Iterator[list[int]]:
    """Token ids of each row in a batch: without padding, and packed rows apart from each other.

    A list is of prompts, as `ftkit grpo` and on-policy distillation take them; each is named once.
    """
    if isinstance(batch, list):
        yield from map(list, dict.fromkeys(tuple(row.get("prompt_ids") or row["prompt"]) for row in batch))
        return
    columns = ["input_ids"] if "input_ids" in batch else [name for name in batch if name.endswith("_input_ids")]
    for column in columns:  # of pairs of texts, one each
        yield from column_sequences(batch, column.removesuffix("input_ids"))


def column_sequences(batch: dict, prefix: str) -> Iterator[list[int]]:
    """The same of one column of token ids, by what its name begins with."""
    mask, positions = (batch.get(f"{prefix}{name}") for name in ("attention_mask", "position_ids"))
    for number, row in enumerate(batch[f"{prefix}input_ids"]):
        if mask is not None:
            yield row[mask[number].bool()].tolist()
        elif positions is not None:
            starts = (positions[number] == 0).nonzero().flatten().tolist()
            for start, end in zip(starts, [*starts[1:], len(row)], strict=True):
                yield row[start:end].tolist()
        else:
            yield row.tolist()


def some(names: Iterable[str]) -> str:
    """The first names, for a message."""
    names = list(names)
    return ", ".join(names[:ROWS_NAMED]) + (", ..." if len(names) > ROWS_NAMED else "")
