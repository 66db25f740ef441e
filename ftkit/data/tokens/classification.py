"""Rows with one label each, for classifiers: {"text", "label"}; labels are names or class numbers.

    rows = load_labelled_rows("rows.csv", test_size=0.1)

Labels that are whole numbers, also where a file writes them as text, are class numbers and count from 0.
Every mistake is a UserError `file:line: reason; fix`.
"""

import logging
import random
from collections import Counter, defaultdict
from dataclasses import dataclass, field

from ftkit.config.errors import UserError, did_you_mean
from ftkit.data.cleaning.overlap import copies_of_test_rows
from ftkit.data.reading.loading import DEFAULT_TEST_SPLIT, find_splits, load_rows, read_split
from ftkit.data.reading.problems import Problems
from ftkit.data.rows.kinds import LABELLED

logger = logging.getLogger(__name__)

NUM_LABELS_NAMED = 8  # in a message
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
) -> LabelledRows:
    """Read and check the rows that `name` stands for, as `load_rows` does, and number their classes.

    class_names: the classes in order; None sorts the names found. A split called validation is read where there is
    one; else `validation_size` training rows (a share below 1, or a count) are held out, the same share of each class.
    Raises UserError for mistakes in rows, labels that are out of range, mixed or of a single class, and for test
    labels that the training rows lack.
    """
    splits = {"train_split": train_split, "test_split": test_split}
    rows = load_rows(name, kind=LABELLED, test_size=test_size, config=config, seed=seed, **splits)
    validation = read_validation(name, config) if test_split != VALIDATION_SPLIT else None
    labels = settle_labels(rows.train, class_names)
    train = number_classes(rows.train, labels)
    test, validation = (number_classes(part, labels) if part else None for part in (rows.test, validation))
    if validation is None and validation_size is not None:
        train, validation = hold_out_by_class(train, validation_size, seed)
    for split, part in (("test", test), (VALIDATION_SPLIT, validation)):
        check_classes(part, labels, split)
    held_out = (validation or []) + (test or [])
    copies = copies_of_test_rows(train, held_out)
    if copies:
        logger.warning("%d of %d held-out rows are training rows too, first: %s", len(copies), len(held_out), copies[0])
    return LabelledRows(
        train, validation, test, labels, rows.source, ignored_columns=rows.ignored_columns, num_copies=len(copies)
    )


def read_validation(name: str, config: str | None) -> list[dict] | None:
    """The rows of the split called validation; None where there is none."""
    source, splits = find_splits(name, config)
    if VALIDATION_SPLIT not in splits:
        return None
    problems = Problems()
    rows, _ = read_split(splits, VALIDATION_SPLIT, source, LABELLED, "auto", problems)
    problems.raise_any()
    return rows


def settle_labels(rows: list[dict], class_names: list[str] | None) -> list[str]:
    """The classes' names by class number, from the training rows and, where given, `class_names`.

    Raises UserError, which names file and line, for a single row, a single class, names mixed with numbers, numbers
    out of range, and names that differ only in case.
    """
    if len(rows) == 1:
        raise UserError(f"{rows[0]['source']}: this is the only row; a classifier needs rows of at least two classes")
    first = {}  # row with which each label comes first
    for row in rows:
        first.setdefault(row["label"], row)
    names, numbers = ([label for label in first if isinstance(label, kind)] for kind in (str, int))
    if names and numbers:
        name, number = first[names[0]], first[numbers[0]]
        raise UserError(
            f'{name["source"]}: label "{name["label"]}" is a name, but line {line_of(number)} has the class number '
            f"{number['label']}; write all labels as names, or all as numbers"
        )
    if len(first) == 1:
        raise UserError(
            f'{rows[0]["source"]}: all {len(rows)} rows have the label "{rows[0]["label"]}"; '
            "a classifier needs rows of at least two classes"
        )
    return settle_numbers(first, class_names) if numbers else settle_names(first, class_names)


def settle_numbers(first: dict[int, dict], class_names: list[str] | None) -> list[str]:
    """Names of classes that are numbered; without `class_names` the numbers themselves."""
    size = len(class_names) if class_names else len(first)
    for number, row in first.items():
        if not 0 <= number < size:
            names = f" ({', '.join(class_names)})" if class_names else ""
            raise UserError(
                f"{row['source']}: label {number} is out of range: {size} classes{names} are numbered 0 to {size - 1}; "
                "number them from 0 without a gap, or write names"
            )
    missing = [name for number, name in enumerate(class_names or []) if number not in first]
    if missing:
        raise UserError(f"--class_names: no training row has the class {missing[0]}; leave it out or add rows")
    return class_names or [str(number) for number in range(size)]


def settle_names(first: dict[str, dict], class_names: list[str] | None) -> list[str]:
    """Names of classes that are named; without `class_names` in alphabetical order."""
    folded = {}
    for name, row in first.items():
        other = folded.setdefault(name.casefold(), name)
        if other != name:
            raise UserError(f'{row["source"]}: label "{name}" differs from "{other}" only in case; write it one way')
    if not class_names:
        return sorted(first)
    unknown = next((name for name in first if name not in class_names), None)
    if unknown is not None:
        hint = did_you_mean(unknown, class_names) or f"; there are: {some(class_names)}"
        raise UserError(f'{first[unknown]["source"]}: label "{unknown}" is not in --class_names{hint}')
    missing = [name for name in class_names if name not in first]
    if missing:
        raise UserError(f"--class_names: no training row has the class {missing[0]}; leave it out or add rows")
    return class_names


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


def check_classes(rows: list[dict] | None, labels: list[str], split: str) -> None:
    """Raise UserError where held-out rows are all of one class; warn of classes that they lack."""
    if not rows:
        return
    counts = Counter(row["label"] for row in rows)
    if len(counts) == 1:
        raise UserError(
            f"{rows[0]['source']}: all {len(rows)} {split} rows are {labels[rows[0]['label']]}, so nothing can be "
            "measured on them; hold out rows of each class"
        )
    missing = [name for number, name in enumerate(labels) if number not in counts]
    if missing:
        logger.warning("no %s row has the label %s, so nothing is measured of it", split, some(missing))


def hold_out_by_class(rows: list[dict], size: float, seed: int) -> tuple[list[dict], list[dict]]:
    """Draw the same share of each class, about `size` rows (a share below 1, or a count) in all, at least one a class.

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


def line_of(row: dict) -> str:
    """The line of a row's source."""
    return row["source"].rpartition(":")[2]


def some(names: list[str]) -> str:
    """The first names, for a message."""
    return ", ".join(names[:NUM_LABELS_NAMED]) + (", ..." if len(names) > NUM_LABELS_NAMED else "")
