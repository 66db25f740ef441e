"""Checks rows before the training libraries are imported, so that their mistakes are reported at once.

check_early({"dataset_name": "train.jsonl"}, CONVERSATIONS)
"""

from ftkit.data.reading.loading import DEFAULT_TEST_SPLIT, find_splits, local_files, read_split
from ftkit.data.reading.problems import Problems
from ftkit.data.reading.read_as import ReadAs
from ftkit.data.rows.columns import RowKind

MAX_BYTES = 32 * 2**20  # of files that are read twice; larger ones are checked when they are loaded


def check_early(settings: dict, kind: RowKind) -> None:
    """Raise UserError that lists the mistakes in the rows that a command would read, if they are few and local.

    settings: the values that a person gave.
    """
    name = settings.get("dataset_name")
    format = settings.get("dataset_format", "auto")
    if not name or settings.get("dataset_streaming"):
        return
    if format not in ("auto", *kind.formats):
        return
    found = local_files(str(name))
    if found is None or sum(path.stat().st_size for paths in found[1].values() for path in paths) > MAX_BYTES:
        return
    columns, encoding = (None if value is None else str(value) for value in map(settings.get, ("columns", "encoding")))
    source, splits = find_splits(str(name), read_as=ReadAs.of(columns, encoding, bool(settings.get("join_turns"))))
    problems = Problems()
    wanted = ("dataset_train_split", "train"), ("dataset_test_split", DEFAULT_TEST_SPLIT)
    for split in dict.fromkeys(settings.get(setting, default) for setting, default in wanted):
        if split in splits:
            _, checker = read_split(splits, split, source, kind, format, problems)
            format = checker.format or format
    problems.raise_any()
