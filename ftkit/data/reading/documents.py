"""Raw text as documents, for pretraining and for tokenizers: text files, folders of them, jsonl, parquet, Hub data.

documents = load_documents("corpus/", test_size=0.01)
"""

import logging
from pathlib import Path

from ftkit.config.errors import UserError
from ftkit.data.reading.loading import (
    DEFAULT_TEST_SPLIT,
    SPLIT_NAMES,
    Rows,
    data_files,
    find_splits,
    hold_out,
    load_rows,
)  # fmt: skip
from ftkit.data.reading.read_as import AS_WRITTEN, ReadAs
from ftkit.data.reading.streaming import RowStream
from ftkit.data.reading.text_file import read_text

logger = logging.getLogger(__name__)

TEXT_SUFFIXES = (".txt", ".md", ".rst")
ROW_SUFFIXES = (".jsonl", ".csv", ".tsv", ".xlsx", ".parquet")  # .json may be about the texts beside it
HELD_OUT_SPLITS = ("validation", DEFAULT_TEST_SPLIT)  # the first that is there


def load_documents(
    name: str,
    *,
    separator: str | None = None,
    train_split: str = "train",
    test_split: str = HELD_OUT_SPLITS[0],
    test_size: float | None = None,
    config: str | None = None,
    seed: int = 0,
    read_as: ReadAs = AS_WRITTEN,
) -> Rows:
    """Return documents as Rows of {"text", "source"}, with those held out in `test`.

    A text file is one document, or several where `separator` stands between them; a folder of text files, searched with
    its subfolders, is all of them, and files called train*, validation* and test* are splits. Other names are what
    `load_rows` takes, with a column "text". Without the split `test_split` (of "validation", the split "test" serves as
    well) `test_size` documents, a share or a count, are drawn with `seed` and held out; of a single text, that share at
    its end.
    Raises UserError for a name that resolves to nothing, an empty file and every mistake in a row.
    """
    files = text_files(Path(name).expanduser())
    if not files:
        if separator:
            raise UserError(f"--document_separator has no effect on {name}: each row is a document; drop it")
        return load_rows(
            name, format="text", train_split=train_split, test_split=held_out_split(name, test_split, config),
            test_size=test_size or None, config=config, seed=seed, read_as=read_as,
        )  # fmt: skip
    splits = {}
    for path in files:
        found = next((split for split in SPLIT_NAMES if path.stem.lower().startswith(split)), "train")
        splits.setdefault(found if len(files) > 1 else "train", []).extend(documents_of(path, separator, read_as))
    if separator and sum(map(len, splits.values())) == len(files):
        hint = "; write a line break as $'\\n'" if "\\" in separator else ""
        raise UserError(f'{name}: --document_separator "{separator}" does not stand between texts in it{hint}')
    if train_split not in splits:
        raise UserError(f'{name}: no split "{train_split}"; it has: {", ".join(splits)}')
    test = next((splits[split] for split in dict.fromkeys((test_split, *HELD_OUT_SPLITS)) if split in splits), None)
    train = splits[train_split]
    if test is not None and test_size:
        logger.warning("test_size=%s has no effect: %s has files that are held out", test_size, name)
    elif test_size and len(train) == 1:
        if test_size >= 1:
            raise UserError(f"{name}: is one document, none is left to hold out; give a share of it, --test_size 0.1")
        train, test = ([part] for part in cut_end(train[0], test_size))
    elif test_size:
        train, test = hold_out(train, test_size, seed)
    return Rows(train, test, "text", name)


def held_out_split(name: str, test_split: str, config: str | None, *, streaming: bool = False) -> str:
    """The split to hold out: "test" where "validation" is asked for, the default, and there is none."""
    if test_split != HELD_OUT_SPLITS[0]:
        return test_split
    _, splits = find_splits(name, config, streaming=streaming)
    return test_split if test_split in splits else DEFAULT_TEST_SPLIT


def text_files(path: Path) -> list[Path]:
    """A text file itself, or the text files below a folder that holds no rows; none for anything else."""
    if path.is_file():
        return [path] if path.suffix.lower() in TEXT_SUFFIXES else []
    if not path.is_dir():
        return []
    rows = [*data_files(path), *data_files(path / "data")]
    if any(file.suffix.lower() in ROW_SUFFIXES for file in rows):
        return []
    return sorted(file for file in path.rglob("*") if file.suffix.lower() in TEXT_SUFFIXES and file.is_file())


def cut_end(document: dict, share: float) -> tuple[dict, dict]:
    """A document without its end, and its end: about so large a share, from the beginning of a line or word on."""
    text, (file, _, line) = document["text"], document["source"].rpartition(":")
    position = round(len(text) * (1 - share))
    room = len(text) - position
    for sign in ("\n", " "):
        found = text.find(sign, position, position + room // 2)
        if found >= 0:
            position = found + 1
            break
    begins = int(line) + text.count("\n", 0, position)
    return document | {"text": text[:position]}, {"text": text[position:], "source": f"{file}:{begins}"}


def documents_of(path: Path, separator: str | None, read_as: ReadAs = AS_WRITTEN) -> list[dict]:
    """The documents of one text file, blank ones left out; UserError for a file that is empty or not UTF-8."""
    text = read_text(path, read_as.encoding)
    rows, line = [], 1
    for part in text.split(separator) if separator else [text]:
        if part.strip():
            rows.append({"text": part, "source": f"{path}:{line}"})
        line += part.count("\n") + (separator or "").count("\n")
    if not rows:
        raise UserError(f"{path}:1: holds no text; remove the file or fill it")
    return rows


def stream_documents(
    name: str,
    *,
    train_split: str = "train",
    test_split: str = HELD_OUT_SPLITS[0],
    num_held_out: int = 0,
    config: str | None = None,
    read_as: ReadAs = AS_WRITTEN,
) -> RowStream:
    """Documents read as they are needed: .jsonl, .parquet, Hub data, and .txt, of which each line is a document."""
    return RowStream(
        name, format="text", config=config, train_split=train_split,
        test_split=held_out_split(name, test_split, config, streaming=True), num_held_out=num_held_out,
        read_as=read_as,
    )  # fmt: skip
