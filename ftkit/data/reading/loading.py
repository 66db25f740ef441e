"""Finds the rows a name stands for (file, folder, bundled dataset, Hub id) and splits them into train and test.

rows = load_rows("train.jsonl", test_size=0.1)
"""

import logging
import random
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from ftkit.config.assets import asset_path, list_assets
from ftkit.config.errors import UserError, did_you_mean, first_line
from ftkit.config.hub_access import go_offline_where_unreachable, refuse_typo
from ftkit.config.launch import is_first_process
from ftkit.data.reading.problems import Problems, Report, stop
from ftkit.data.reading.progress import reading_bar
from ftkit.data.reading.read_as import AS_WRITTEN, ReadAs
from ftkit.data.reading.reader import OLD_KINDS, READERS, iter_records, missing_file_message, reader_of
from ftkit.data.reading.records import Record
from ftkit.data.reading.text_file import Progress
from ftkit.data.rows.checking import RowChecker
from ftkit.data.rows.columns import RowKind
from ftkit.data.rows.formats import CONVERSATIONS

logger = logging.getLogger(__name__)

SPLIT_NAMES = ("train", "test", "validation")
DEFAULT_TEST_SPLIT = "test"
SHARD = re.compile(r"(?P<name>.+)-(?P<number>\d+)-of-(?P<total>\d+)")


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
    read_as: ReadAs = AS_WRITTEN,
) -> Rows:
    """Read, check and convert the rows that `name` stands for: a file, a folder, a bundled dataset or a Hub id.

    A file is all training rows. In a folder, files called train*, test* and validation* are the splits, and a single
    file of another name is the training split. Without a test split, `test_size` rows (a share below 1, or a count)
    are drawn with `seed` and held out. kind: what rows are expected; its formats are the ones that are known.
    read_as: --columns and --encoding.
    Raises UserError for a name that resolves to nothing and a missing split, and one that lists all mistakes in rows.
    """
    source, splits = find_splits(name, config, read_as=read_as)
    has_test = has_test_split(source, splits, train_split, test_split, test_size)
    problems = Problems()
    train, checker = read_split(splits, train_split, source, kind, format, problems)
    test = None
    if has_test:
        test, _ = read_split(splits, test_split, source, kind, checker.format or format, problems)
    problems.raise_any()
    log_notes(checker)
    if not has_test and test_size is not None:
        train, test = hold_out(train, test_size, seed)
    return Rows(train, test, checker.format, source, checker.columns.ignored_columns())


def has_test_split(
    source: str, splits: dict[str, "Split"], train_split: str, test_split: str, test_size: float | None
) -> bool:
    """Whether a split is held out, so that no training rows are; warns of what then has no effect, or is not used.

    Raises UserError for a missing test split that was asked for by name.
    """
    if test_split != DEFAULT_TEST_SPLIT:
        split_named(test_split, splits, source)
    found = test_split in splits and test_split != train_split
    unused = sorted(set(splits) - {train_split})
    if found and test_size:
        logger.warning("test_size=%s has no effect: %s has a %s split", test_size, source, test_split)
    elif not found and not test_size and unused:
        logger.warning("%s has no %s split and is trained without one; it also has: %s", source, test_split, unused)
    return found


class Split(NamedTuple):
    """label: file name or Hub split. open: begins to read; takes what iter_records does. paths: none for the Hub."""

    label: str
    open: Callable[..., Iterator[Record]]
    paths: tuple[Path, ...] = ()


def find_splits(
    name: str, config: str | None = None, *, streaming: bool = False, read_as: ReadAs = AS_WRITTEN
) -> tuple[str, dict[str, Split]]:
    """Return what `name` resolved to, and its splits. streaming: a Hub dataset is read over the network as needed.

    Raises UserError for a name that resolves to nothing.
    """
    found = local_files(name)
    if found is None:
        return f"Hub dataset {name}", hub_splits(name, config, streaming, read_as)
    source, files = found
    for path in chain.from_iterable(files.values()):
        reader_of(path)  # refuses what can't be read
    return source, {split: split_of_files(paths, read_as) for split, paths in files.items()}


def split_of_files(paths: tuple[Path, ...], read_as: ReadAs) -> Split:
    """A split of one file, or of shards, each row of which names its file."""
    if len(paths) == 1:
        return Split(str(paths[0]), partial(iter_records, paths[0], read_as=read_as), paths)

    def read_shards(report: Report = stop, progress: Progress | None = None) -> Iterator[Record]:
        before = 0
        for path in paths:
            moved = partial(lambda start, num_bytes: progress(start + num_bytes), before) if progress else None
            for record in iter_records(path, report, moved, read_as):
                yield record._replace(file=str(path))
            before += path.stat().st_size

    return Split(f"{paths[0]} and {len(paths) - 1} more", read_shards, paths)


def local_files(name: str) -> tuple[str, dict[str, tuple[Path, ...]]] | None:
    """What `name` resolved to on this machine, and its files by split; None where it can only be a Hub id."""
    path = Path(name).expanduser()
    if path.is_file():
        return str(path), {"train": (path,)}
    if path.is_dir():
        return str(path), folder_splits(path)
    if name in list_assets("datasets"):
        return f"bundled dataset {name}", folder_splits(asset_path("datasets", name))
    if path.suffix.lower() in (*READERS, *OLD_KINDS) or name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise UserError(missing_file_message(path))
    return None


