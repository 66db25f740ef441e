"""Raw text as documents, for pretraining and for tokenizers: text files, folders of them, jsonl, parquet, Hub data.

documents = load_documents("corpus/", test_size=0.01)
"""

from pathlib import Path

from ftkit.config.errors import UserError
from ftkit.data.reading.loading import DEFAULT_TEST_SPLIT, SPLIT_NAMES, Rows, find_splits, hold_out, load_rows
from ftkit.data.reading.streaming import RowStream

TEXT_SUFFIXES = (".txt", ".md", ".rst")
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
) -> Rows:
    """Return documents as Rows of {"text", "source"}, with those held out in `test`.

    A text file is one document, or several where `separator` stands between them; a folder of text files, searched with
    its subfolders, is all of them, and files called train*, validation* and test* are splits. Other names are what
    `load_rows` takes, with a column "text". Without the split `test_split` (of "validation", the split "test" serves as
    well) `test_size` documents, a share or a count, are drawn with `seed` and held out.
    Raises UserError for a name that resolves to nothing, an empty file and every mistake in a row.
    """
    files = text_files(Path(name).expanduser())
    if not files:
        return load_rows(
            name, format="text", train_split=train_split, test_split=held_out_split(name, test_split, config),
            test_size=test_size, config=config, seed=seed,
        )  # fmt: skip
    splits = {}
    for path in files:
        found = next((split for split in SPLIT_NAMES if path.stem.lower().startswith(split)), "train")
        splits.setdefault(found if len(files) > 1 else "train", []).extend(documents_of(path, separator))
    if train_split not in splits:
        raise UserError(f'{name}: no split "{train_split}"; it has: {", ".join(splits)}')
    test = next((splits[split] for split in dict.fromkeys((test_split, *HELD_OUT_SPLITS)) if split in splits), None)
    train = splits[train_split]
    if test is None and test_size is not None:
        if len(train) == 1:
            raise UserError(f"{name}: is one document, none is left to hold out; give --document_separator, or files")
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
    if not path.is_dir() or any(path.glob("*.jsonl")) or any(path.glob("*.parquet")):
        return []
    return sorted(file for file in path.rglob("*") if file.suffix.lower() in TEXT_SUFFIXES and file.is_file())


def documents_of(path: Path, separator: str | None) -> list[dict]:
    """The documents of one text file, blank ones left out; UserError for a file that is empty or not UTF-8."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise UserError(f"{path}:{line}: not UTF-8; save the file as UTF-8") from error
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
) -> RowStream:
    """Documents read as they are needed: .jsonl, .parquet, Hub data, and .txt, of which each line is a document."""
    return RowStream(
        name, format="text", config=config, train_split=train_split,
        test_split=held_out_split(name, test_split, config, streaming=True), num_held_out=num_held_out,
    )  # fmt: skip
