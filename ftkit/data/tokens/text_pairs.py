"""Pairs of texts as token ids for an embedding model, and the receipt of what is trained on.

    tokens = tokenize_text_pairs(rows.train, tokenizer, max_length=256, prompts=("query: ", "passage: "))
    receipt = text_pair_receipt(tokens, rows, tokenizer, num_false_negatives=3)

A text that is too long loses its end, as it does where it is embedded; it is counted.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from transformers import PreTrainedTokenizerBase

from ftkit.config.errors import UserError
from ftkit.data.tokens.labelled import length_statistics
from ftkit.data.tokens.receipt_text import NUM_TOKENS_SHOWN
from ftkit.data.tokens.tokenization import NUM_LONGEST_ROWS

ANCHOR, POSITIVE, NEGATIVE = "anchor", "positive", "negative"
NUM_ROWS_SHOWN = 4  # in the receipt
NO_PROMPTS = ("", "")


@dataclass
class TextPairTokens:
    """rows: token ids by column: anchor, positive, negative_1, ..., as many negatives in each. whole: tokens of each
    row's texts before the cut, in the same order. num_unused_negatives: of rows that have more of them than others."""

    rows: list[dict[str, list[int]]] = field(default_factory=list)
    whole: list[list[int]] = field(default_factory=list)
    max_length: int | None = None
    num_unused_negatives: int = 0

    @property
    def lengths(self) -> list[int]:
        """Tokens of the longest text of each row."""
        return [max(map(len, row.values())) for row in self.rows]

    @property
    def num_negatives(self) -> int:
        """Of each row."""
        return len(self.rows[0]) - 2

    @property
    def longest(self) -> list[tuple[int, str]]:
        """(tokens before the cut, "") of the longest text."""
        return [(max(map(max, self.whole)), "")]

    def counts(self) -> dict:
        """Counts by the names that TokenizedRows gives them."""
        kept = [[len(ids) for ids in row.values()] for row in self.rows]
        cut = sum(lengths != rest for lengths, rest in zip(self.whole, kept, strict=True))
        total = sum(map(sum, kept))
        return {"num_sequences": len(kept), "num_tokens": total, "num_truncated_rows": cut, "dropped": {}}

    def sequences(self) -> Iterator[list[int]]:
        """What goes through the model, row by row."""
        for row in self.rows:
            yield from row.values()


def tokenize_text_pairs(
    rows: list[dict], tokenizer: PreTrainedTokenizerBase, max_length: int | None, prompts: tuple[str, str] = NO_PROMPTS,
    most_negatives: int | None = None,
) -> TextPairTokens:  # fmt: skip
    """Tokenize the texts with the tokenizer's own special tokens, behind the prompts of questions and of passages.

    most_negatives: of a row; None for as many as every row has. Raises UserError for a text without a token.
    """
    num_negatives = min(len(row["negatives"]) for row in rows)
    num_negatives = num_negatives if most_negatives is None else min(num_negatives, most_negatives)
    names = [ANCHOR, POSITIVE, *(f"{NEGATIVE}_{number + 1}" for number in range(num_negatives))]
    texts = [prompts[0] + row["anchor"] for row in rows], [prompts[1] + row["positive"] for row in rows]
    columns = [*texts, *([prompts[1] + row["negatives"][number] for row in rows] for number in range(num_negatives))]
    found = TextPairTokens(max_length=max_length, rows=[{} for _ in rows], whole=[[] for _ in rows])
    for name, column in zip(names, columns, strict=True):
        whole = tokenizer(column, verbose=False)["input_ids"]
        cut = whole
        if max_length is not None:
            cut = tokenizer(column, truncation=True, max_length=max_length)["input_ids"]
        for number, ids in enumerate(cut):
            if not ids:
                text = column[number][:20]
                raise UserError(f'{rows[number]["source"]}: the tokenizer makes no token of "{text}"; delete the row')
            found.rows[number][name] = ids
            found.whole[number].append(len(whole[number]))
    found.num_unused_negatives = sum(len(row["negatives"]) - num_negatives for row in rows)
    return found


def text_pair_receipt(
    tokens: TextPairTokens, rows: list[dict], tokenizer: PreTrainedTokenizerBase, *, num_false_negatives: int,
    copies: list[tuple[str, str]], mined: dict | None = None,
) -> dict:  # fmt: skip
    """The account of the training rows for receipt.json: texts, lengths, cuts, repeated texts, typical rows.

    num_false_negatives: rows of the first pass that stand in one batch with a row of the same question or passage,
    which the loss takes for wrong. copies: (training row, test row). mined: what is known of negatives that were mined.
    """
    whole, kept = np.array(tokens.whole), np.array([[len(ids) for ids in row.values()] for row in tokens.rows])
    longest = np.argsort(-whole.max(axis=1), kind="stable")[:NUM_LONGEST_ROWS]
    typical = np.argsort(np.abs(kept.sum(axis=1) - kept.sum(axis=1).mean()), kind="stable")[:NUM_ROWS_SHOWN]
    return {
        "num_rows": len(kept),
        "num_sequences": len(kept),
        "num_tokens": int(kept.sum()),
        "mean_tokens": float(kept.sum(axis=1).mean()),
        "num_negatives": tokens.num_negatives,
        "num_unused_negatives": tokens.num_unused_negatives,
        "mined": mined,
        "max_length": tokens.max_length,
        "num_truncated_rows": int((whole > kept).any(axis=1).sum()),
        "num_tokens_cut": int((whole - kept).sum()),
        "texts": {
            name: {"tokens": length_statistics(column), "num_truncated": int((column > cut).sum())}
            for name, column, cut in text_columns(whole, kept)
        },
        "num_repeated_anchors": repeated(row["anchor"] for row in rows),
        "num_repeated_positives": repeated(row["positive"] for row in rows),
        "num_false_negatives": num_false_negatives,
        "num_test_copies": len(copies),
        "test_copies": [{"train": train, "test": test} for train, test in copies[:NUM_ROWS_SHOWN]],
        "longest_rows": [
            {"num_tokens": int(whole[index].max()), "source": rows[index]["source"]} for index in longest
        ],
        "typical_rows": [
            {
                "source": rows[index]["source"],
                "num_tokens": int(kept[index].sum()),
                "tokens": spans(tokens.rows[index], tokenizer),
            }
            for index in typical
        ],
    }  # fmt: skip


def text_columns(whole: np.ndarray, kept: np.ndarray) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Name and lengths, before and after the cut, of questions, passages and, where there are any, negatives."""
    yield ANCHOR, whole[:, 0], kept[:, 0]
    yield POSITIVE, whole[:, 1], kept[:, 1]
    if whole.shape[1] > 2:
        yield NEGATIVE, whole[:, 2:], kept[:, 2:]


def repeated(texts) -> int:
    """How many of some texts came before."""
    counts = Counter(texts)
    return counts.total() - len(counts)


def spans(row: dict[str, list[int]], tokenizer: PreTrainedTokenizerBase) -> list[list]:
    """The texts of a row as the model sees them; the one that is drawn near the first is what is trained."""
    shown = []
    for name, ids in row.items():
        text = tokenizer.decode(ids[:NUM_TOKENS_SHOWN], clean_up_tokenization_spaces=False)
        rest = len(ids) - NUM_TOKENS_SHOWN
        mark = "" if name == ANCHOR else " → " if name == POSITIVE else " ≠ "
        shown += [[mark, False]] * bool(mark)
        shown.append([text + (f" … {rest} tokens" if rest > 0 else ""), name == POSITIVE])
    return shown
