"""The batch receipt: what a run really trains on, counted from the sequences that go into the model.

check_rows(tokenized, info, Allowed())                         # before weights are read
receipt = build_receipt(dataset, tokenizer, info, tokenized, max_length=1024)
print(format_receipt(receipt, color=has_color(sys.stdout)))    # data/tokens/receipt_text.py
"""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from operator import itemgetter
from typing import NamedTuple, Protocol

import numpy as np
from transformers import PreTrainedTokenizerBase

from ftkit.config.errors import UserError
from ftkit.data.rows.allowed import Allowed
from ftkit.data.templates.templates import TemplateInfo, plain_text_info
from ftkit.data.tokens.receipt_text import token_spans
from ftkit.data.tokens.tokenization import IGNORE_INDEX

SEQUENCES_AT_ONCE = 1000
NUM_COPIES_NAMED = 5

Labelled = tuple[list[int], list[int]]  # input_ids and labels of a sequence
Origin = tuple[list[int], str]  # input_ids of a sequence, and where it is from


class Counted(Protocol):
    """Rows that know their counts by name: TokenizedRows, TokenizedPairs.

    longest: (tokens before truncation, source) of the longest rows.
    """

    longest: list[tuple[int, str]]

    def counts(self) -> dict:
        """The counts by name, as TokenizedRows gives them."""


def check_rows(tokenized: Counted, info: TemplateInfo | None, allowed: Allowed) -> None:
    """Raise UserError where training on these rows would teach nothing, never to stop, or cut-off answers."""
    counts = tokenized.counts()
    if counts["num_sequences"] == 0:
        reasons = "; ".join(f"{number} rows: {reason}" for reason, number in counts["dropped"].items())
        raise UserError(f"no row is left to train on ({reasons}); give more rows or a larger --max_length")
    if not counts["num_trained_tokens"] and not allowed.empty_mask:
        raise UserError(
            "no token of any row is trained; choose another --template, check the answers, or pass --allow_empty_mask"
        )
    if counts["num_trained_tokens"] and not counts["num_end_tokens_trained"] and not allowed.untrained_end_of_turn:
        end_of_turn = f'"{info.end_of_turn}" ' if info else ""
        raise UserError(
            f"the end-of-turn token {end_of_turn}is never trained ({counts['num_end_tokens_lost']} answers lost it to "
            "truncation), so the model would not learn to stop; raise --max_length, choose another --template, or pass "
            "--allow_untrained_end_of_turn"
        )
    share = counts["num_truncated_rows"] / counts["num_sequences"]
    if share > allowed.max_truncated_share:
        num_tokens, source = tokenized.longest[0]
        raise UserError(
            f"{source}: --max_length cuts {counts['num_truncated_rows']} of {counts['num_sequences']} sequences "
            f"({share:.1%}), this one of {num_tokens} tokens the most; raise --max_length, shorten the rows, or allow "
            f"it with --max_truncated_share {np.ceil(share * 100) / 100:g}"
        )


