"""Labelled rows as token ids, and the receipt of a classifier: what is trained on, how long it is, what was cut.

tokenized = tokenize_labelled(rows.train, tokenizer, max_length=256)
print(format_classification_receipt(classification_receipt(tokenized, rows, tokenizer, weights)))
"""

from dataclasses import dataclass, field

import numpy as np
from transformers import PreTrainedTokenizerBase

from ftkit.config.errors import UserError
from ftkit.data.tokens.classification import LabelledRows
from ftkit.data.tokens.receipt_text import NUM_TOKENS_SHOWN, printable
from ftkit.data.tokens.tokenization import NUM_LONGEST_ROWS

NUM_ROWS_SHOWN = 4


@dataclass
class LabelledTokens:
    """rows: {"input_ids", "labels": class number} each, cut to max_length. lengths: tokens of each text before the cut.

    num_copied_texts: texts that came before; num_conflicts: those of them that came with another label.
    """

    rows: list[dict] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    max_length: int | None = None
    num_copied_texts: int = 0
    num_conflicts: int = 0


def tokenize_labelled(rows: list[dict], tokenizer: PreTrainedTokenizerBase, max_length: int | None) -> LabelledTokens:
    """Tokenize texts as the tokenizer does for a pipeline, with its own special tokens; what is too long loses its end.

    Raises UserError for a text of which no token is left.
    """
    texts = [row["text"] for row in rows]
    whole = tokenizer(texts, verbose=False)["input_ids"]
    cut = whole if max_length is None else tokenizer(texts, truncation=True, max_length=max_length)["input_ids"]
    tokens = LabelledTokens(lengths=[len(ids) for ids in whole], max_length=max_length)
    seen = {}
    for row, ids in zip(rows, cut, strict=True):
        if not ids:
            raise UserError(f'{row["source"]}: the tokenizer makes no token of "{row["text"][:20]}"; delete the row')
        if row["text"] in seen:
            tokens.num_copied_texts += 1
            tokens.num_conflicts += seen[row["text"]] != row["label"]
        seen.setdefault(row["text"], row["label"])
        tokens.rows.append({"input_ids": ids, "labels": row["label"]})
    return tokens


def classification_receipt(
    tokens: LabelledTokens, rows: LabelledRows, tokenizer: PreTrainedTokenizerBase, class_weights: list[float] | None
) -> dict:
    """Return a JSON-able account of the training rows: classes, text lengths in tokens, truncation, first rows.

    class_weights: by class number, as they enter the loss; None for none. `first_rows` holds [text, trained] spans.
    """
    lengths, labels = np.array(tokens.lengths), np.array([row["labels"] for row in tokens.rows])
    kept = np.array([len(row["input_ids"]) for row in tokens.rows])
    classes = {
        name: {
            "num_rows": int((labels == number).sum()),
            "share": float((labels == number).mean()),
            "median_tokens": float(np.median(lengths[labels == number])) if (labels == number).any() else None,
            "num_truncated_rows": int((lengths > kept)[labels == number].sum()),
            "weight": class_weights[number] if class_weights else 1.0,
        }
        for number, name in enumerate(rows.labels)
    }
    longest = np.argsort(-lengths, kind="stable")[:NUM_LONGEST_ROWS]
    return {
        "num_rows": len(labels),
        "num_sequences": len(labels),
        "num_tokens": int(kept.sum()),
        "num_truncated_rows": int((lengths > kept).sum()),
        "num_tokens_cut": int((lengths - kept).sum()),
        "max_length": tokens.max_length,
        "num_copied_texts": tokens.num_copied_texts,
        "num_conflicting_texts": tokens.num_conflicts,
        "num_held_out_copies": rows.num_copies,
        "num_validation_rows": len(rows.validation or []),
        "num_test_rows": len(rows.test or []),
        "tokens_a_text": length_statistics(lengths),
        "classes": classes,
        "longest_rows": [{"num_tokens": int(lengths[index]), "row": rows.train[index]["source"]} for index in longest],
        "first_rows": [spans(row, rows.labels, tokenizer) for row in tokens.rows[:NUM_ROWS_SHOWN]],
    }


def length_statistics(lengths: np.ndarray) -> dict[str, float]:
    """Least, most, mean and quantiles, of texts before they are cut."""
    quantiles = {"median": 0.5, "p90": 0.9, "p99": 0.99}
    ends = {"least": float(lengths.min()), "mean": float(lengths.mean()), "most": float(lengths.max())}
    return ends | {name: float(np.quantile(lengths, share)) for name, share in quantiles.items()}


def spans(row: dict, labels: list[str], tokenizer: PreTrainedTokenizerBase) -> list[list]:
    """The text as the model sees it, and the label, which is what is trained."""
    text = tokenizer.decode(row["input_ids"][:NUM_TOKENS_SHOWN], clean_up_tokenization_spaces=False)
    rest = len(row["input_ids"]) - NUM_TOKENS_SHOWN
    return [[text + (f" … {rest} tokens" if rest > 0 else ""), False], [f" → {labels[row['labels']]}", True]]


def format_classification_receipt(receipt: dict, color: bool = False) -> str:
    """Return the receipt as text. The label of a row shown is green where `color` is set, else between ⟦ and ⟧."""
    lengths = receipt["tokens_a_text"]
    num_rows = receipt["num_rows"]
    classes = [
        f"{name} {entry['num_rows']:,} ({entry['share']:.1%}"
        + (f", weight {entry['weight']:.3g})" if entry["weight"] != 1 else ")")
        for name, entry in receipt["classes"].items()
    ]
    medians = [f"{name} {entry['median_tokens']:.0f}" for name, entry in receipt["classes"].items()]
    lines = [
        f"rows            {num_rows:,} to train, {receipt['num_validation_rows']:,} to validate, "
        f"{receipt['num_test_rows']:,} to test",
        f"classes         {', '.join(classes)}",
        f"tokens a text   {lengths['least']:.0f} to {lengths['most']:.0f}, mean {lengths['mean']:.1f}, median "
        f"{lengths['median']:.0f}, 90 % have at most {lengths['p90']:.0f}, 99 % {lengths['p99']:.0f}; medians: "
        f"{', '.join(medians)}",
        f"truncation      {receipt['num_truncated_rows']:,} of {num_rows:,} texts lose their end at "
        f"{receipt['max_length']} tokens, {receipt['num_tokens_cut']:,} tokens in all",
        f"copies          {receipt['num_copied_texts']:,} training texts came before, "
        f"{receipt['num_conflicting_texts']:,} of them with another label; {receipt['num_held_out_copies']:,} held-out "
        "rows are training rows too",
    ]
    opening, closing = ("\x1b[1;32m", "\x1b[0m") if color else ("⟦", "⟧")
    for number, row in enumerate(receipt["first_rows"], start=1):
        (text, _), (label, _) = row
        lines += [f"--- row {number}", f"{printable(text)}{opening}{label}{closing}"]
    return "\n".join(lines)
