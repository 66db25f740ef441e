"""Finds the rows a name stands for (file, folder, bundled dataset, Hub id) and splits them into train and test.

rows = load_rows("train.jsonl", test_size=0.1)
"""

import logging
import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from ftkit.config.assets import asset_path, list_assets
from ftkit.config.errors import UserError, did_you_mean
from ftkit.data.formats import CONVERSATIONS, RowKind, detect_format
from ftkit.data.reader import Record, missing_file_message, read_records

logger = logging.getLogger(__name__)

SUFFIXES = (".json", ".jsonl", ".csv", ".parquet", ".txt")
SPLIT_NAMES = ("train", "test", "validation")
DEFAULT_TEST_SPLIT = "test"


@dataclass
class Rows:
    """Rows ready for a template: what the RowKind makes of a record, and "source" as "file:line".

    test is None when there is no held-out split. format: one of the kind's. source: what the name resolved to.
    ignored_columns: columns of the training rows that no format uses, sorted.
    """

    train: list[dict]
    test: list[dict] | None
    format: str
    source: str
    ignored_columns: list[str] = field(default_factory=list)


def load_rows(
    name: str,
    *,
    kind: RowKind = CONVERSATIONS,
    format: str = "auto",
    train_split: str = "train",
    test_split: str = DEFAULT_TEST_SPLIT,
    test_size: float | None = None,
    config: str | None = None,
    seed: int = 0,
) -> Rows:
    """Read, check and convert the rows that `name` stands for: a file, a folder, a bundled dataset or a Hub id.

    A file is all training rows. In a folder, files called train*, test* and validation* are the splits, and a single
    file of another name is the training split. Without a test split, `test_size` rows (a share below 1, or a count)
    are drawn with `seed` and held out. kind: what rows are expected; its formats are the ones that are known.
    Raises UserError for a name that resolves to nothing, a missing split, and every mistake in a row.
    """
    source, splits = find_splits(name, config)
    train_records = read_split(splits, train_split, source)
    test_records = None
    if test_split in splits and test_split != train_split:
        test_records = read_split(splits, test_split, source)
    elif test_split != DEFAULT_TEST_SPLIT:
        raise UserError(no_split_message(test_split, splits, source))
    found = detect_format(train_records[1], train_records[0], format, kind.formats)
    train = convert(train_records, found, kind)
    if test_records is not None:
        if test_size is not None:
            logger.warning("test_size=%s has no effect: %s has a %s split", test_size, source, test_split)
        detect_format(test_records[1], test_records[0], found, kind.formats)
        test = convert(test_records, found, kind)
    else:
        train, test = (train, None) if test_size is None else hold_out(train, test_size, seed)
        unused = sorted(set(splits) - {train_split})
        if unused and test is None:
            logger.warning("%s has no %s split and is trained without one; it also has: %s", source, test_split, unused)
    used = set().union(*kind.formats[found])
    ignored = sorted({str(key) for record in train_records[1] for key in record.values} - used)
    return Rows(train, test, found, source, ignored)


def find_splits(name: str, config: str | None) -> tuple[str, dict]:
    """Return what `name` resolved to and its splits: split name -> path of a file, or (label, records)."""
    path = Path(name).expanduser()
    if path.is_file():
        return str(path), {"train": path}
    if path.is_dir():
        return str(path), folder_splits(path)
    if name in list_assets("datasets"):
        return f"bundled dataset {name}", folder_splits(asset_path("datasets", name))
    if path.suffix.lower() in SUFFIXES or name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise UserError(missing_file_message(path))
    return f"Hub dataset {name}", hub_splits(name, config)


def folder_splits(folder: Path) -> dict[str, Path]:
    """Return the data files of a folder by split. A file's split is the beginning of its name."""
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())
    if not files:
        raise UserError(f"{folder}: no data file in this folder; put train.jsonl there (or {', '.join(SUFFIXES)})")
    splits = {}
    for path in files:
        split = next((split for split in SPLIT_NAMES if path.stem.lower().startswith(split)), None)
        if split in splits:
            raise UserError(f"{folder}: {splits[split].name} and {path.name} are both the {split} split; keep one")
        if split:
            splits[split] = path
    if not splits and len(files) > 1:
        names = ", ".join(path.name for path in files)
        raise UserError(f"{folder}: which of {names} is the training split? call it train{files[0].suffix}")
    return splits or {"train": files[0]}


def hub_splits(name: str, config: str | None) -> dict[str, tuple]:
    """Return the splits of a Hub dataset (or of its copy in the local cache) as (label, records)."""
    import datasets

    try:
        loaded = datasets.load_dataset(name, config)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        bundled = list_assets("datasets")
        reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no details'}"
        hint = did_you_mean(name, bundled) or "; give a file, or a Hub id while online"
        raise UserError(
            f'no file, folder or bundled dataset ({", ".join(bundled) or "none"}) is called "{name}", '
            f"and the Hub gave {reason}{hint}"
        ) from error
    return {split: (f"{name}/{split}", number_rows(rows)) for split, rows in loaded.items()}


def number_rows(rows: Iterable[dict]) -> list[Record]:
    """Number rows that come from no file from 1."""
    return [Record(dict(row), number) for number, row in enumerate(rows, start=1)]


def read_split(splits: dict, split: str, source: str) -> tuple[str, list[Record]]:
    """Return the label (file name or Hub split) and the records of one split."""
    if split not in splits:
        raise UserError(no_split_message(split, splits, source))
    if isinstance(splits[split], Path):
        return str(splits[split]), read_records(splits[split])
    label, records = splits[split]
    if not records:
        raise UserError(f"{label}: the split has no rows; choose another")
    return label, records


def no_split_message(split: str, splits: dict, source: str) -> str:
    """Say which splits there are instead of `split`."""
    return f'{source}: no split "{split}"{did_you_mean(split, splits)}; it has: {", ".join(splits)}'


def convert(labelled: tuple[str, list[Record]], format: str, kind: RowKind) -> list[dict]:
    """Turn records into rows with their source."""
    label, records = labelled
    sources = [f"{label}:{record.line}" for record in records]
    return [
        kind.convert(record.values, format, source) | {"source": source}
        for record, source in zip(records, sources, strict=True)
    ]


def hold_out(rows: list[dict], test_size: float, seed: int) -> tuple[list[dict], list[dict]]:
    """Draw `test_size` rows (a share below 1, or a count) for the test split; both parts keep the file's order."""
    count = round(len(rows) * test_size) if test_size < 1 else int(test_size)
    if test_size >= 1 and test_size != count:
        raise UserError(f"test_size is {test_size}; give a share below 1 or a whole number of rows")
    if not 0 < count < len(rows):
        raise UserError(
            f"test_size {test_size} of {len(rows)} rows leaves {len(rows) - count} to train and {count} to test; "
            "both need at least one row"
        )
    drawn = set(random.Random(seed).sample(range(len(rows)), count))
    train = [row for number, row in enumerate(rows) if number not in drawn]
    return train, [rows[number] for number in sorted(drawn)]