def build_receipt(
    dataset: Iterable[dict],
    tokenizer: PreTrainedTokenizerBase,
    info: TemplateInfo | None,
    tokenized: Counted,
    num_rows_shown: int = 3,
    *,
    sequences_per_row: int = 1,
    origins: Iterable[Origin] = (),
    max_length: int | None = None,
    batch_size: int = 1,
    padding_free: bool = False,
    copies: list[tuple[str, str]] | None = None,
) -> dict:
    """Return a JSON-able account of the sequences that are trained on.

    dataset: after truncation and packing; "input_ids" and "labels", and "seq_lengths" (tokens of each row) if packed.
    info: None for plain text. tokenized: the rows before packing, for their counts. max_length: tokens of a full packed
    sequence. batch_size, padding_free: for the padding tokens, counted for batches in the dataset's order. copies: test
    rows that are also training rows, as `copies_of_test_rows` gives them; None where nothing is held out.
    sequences_per_row: two of a pair. origins: (token ids, source) of the rows, to name those that are shown.
    `typical_rows` holds those whose length is nearest to the mean: source, number of tokens, each as [text, trained].
    """
    info = info or plain_text_info(tokenizer)
    known = tokenized.counts()
    mean_length = known["num_tokens"] / max(1, known["num_sequences"])
    totals = count_sequences(dataset, tokenizer, info, Shown(num_rows_shown, mean_length, sequences_per_row))
    counts = totals.counts
    block_size = max_length or max(totals.lengths, default=0)
    return {
        **known,
        **counts,
        "num_context_tokens": counts["num_tokens"] - counts["num_trained_tokens"],
        "num_padding_tokens": 0 if padding_free else padding_tokens(totals.lengths, batch_size),
        "packed": totals.packed,
        "packing_efficiency": counts["num_tokens"] / (counts["num_sequences"] * block_size) if totals.packed else None,
        "unknown_token_rate": counts["num_unknown_tokens"] / max(1, counts["num_tokens"]),
        "max_length": max_length,
        "template": {"name": info.name, "trains_with": info.trains_with, "fingerprint": info.fingerprint},
        "end_of_turn": info.end_of_turn,
        "end_of_turn_id": info.end_of_turn_id,
        "num_test_copies": None if copies is None else len(copies),
        "test_copies": [{"train": train, "test": test} for train, test in (copies or [])[:NUM_COPIES_NAMED]],
        "longest_rows": [{"num_tokens": length, "source": source} for length, source in tokenized.longest],
        "mean_tokens": mean_length,
        "typical_rows": described(totals.shown.rows(), tokenizer, origins),
    }


def described(rows: list[Labelled], tokenizer: PreTrainedTokenizerBase, origins: Iterable[Origin]) -> list[dict]:
    """Rows as the receipt has them: source (None where it is not known), number of tokens, [text, trained] of each."""
    sources = sources_of([ids for ids, _ in rows], origins)
    return [
        {"source": source, "num_tokens": len(ids), "tokens": token_spans(ids, labels, tokenizer)}
        for (ids, labels), source in zip(rows, sources, strict=True)
    ]


def sources_of(rows: list[list[int]], origins: Iterable[Origin]) -> list[str | None]:
    """Where each of some token sequences is from: the first of `origins`, (token ids, source), that is equal."""
    wanted, lengths = {tuple(ids): None for ids in rows}, set(map(len, rows))
    for ids, source in origins:
        if len(ids) in lengths and (key := tuple(ids)) in wanted and wanted[key] is None:
            wanted[key] = source
    return [wanted[tuple(ids)] for ids in rows]


class Shown:
    """The rows nearest to a length, the first of them first, found in one pass. each: sequences that make a row."""

    def __init__(self, num_rows: int, length: float, each: int):
        self.num_rows, self.length, self.each = num_rows, length, each
        self.found: list[tuple[float, list[Labelled]]] = []

    def add(self, batch: "Batch", starts: np.ndarray, row_lengths: np.ndarray) -> None:
        """Look at the rows of a batch."""
        distances = np.abs(row_lengths.reshape(-1, self.each).mean(axis=1) - self.length)
        for row in np.argsort(distances, kind="stable")[: self.num_rows]:
            places = range(row * self.each, (row + 1) * self.each)
            self.found.append((distances[row], [batch.part(starts[at], row_lengths[at]) for at in places]))
        self.found = sorted(self.found, key=itemgetter(0))[: self.num_rows]

    def rows(self) -> list[Labelled]:
        """The sequences of the rows."""
        return [sequence for _, sequences in self.found for sequence in sequences]


@dataclass
class Totals:
    """What is counted of sequences. lengths: tokens of each."""

    shown: Shown
    counts: dict[str, int] = field(default_factory=dict)
    lengths: list[int] = field(default_factory=list)
    packed: bool = False


class Batch(NamedTuple):
    """Sequences one after the other. lengths: tokens of each; row_lengths: of each row in them, None if unpacked."""

    ids: np.ndarray
    labels: np.ndarray
    lengths: np.ndarray
    row_lengths: np.ndarray | None

    def part(self, start: int, length: int) -> Labelled:
        """A row of it."""
        return self.ids[start : start + length].tolist(), self.labels[start : start + length].tolist()