def folder_splits(folder: Path) -> dict[str, tuple[Path, ...]]:
    """Return the data files of a folder by split. A file's split is the beginning of its name.

    A folder without data files of its own may have them in `data/`, as those of the Hub do. Several files of a split
    are read one after the other where they are its shards, train-00000-of-00002.parquet and so on.
    """
    files = data_files(folder) or data_files(folder / "data")
    if not files:
        raise UserError(no_files_message(folder))
    named: dict[str, list[Path]] = {}
    for path in files:
        split = next((split for split in SPLIT_NAMES if path.stem.lower().startswith(split)), None)
        named.setdefault(split or "", []).append(path)
    others = named.pop("", [])
    if not named and (len(others) == 1 or are_shards(others)):
        return {"train": tuple(others)}
    if not named:
        names = ", ".join(path.name for path in files)
        raise UserError(f"{folder}: which of {names} is the training split? call it train{files[0].suffix}")
    for split, paths in named.items():
        if len(paths) > 1 and not are_shards(paths):
            raise UserError(f"{folder}: {paths[0].name} and {paths[1].name} are both the {split} split; keep one")
    return {split: tuple(paths) for split, paths in named.items()}


def data_files(folder: Path) -> list[Path]:
    """The files of rows in a folder, sorted; none where there is no such folder. Excel's lock files are none."""
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted(
        path for path in found
        if path.suffix.lower() in READERS and path.is_file() and not path.name.startswith((".", "~$"))
    )  # fmt: skip


def no_files_message(folder: Path) -> str:
    """Say that a folder holds no rows, and which folder below it does."""
    below = next((path for path in sorted(folder.iterdir()) if path.is_dir() and data_files(path)), None)
    fix = f"give {below}, which does" if below else f"put train.jsonl there (or {', '.join(READERS)})"
    return f"{folder}: no data file in this folder; {fix}"


def are_shards(paths: list[Path]) -> bool:
    """Whether files are the shards of one split; raise UserError where one of them is missing."""
    found = [SHARD.fullmatch(path.stem) for path in paths]
    kinds = {path.suffix for path in paths} | {one and (one["name"], one["total"]) for one in found}
    if None in kinds or len(kinds) > 2:  # a suffix, and a name with a total
        return False
    numbers, total = [int(one["number"]) for one in found], int(found[0]["total"])
    missing = sorted(set(range(total)) - set(numbers))
    if missing:
        raise UserError(f"{paths[0].parent}: shard {missing[0]} of {total} of {found[0]['name']} is missing; add it")
    return True


def hub_splits(name: str, config: str | None, streaming: bool, read_as: ReadAs = AS_WRITTEN) -> dict[str, Split]:
    """Return the splits of a Hub dataset (or of its copy in the local cache)."""
    import datasets

    if read_as.encoding:
        raise UserError(f"--encoding has no effect on {name}, which is not a file on this machine; drop it")

    bundled = list_assets("datasets")
    if "/" not in name:
        refuse_typo(name, bundled, "dataset")
    why_offline = go_offline_where_unreachable()
    try:
        loaded = datasets.load_dataset(name, config, streaming=streaming, trust_remote_code=False)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        reason = why_offline or f"the Hub gave {type(error).__name__}: {first_line(error)}"
        hint = did_you_mean(name, bundled) or "; give a file, or a Hub id while online"
        raise UserError(
            f'no file, folder or bundled dataset ({", ".join(bundled) or "none"}) is called "{name}", '
            f"and {reason}{hint}"
        ) from error
    labels = {split: f"{name}/{split}" for split in loaded}
    return {
        split: Split(labels[split], partial(number_rows, rows, labels[split], read_as=read_as))
        for split, rows in loaded.items()
    }


def number_rows(
    rows: Iterable[dict],
    label: str,
    report: Report = stop,
    progress: Progress | None = None,
    read_as: ReadAs = AS_WRITTEN,
) -> Iterator[Record]:
    """Number rows that come from no file from 1; a split without rows is reported."""
    number = 0
    for number, row in enumerate(rows, start=1):
        yield read_as.applied(Record(dict(row), number), f"{label}:{number}")
    if not number:
        report(UserError(f"{label}: the split has no rows; choose another"))


def read_split(
    splits: dict[str, Split], split: str, source: str, kind: RowKind, format: str, problems: Problems
) -> tuple[list[dict], RowChecker]:
    """The rows of one split, and what checked them; mistakes are added to `problems`.

    Raises UserError for a split that is not there.
    """
    label, open_split, paths = split_named(split, splits, source)
    checker = RowChecker(label, kind, format, problems.add)
    with reading_bar(paths) if paths else nullcontext() as progress:
        rows = list(checker.rows(open_split(problems.add, progress)))
    checker.finish()
    return rows, checker


def log_notes(checker: RowChecker) -> None:
    """Warn of what was done to a split while it was read: columns under other names, empty rows left out."""
    for note in checker.reading_notes() if is_first_process() else ():
        logger.warning("%s: %s", checker.label, note)


def split_named(split: str, splits: dict[str, Split], source: str) -> Split:
    """One of the splits. Raises UserError, which names those there are, where it is none."""
    if split not in splits:
        raise UserError(f'{source}: no split "{split}"{did_you_mean(split, splits)}; it has: {", ".join(splits)}')
    return splits[split]


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
