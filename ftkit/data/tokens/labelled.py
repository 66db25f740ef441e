"""Rows with one label each, for classifiers: {"text", "label"}, as token ids, and the receipt of what is trained on.

    rows = load_labelled_rows("rows.csv", test_size=0.1)
    tokens = tokenize_labelled(rows.train, tokenizer, max_length=256)
    receipt = classification_receipt(tokens, rows, tokenizer, class_weights=None)

Labels are names or class numbers; whole numbers, also where a file writes them as text, are class numbers from 0.
Every mistake is a UserError `file:line: reason; fix`.
"""

import logging
import random
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from transformers import PreTrainedTokenizerBase

from ftkit.config.errors import UserError, did_you_mean
from ftkit.data.cleaning.overlap import copies_of_test_rows
from ftkit.data.reading.loading import DEFAULT_TEST_SPLIT, find_splits, load_rows, read_split
from ftkit.data.reading.problems import Problems
from ftkit.data.reading.read_as import AS_WRITTEN, ReadAs
from ftkit.data.rows.kinds import LABELLED
from ftkit.data.tokens.receipt_text import NUM_TOKENS_SHOWN
from ftkit.data.tokens.tokenization import NUM_LONGEST_ROWS

logger = logging.getLogger(__name__)

NUM_LABELS_NAMED = 8  # in a message
NUM_ROWS_SHOWN = 4  # in the receipt
VALIDATION_SPLIT = "validation"


@dataclass
class LabelledRows:
    """Rows as {"text", "label": class number, "source": "file:line"}, and the classes' names by number.

    validation: what training looks at, to choose the best weights; test: what is measured at the end. Either is None
    where there is none. num_copies: test or validation rows that are also training rows.
    """

    train: list[dict]
    validation: list[dict] | None
    test: list[dict] | None
    labels: list[str]
    source: str
    format: str = "classification"
    ignored_columns: list[str] = field(default_factory=list)
    num_copies: int = 0

    @property
    def observed(self) -> list[dict] | None:
        """The held-out rows that training may look at: validation rows, else test rows."""
        return self.validation or self.test


def load_labelled_rows(
    name: str,
    *,
    class_names: list[str] | None = None,
    test_size: float | None = None,
    validation_size: float | None = None,
    train_split: str = "train",
    test_split: str = DEFAULT_TEST_SPLIT,
    config: str | None = None,
    seed: int = 0,
    read_as: ReadAs = AS_WRITTEN,
) -> LabelledRows:
    """Read and check the rows that `name` stands for, as `load_rows` does, and number their classes.

    class_names: the classes in order; None sorts the names found. A split called validation is read where there is
    one; else `validation_size` training rows (a share below 1, or a count) are held out, the same share of each class.
    Raises UserError for mistakes in rows, labels that are out of range, mixed or of a single class, and for test
    labels that the training rows lack.
    """
    splits = {"train_split": train_split, "test_split": test_split}
    rows = load_rows(name, kind=LABELLED, test_size=test_size, config=config, seed=seed, read_as=read_as, **splits)
    validation = read_validation(name, config, read_as) if test_split != VALIDATION_SPLIT else None
    if validation and validation_size is not None:
        logger.warning("validation_size=%s has no effect: %s has a validation split", validation_size, rows.source)
    labels = settle_labels(LabelTally.of(rows.train), class_names)
    train = number_classes(rows.train, labels)
    test, validation = (number_classes(part, labels) if part else None for part in (rows.test, validation))
    if validation is None and validation_size is not None:
        train, validation = hold_out_by_class(train, validation_size, seed)
    for split, part in (("test", test), (VALIDATION_SPLIT, validation)):
        if part:
            check_classes(LabelTally.of(part), labels, split)
    held_out = (validation or []) + (test or [])
    copies = copies_of_test_rows(train, held_out)
    if copies:
        logger.warning("%d of %d held-out rows are training rows too, first: %s", len(copies), len(held_out), copies[0])
    return LabelledRows(
        train, validation, test, labels, rows.source, ignored_columns=rows.ignored_columns, num_copies=len(copies)
    )