def count_sequences(
    dataset: Iterable[dict], tokenizer: PreTrainedTokenizerBase, info: TemplateInfo, shown: Shown
) -> Totals:
    """Go once over the sequences."""
    totals = Totals(shown)
    found = dict.fromkeys(
        ("num_sequences", "num_tokens", "num_trained_tokens", "num_end_tokens_trained", "num_unknown_tokens",
         "num_double_bos_rows"), 0,
    )  # fmt: skip
    unknown = unknown_id(tokenizer)
    for batch in batches(dataset):
        row_lengths = batch.lengths if batch.row_lengths is None else batch.row_lengths
        starts = np.cumsum(row_lengths) - row_lengths
        is_trained = batch.labels != IGNORE_INDEX
        found["num_sequences"] += len(batch.lengths)
        found["num_tokens"] += len(batch.ids)
        found["num_trained_tokens"] += int(is_trained.sum())
        found["num_end_tokens_trained"] += int((batch.labels == info.end_of_turn_id).sum())
        found["num_unknown_tokens"] += int((batch.ids == unknown).sum()) if unknown is not None else 0
        found["num_double_bos_rows"] += num_double_bos(batch.ids, starts[row_lengths > 1], tokenizer.bos_token_id)
        totals.lengths += batch.lengths.tolist()
        totals.packed |= batch.row_lengths is not None
        shown.add(batch, starts, row_lengths)
    totals.counts = found
    return totals


def unknown_id(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The id of the token that stands for what the vocabulary lacks; None where it has another meaning as well."""
    others = {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id}
    return None if tokenizer.unk_token_id in others else tokenizer.unk_token_id


def num_double_bos(ids: np.ndarray, starts: np.ndarray, bos_id: int | None) -> int:
    """Rows that begin with two beginning-of-sequence tokens: the template's and the tokenizer's."""
    if bos_id is None or not len(starts):
        return 0
    return int(((ids[starts] == bos_id) & (ids[starts + 1] == bos_id)).sum())


def batches(dataset: Iterable[dict]) -> Iterator[Batch]:
    """The sequences of a dataset, many at once; a datasets.Dataset is read in columns."""
    from datasets import Dataset

    if isinstance(dataset, Dataset):
        for table in dataset.with_format("arrow").iter(SEQUENCES_AT_ONCE):
            columns = {name: table.column(name).combine_chunks() for name in table.column_names}
            ids, labels = (columns[name].flatten().to_numpy() for name in ("input_ids", "labels"))
            rows = columns["seq_lengths"].flatten().to_numpy() if "seq_lengths" in columns else None
            yield Batch(ids, labels, columns["input_ids"].value_lengths().to_numpy(), rows)
        return
    sequences = iter(dataset)
    while some := list(itertools.islice(sequences, SEQUENCES_AT_ONCE)):
        ids, labels = (np.concatenate([item[name] for item in some]) for name in ("input_ids", "labels"))
        lengths = np.asarray([len(item["input_ids"]) for item in some])
        is_packed = "seq_lengths" in some[0]
        yield Batch(ids, labels, lengths, np.concatenate([item["seq_lengths"] for item in some]) if is_packed else None)


def documents(sequence: dict) -> Iterator[tuple[list[int], list[int]]]:
    """The rows in a sequence, as (input_ids, labels): one, or several where packed."""
    start = 0
    for length in sequence.get("seq_lengths") or [len(sequence["input_ids"])]:
        yield sequence["input_ids"][start : start + length], sequence["labels"][start : start + length]
        start += length


def padding_tokens(lengths: list[int], batch_size: int) -> int:
    """Tokens added when batches of `batch_size` sequences are padded to their longest."""
    groups = [lengths[start : start + batch_size] for start in range(0, len(lengths), batch_size)]
    return sum(max(group) * len(group) - sum(group) for group in groups)
