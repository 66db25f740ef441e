"""The batch receipt: what a run really trains on, counted from the sequences that go into the model.

receipt = build_receipt(dataset, tokenizer, info, tokenized, max_length=1024)
print(format_receipt(receipt, color=sys.stdout.isatty()))
"""

import heapq
import re
from collections.abc import Iterable, Iterator
from typing import Protocol

from transformers import PreTrainedTokenizerBase

from ftkit.config.errors import UserError
from ftkit.data.templates import TemplateInfo, plain_text_info
from ftkit.data.tokenization import IGNORE_INDEX

NUM_LONGEST_ROWS = 5
NUM_TOKENS_SHOWN = 300  # of each row shown
TRAINED_MARKS = ("⟦", "⟧")
TRAINED_COLORS = ("\x1b[1;32m", "\x1b[0m")
CONTROL_CHARACTER = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # all but tab and line feed


class Counted(Protocol):
    """Rows that know their counts by name: TokenizedRows, TokenizedPairs."""

    def counts(self) -> dict: ...


def build_receipt(
    dataset: Iterable[dict],
    tokenizer: PreTrainedTokenizerBase,
    info: TemplateInfo | None,
    tokenized: Counted,
    num_rows_shown: int = 3,
    *,
    max_length: int | None = None,
    batch_size: int = 1,
    padding_free: bool = False,
) -> dict:
    """Return a JSON-able account of the sequences that are trained on.

    dataset: after truncation and packing; "input_ids" and "labels", and "seq_lengths" (tokens of each row) if packed.
    info: None for plain text. tokenized: the rows before packing, for their counts. max_length: tokens of a full packed
    sequence. batch_size, padding_free: for the padding tokens, counted for batches in the dataset's order.
    `first_rows` holds for each row shown a list of [text, trained] spans.
    Raises UserError if nothing, or no end-of-turn token, is trained.
    """
    info = info or plain_text_info(tokenizer)
    counts = tokenized.counts()
    totals = {"num_sequences": 0, "num_tokens": 0, "num_trained_tokens": 0, "num_end_tokens_trained": 0}
    end_ids = {info.end_of_turn_id, tokenizer.eos_token_id}
    lengths, longest, shown, packed = [], [], [], False
    for number, sequence in enumerate(dataset):
        ids, labels = sequence["input_ids"], sequence["labels"]
        trained = [label for label in labels if label != IGNORE_INDEX]
        totals["num_sequences"] += 1
        totals["num_tokens"] += len(ids)
        totals["num_trained_tokens"] += len(trained)
        totals["num_end_tokens_trained"] += sum(label in end_ids for label in trained)
        packed = packed or "seq_lengths" in sequence
        lengths.append(len(ids))
        for document, document_labels in documents(sequence):
            longest.append((len(document), number))
            if len(shown) < num_rows_shown:
                shown.append(text_spans(document, document_labels, tokenizer))
        longest = heapq.nlargest(NUM_LONGEST_ROWS, longest)
    check_totals(totals, info, counts)
    block_size = max_length or max(lengths)
    return {
        **counts,
        **totals,
        "num_context_tokens": totals["num_tokens"] - totals["num_trained_tokens"],
        "num_padding_tokens": 0 if padding_free else padding_tokens(lengths, batch_size),
        "packed": packed,
        "packing_efficiency": totals["num_tokens"] / (len(lengths) * block_size) if packed else None,
        "max_length": max_length,
        "template": {"name": info.name, "trains_with": info.trains_with, "fingerprint": info.fingerprint},
        "end_of_turn": info.end_of_turn,
        "end_of_turn_id": info.end_of_turn_id,
        "longest_rows": [{"num_tokens": length, "sequence": number} for length, number in longest],
        "first_rows": shown,
    }


def check_totals(totals: dict[str, int], info: TemplateInfo, counts: dict[str, int]) -> None:
    """Raise UserError where a run would train nothing, or never learn to stop."""
    if not totals["num_sequences"]:
        raise UserError("no row is left to train on; give more rows or a larger --max_length")
    if not totals["num_trained_tokens"]:
        raise UserError(
            f"none of the {totals['num_tokens']} tokens is trained (template {info.name}); "
            "choose another --template or check the answers"
        )
    if not totals["num_end_tokens_trained"]:
        lost = counts.get("num_end_tokens_lost", 0)
        raise UserError(
            f'the end-of-turn token "{info.end_of_turn}" is never trained ({lost} answers lost it to truncation), '
            "so the model would not learn to stop; raise --max_length or choose another --template"
        )