def read_validation(name: str, config: str | None, read_as: ReadAs) -> list[dict] | None:
    """The rows of the split called validation; None where there is none."""
    source, splits = find_splits(name, config, read_as=read_as)
    if VALIDATION_SPLIT not in splits:
        return None
    problems = Problems()
    rows, _ = read_split(splits, VALIDATION_SPLIT, source, LABELLED, "auto", problems)
    problems.raise_any()
    return rows


@dataclass
class LabelTally:
    """The labels of some rows. first: the row with which each label comes first. counts: rows of each label."""

    first: dict[str | int, dict] = field(default_factory=dict)
    counts: Counter = field(default_factory=Counter)

    @classmethod
    def of(cls, rows: Iterable[dict]) -> "LabelTally":
        """The labels of these rows."""
        tally = cls()
        tally.add(rows)
        return tally

    def add(self, rows: Iterable[dict]) -> None:
        """Count more rows."""
        for row in rows:
            self.first.setdefault(row["label"], row)
            self.counts[row["label"]] += 1


def check_labels(train: LabelTally, held_out: dict[str, LabelTally]) -> None:
    """Raise UserError for labels that a classifier can't be trained or measured on; see `load_labelled_rows`.

    held_out: by the name of the split.
    """
    labels = settle_labels(train, None)
    for split, tally in held_out.items():
        number_classes(list(tally.first.values()), labels)
        check_classes(tally, labels, split)


def settle_labels(tally: LabelTally, class_names: list[str] | None) -> list[str]:
    """The classes' names by class number, from the training rows and, where given, `class_names`.

    Without `class_names`: the names in alphabetical order, or the numbers themselves. Raises UserError, which names
    file and line, for a single row, a single class, names mixed with numbers, numbers out of range, names that differ
    only in case or are not in `class_names`, and a class without rows.
    """
    first, num_rows = tally.first, tally.counts.total()
    label, row = next(iter(first.items()))
    if num_rows == 1:
        raise UserError(f"{row['source']}: this is the only row; a classifier needs rows of at least two classes")
    names, numbers = ([label for label in first if isinstance(label, kind)] for kind in (str, int))
    if names and numbers:
        line = first[numbers[0]]["source"].rpartition(":")[2]
        raise UserError(
            f'{first[names[0]]["source"]}: label "{names[0]}" is a name, but line {line} has the class number '
            f"{numbers[0]}; write all labels as names, or all as numbers"
        )
    if len(first) == 1:
        raise UserError(
            f'{row["source"]}: all {num_rows} rows have the label "{label}"; '
            "a classifier needs rows of at least two classes"
        )
    if numbers:
        check_numbers(first, class_names)
    else:
        check_names(first, class_names)
    labels = class_names or sorted(names) or [str(number) for number in range(len(first))]
    missing = [name for number, name in enumerate(labels) if name not in first and number not in first]
    if missing:
        raise UserError(f"--class_names: no training row has the class {missing[0]}; leave it out or add rows")
    return labels


def check_numbers(first: dict[int, dict], class_names: list[str] | None) -> None:
    """Raise UserError for a class number that is negative or not below the number of classes."""
    size = len(class_names or first)
    names = f" ({', '.join(class_names)})" if class_names else ""
    for number, row in first.items():
        if not 0 <= number < size:
            raise UserError(
                f"{row['source']}: label {number} is out of range: {size} classes{names} are numbered 0 to {size - 1}; "
                "number them from 0 without a gap, or write names"
            )


def check_names(first: dict[str, dict], class_names: list[str] | None) -> None:
    """Raise UserError for names that differ only in case, and for one that is not in `class_names`."""
    folded = {}
    for name, row in first.items():
        other = folded.setdefault(name.casefold(), name)
        if other != name:
            raise UserError(f'{row["source"]}: label "{name}" differs from "{other}" only in case; write it one way')
        if class_names and name not in class_names:
            hint = did_you_mean(name, class_names) or f"; there are: {some(class_names)}"
            raise UserError(f'{row["source"]}: label "{name}" is not in --class_names{hint}')


