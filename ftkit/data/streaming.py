"""Rows read as they are needed, for files and Hub datasets larger than memory: checked one by one, in order.

    stream = RowStream("huge.jsonl", num_held_out=500)
    rows = itertools.islice(stream, 1000)

A mistake in a row is found when the row is reached, and named with file and line like any other.
"""

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from ftkit.config.assets import asset_path, list_assets
from ftkit.config.errors import UserError
from ftkit.data.formats import CONVERSATIONS, RowKind, detect_format
from ftkit.data.loading import convert, folder_splits
from ftkit.data.reader import BOM, Record, jsonl_record, missing_file_message, strict_decoder
from ftkit.data.templates import TemplateInfo

ROWS_AT_ONCE = 256  # converted and tokenized together
STREAMED_SUFFIXES = (".jsonl", ".txt", ".parquet")


class RowStream:
    """The training rows that a name stands for, as `load_rows` would return them, but read again at each pass.

    num_held_out: this many first rows are left out; they are `held_out`. A `test` split comes first if there is one.
    Raises UserError for a name that resolves to nothing or to a file type that can't be read in parts.
    """

    def __init__(
        self,
        name: str,
        *,
        kind: RowKind = CONVERSATIONS,
        format: str = "auto",
        config: str | None = None,
        train_split: str = "train",
        test_split: str = "test",
        num_held_out: int = 0,
    ):
        self.source, splits = stream_splits(name, config)
        if train_split not in splits:
            raise UserError(f"{self.source}: no split {train_split}; it has: {', '.join(splits)}")
        self.kind, self.num_held_out = kind, num_held_out
        self.label, self.open = splits[train_split]
        first = next(self.open(), None)
        if first is None:
            raise UserError(f"{self.label}: there are no rows; add at least one")
        self.format = detect_format([first], self.label, format, kind.formats)
        self.held_out = self.converted(itertools.islice(self.open(), num_held_out)) or None
        if test_split in splits and test_split != train_split:
            label, open_test = splits[test_split]
            self.held_out = self.converted(open_test(), label)

    def converted(self, records, label: str | None = None) -> list[dict]:
        """Records as rows; raise UserError for a row of another format."""
        label, records = label or self.label, list(records)
        detect_format(records, label, self.format, self.kind.formats)
        return convert((label, records), self.format, self.kind)

    def __iter__(self) -> Iterator[dict]:
        records = itertools.islice(self.open(), self.num_held_out, None)
        while batch := list(itertools.islice(records, ROWS_AT_ONCE)):
            yield from self.converted(batch)


def tokenized_stream(
    stream: RowStream,
    tokenize: Callable,
    tokenizer: PreTrainedTokenizerBase,
    info: TemplateInfo | None,
    max_length: int | None,
):
    """A datasets.IterableDataset of what `tokenize(rows, tokenizer, info, max_length)` makes of the stream."""
    from datasets import IterableDataset

    def generate():
        rows = iter(stream)
        while batch := list(itertools.islice(rows, ROWS_AT_ONCE)):
            yield from tokenize(batch, tokenizer, info, max_length).rows

    return IterableDataset.from_generator(generate)


def stream_splits(name: str, config: str | None) -> tuple[str, dict]:
    """What `name` resolved to, and for each split (label, function that opens an iterator of Records)."""
    path = Path(name).expanduser()
    if path.is_file():
        return str(path), {"train": (str(path), opener(path))}
    if path.is_dir() or name in list_assets("datasets"):
        folder = path if path.is_dir() else asset_path("datasets", name)
        return str(folder), {split: (str(file), opener(file)) for split, file in folder_splits(folder).items()}
    if path.suffix or name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise UserError(missing_file_message(path))
    return f"Hub dataset {name}", hub_stream_splits(name, config)


def opener(path: Path) -> Callable[[], Iterator[Record]]:
    """A function that opens a file for reading in parts."""
    readers = {".jsonl": stream_jsonl, ".txt": stream_txt, ".parquet": stream_parquet}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        allowed = ", ".join(STREAMED_SUFFIXES)
        raise UserError(f"{path}: --dataset_streaming reads {allowed} and Hub datasets; convert it, or drop the flag")
    return lambda: reader(path)


def text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """(number, line) of each line that is not blank, decoded strictly."""
    with path.open("rb") as file:
        for number, data in enumerate(file, start=1):
            try:
                line = data.decode("utf-8")
            except UnicodeDecodeError as error:
                raise UserError(f"{path}:{number}: not UTF-8; save the file as UTF-8") from error
            line = line.removeprefix(BOM) if number == 1 else line
            if line.strip():
                yield number, line


def stream_jsonl(path: Path) -> Iterator[Record]:
    decoder: json.JSONDecoder = strict_decoder()
    for number, line in text_lines(path):
        yield jsonl_record(line, f"{path}:{number}", decoder, is_last=not line.endswith("\n"))


def stream_txt(path: Path) -> Iterator[Record]:
    for number, line in text_lines(path):
        yield Record({"text": line.rstrip("\r\n")}, number)


def stream_parquet(path: Path) -> Iterator[Record]:
    import pyarrow
    import pyarrow.parquet

    number = itertools.count(1)
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(ROWS_AT_ONCE):
                for row in batch.to_pylist():
                    yield Record(row, next(number))
    except (pyarrow.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path}: not a readable parquet file ({reason}); write it again") from error


def hub_stream_splits(name: str, config: str | None) -> dict:
    """Splits of a Hub dataset, each read over the network as it is needed."""
    import datasets

    try:
        loaded = datasets.load_dataset(name, config, streaming=True)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no details'}"
        raise UserError(f'no file or folder "{name}", and the Hub gave {reason}; give a file, or go online') from error

    def open_split(rows) -> Callable[[], Iterator[Record]]:
        return lambda: (Record(dict(row), number) for number, row in enumerate(rows, start=1))

    return {split: (f"{name}/{split}", open_split(rows)) for split, rows in loaded.items()}