def documents(sequence: dict) -> Iterator[tuple[list[int], list[int]]]:
    """The rows in a sequence, as (input_ids, labels): one, or several where packed."""
    start = 0
    for length in sequence.get("seq_lengths") or [len(sequence["input_ids"])]:
        yield sequence["input_ids"][start : start + length], sequence["labels"][start : start + length]
        start += length


def padding_tokens(lengths: list[int], batch_size: int) -> int:
    """Tokens added when batches of `batch_size` sequences are padded to their longest."""
    batches = [lengths[start : start + batch_size] for start in range(0, len(lengths), batch_size)]
    return sum(max(batch) * len(batch) - sum(batch) for batch in batches)


def text_spans(ids: list[int], labels: list[int], tokenizer: PreTrainedTokenizerBase) -> list[list]:
    """Return [text, trained] for each run of tokens that are all trained or all context.

    A row longer than NUM_TOKENS_SHOWN loses its middle: its end, where the answer is, stays.
    """
    trained = [label != IGNORE_INDEX for label in labels]
    half = NUM_TOKENS_SHOWN // 2
    if len(ids) > NUM_TOKENS_SHOWN:
        middle = [f" … {len(ids) - 2 * half} tokens … ", False]
        parts = (ids[:half], trained[:half]), (ids[-half:], trained[-half:])
        first, last = (runs(*part, tokenizer) for part in parts)
        return [*first, middle, *last]
    return runs(ids, trained, tokenizer)


def runs(ids: list[int], trained: list[bool], tokenizer: PreTrainedTokenizerBase) -> list[list]:
    """Decode each run of equal flags. Decoding from the row's start keeps the spaces some tokenizers drop in front."""
    borders = [index for index in range(1, len(ids)) if trained[index] != trained[index - 1]] + [len(ids)]
    spans, before, start = [], "", 0
    for end in borders:
        text = tokenizer.decode(ids[:end], skip_special_tokens=False, clean_up_tokenization_spaces=False)
        piece = text[len(before) :] if text.startswith(before) else tokenizer.decode(ids[start:end])
        spans.append([piece, trained[start]])
        before, start = text, end
    return spans


def format_receipt(receipt: dict, color: bool = False) -> str:
    """Return the receipt as text. Trained tokens are green where `color` is set, else between ⟦ and ⟧."""
    tokens = receipt["num_tokens"]
    share = receipt["num_trained_tokens"] / tokens
    opening, closing = TRAINED_COLORS if color else TRAINED_MARKS
    lines = [
        f"rows            {receipt['num_rows']:,} read, {receipt['num_sequences']:,} sequences",
        f"tokens          {receipt['num_trained_tokens']:,} trained ({share:.1%}), "
        f"{receipt['num_context_tokens']:,} context, {receipt['num_padding_tokens']:,} padding",
        f"truncation      {receipt['num_truncated_rows']:,} rows cut, {receipt['num_answers_cut']:,} answers cut, "
        f"{receipt['num_end_tokens_lost']:,} end tokens lost",
        f"end of turn     {printable(receipt['end_of_turn'])} (id {receipt['end_of_turn_id']}), "
        f"trained {receipt['num_end_tokens_trained']:,} times",
        f"template        {receipt['template']['name']}, answers found by {receipt['template']['trains_with']}",
        f"longest rows    {', '.join(str(row['num_tokens']) for row in receipt['longest_rows'])} tokens",
    ]
    if "num_chosen_longer" in receipt:
        lines.append(
            f"pairs           chosen {receipt['mean_chosen_tokens']:.1f} tokens on average, rejected "
            f"{receipt['mean_rejected_tokens']:.1f}; chosen is longer in {receipt['num_chosen_longer']:,}, shorter in "
            f"{receipt['num_chosen_shorter']:,}; {receipt['num_equal_pairs']:,} equal pairs left out"
        )
    if receipt["packed"]:
        lines.append(f"packing         {receipt['packing_efficiency']:.1%} of the sequences is filled")
    if receipt["num_neutralised_rows"]:
        lines.append(f"neutralised     {receipt['num_neutralised_rows']:,} rows held control tokens or headings")
    if receipt["num_control_text_rows"]:
        lines.append(f"control tokens  {receipt['num_control_text_rows']:,} plain-text rows hold and train some")
    for number, spans in enumerate(receipt["first_rows"], start=1):
        lines.append(f"--- row {number}, trained tokens {'in green' if color else 'in ⟦ ⟧'}")
        shown = [(printable(text), trained) for text, trained in spans]
        lines.append("".join(f"{opening}{text}{closing}" if trained else text for text, trained in shown))
    return "\n".join(lines)


def printable(text: str) -> str:
    """Text in which control characters, which a terminal would obey, are shown as escapes."""
    return CONTROL_CHARACTER.sub(lambda match: repr(match.group())[1:-1], text)