def number_classes(rows: list[dict], labels: list[str]) -> list[dict]:
    """Rows with class numbers for labels; raise UserError for a label that the training rows lack."""
    by_name = {name: number for number, name in enumerate(labels)}
    numbered = []
    for row in rows:
        label = row["label"]
        number = by_name.get(label) if isinstance(label, str) else label
        if number is None or not 0 <= number < len(labels):
            hint = did_you_mean(str(label), labels) or f"; there are: {some(labels)}"
            raise UserError(f'{row["source"]}: no training row has the label "{label}"{hint}')
        numbered.append({**row, "label": number})
    return numbered


def check_classes(tally: LabelTally, labels: list[str], split: str) -> None:
    """Raise UserError where held-out rows are all of one class; warn of classes that they lack."""
    named = {labels[label] if isinstance(label, int) else label: row for label, row in tally.first.items()}
    if len(named) == 1:
        name, row = next(iter(named.items()))
        raise UserError(
            f"{row['source']}: all {tally.counts.total()} {split} rows are {name}, so nothing can be "
            "measured on them; hold out rows of each class"
        )
    missing = [name for name in labels if name not in named]
    if missing:
        logger.warning("no %s row has the label %s, so nothing is measured of it", split, some(missing))


def hold_out_by_class(rows: list[dict], size: float, seed: int) -> tuple[list[dict], list[dict]]:
    """Draw the same share of each class, about `size` rows (a share below 1, or a count) in all, at least one of each.

    Raises UserError where a class would be left without a training row.
    """
    share = size if size < 1 else size / len(rows)
    by_class = defaultdict(list)
    for number, row in enumerate(rows):
        by_class[row["label"]].append(number)
    drawn = set()
    for numbers in by_class.values():
        count = max(1, round(len(numbers) * share))
        if count >= len(numbers):
            raise UserError(
                f"{rows[numbers[0]]['source']}: its class has {len(numbers)} rows, too few to hold out {count}; add"
            )
        drawn |= set(random.Random(seed).sample(numbers, count))
    train = [row for number, row in enumerate(rows) if number not in drawn]
    return train, [rows[number] for number in sorted(drawn)]


def loss_weights(spec: list[str], labels: list[str], rows: list[dict]) -> list[float] | None:
    """Each class's weight in the loss, by class number, scaled so that their mean over `rows` is 1; None for none.

    spec: ["none"], ["balanced"], which weighs a class by 1 / its rows, or "NAME=WEIGHT" for each class that differs
    from 1. Raises UserError for an unknown class and for a weight that is no positive number.
    """
    counts = Counter(row["label"] for row in rows)
    if spec == ["none"]:
        return None
    if spec == ["balanced"]:
        return [len(rows) / (len(labels) * counts[number]) for number in range(len(labels))]
    weights = [1.0] * len(labels)
    for entry in spec:
        name, _, text = entry.rpartition("=")
        if name not in labels:
            hint = did_you_mean(name or entry, labels) or f"; the classes are: {some(labels)}"
            raise UserError(f"--class_weights {entry}: give none, balanced or NAME=WEIGHT{hint}")
        try:
            weights[labels.index(name)] = float(text)
        except ValueError:
            weights[labels.index(name)] = 0.0
        if not 0 < weights[labels.index(name)] < float("inf"):
            raise UserError(f"--class_weights {entry}: the weight must be a positive number")
    mean = sum(weights[label] * count for label, count in counts.items()) / len(rows)
    return [weight / mean for weight in weights]


def some(names: list[str]) -> str:
    """The first names, for a message."""
    return ", ".join(names[:NUM_LABELS_NAMED]) + (", ..." if len(names) > NUM_LABELS_NAMED else "")


@dataclass
class LabelledTokens:
    """rows: {"input_ids", "labels": class number}, cut to max_length. lengths: tokens of each text before the cut."""

    rows: list[dict]
    lengths: list[int]
    max_length: int | None

    @property
    def longest(self) -> list[tuple[int, str]]:
        """(tokens before the cut, "") of the longest text."""
        return [(max(self.lengths), "")]

    def counts(self) -> dict:
        """Counts by the names that TokenizedRows gives them."""
        kept = [len(row["input_ids"]) for row in self.rows]
        cut = sum(length > rest for length, rest in zip(self.lengths, kept, strict=True))
        return {"num_sequences": len(kept), "num_tokens": sum(kept), "num_truncated_rows": cut, "dropped": {}}


def tokenize_labelled(rows: list[dict], tokenizer: PreTrainedTokenizerBase, max_length: int | None) -> LabelledTokens:
    """Tokenize texts as the tokenizer does for a pipeline, with its own special tokens; what is too long loses its end.

    Raises UserError for a text without a token.
    """
    texts = [row["text"] for row in rows]
    whole = tokenizer(texts, verbose=False)["input_ids"]
    cut = whole if max_length is None else tokenizer(texts, truncation=True, max_length=max_length)["input_ids"]
    for row, ids in zip(rows, cut, strict=True):
        if not ids:
            raise UserError(f'{row["source"]}: the tokenizer makes no token of "{row["text"][:20]}"; delete the row')
    tokenized = [{"input_ids": ids, "labels": row["label"]} for row, ids in zip(rows, cut, strict=True)]
    return LabelledTokens(tokenized, [len(ids) for ids in whole], max_length)


def classification_receipt(
    tokens: LabelledTokens, rows: LabelledRows, tokenizer: PreTrainedTokenizerBase, class_weights: list[float] | None
) -> dict:
    """The account of the training rows for receipt.json: classes, text lengths, truncation, copies, typical rows.

    class_weights: by class number, as they enter the loss; None for none. `typical_rows` holds the rows whose length is
    nearest to the mean, as [text, trained].
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
    first = {}  # label with which each text comes first
    num_conflicts = sum(first.setdefault(row["text"], row["label"]) != row["label"] for row in rows.train)
    longest = np.argsort(-lengths, kind="stable")[:NUM_LONGEST_ROWS]
    typical = np.argsort(np.abs(kept - kept.mean()), kind="stable")[:NUM_ROWS_SHOWN]
    return {
        "num_rows": len(labels),
        "num_sequences": len(labels),
        "num_tokens": int(kept.sum()),
        "num_truncated_rows": int((lengths > kept).sum()),
        "num_tokens_cut": int((lengths - kept).sum()),
        "max_length": tokens.max_length,
        "num_copied_texts": len(rows.train) - len(first),
        "num_conflicting_texts": num_conflicts,
        "num_held_out_copies": rows.num_copies,
        "num_validation_rows": len(rows.validation or []),
        "num_test_rows": len(rows.test or []),
        "tokens_a_text": length_statistics(lengths),
        "classes": classes,
        "longest_rows": [
            {"num_tokens": int(lengths[index]), "source": rows.train[index]["source"]} for index in longest
        ],
        "mean_tokens": float(kept.mean()),
        "typical_rows": [
            {
                "source": rows.train[index]["source"],
                "num_tokens": int(kept[index]),
                "tokens": spans(tokens.rows[index], rows.labels, tokenizer),
            }
            for index in typical
        ],
    }


def length_statistics(lengths: np.ndarray) -> dict[str, float]:
    """Least, most, mean and quantiles, of texts before they are cut."""
    quantiles = {"least": 0, "median": 0.5, "p90": 0.9, "p99": 0.99, "most": 1}
    return {name: float(np.quantile(lengths, share)) for name, share in quantiles.items()} | {
        "mean": float(lengths.mean())
    }


def spans(row: dict, labels: list[str], tokenizer: PreTrainedTokenizerBase) -> list[list]:
    """The text as the model sees it, and the label, which is what is trained."""
    text = tokenizer.decode(row["input_ids"][:NUM_TOKENS_SHOWN], clean_up_tokenization_spaces=False)
    rest = len(row["input_ids"]) - NUM_TOKENS_SHOWN
    return [[text + (f" … {rest} tokens" if rest > 0 else ""), False], [f" → {labels[row['labels']]}", True]]
