"""Rows read as they are needed, for files and Hub datasets larger than memory: checked one by one, in order.

    stream = RowStream("huge.jsonl", num_held_out=500)
    rows = itertools.islice(stream, 1000)

A mistake in a row is found when the row is reached, and named with file and line like any other.
"""

import itertools
from collections.abc import Callable, Iterator

from ftkit.data.reading.loading import Split, find_splits, has_test_split, log_notes, split_named
from ftkit.data.reading.problems import Problems
from ftkit.data.reading.read_as import AS_WRITTEN, ReadAs
from ftkit.data.rows.checking import RowChecker
from ftkit.data.rows.columns import RowKind
from ftkit.data.rows.formats import CONVERSATIONS

ROWS_AT_ONCE = 256  # converted and tokenized together
SOURCES_KEPT = 4_000  # places of rows that were read last; most rows have been trained on by then


class RowStream:
    """The training rows that a name stands for, as `load_rows` would return them, but read again at each pass.

    num_held_out: that many first rows are `held_out` and left out, where there is no test split; else that is held out.
    Raises UserError for a name that resolves to nothing, and for the mistakes in the rows it has come to.
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
        read_as: ReadAs = AS_WRITTEN,
    ):
        self.source, splits = find_splits(name, config, streaming=True, read_as=read_as)
        self.train = split_named(train_split, splits, self.source)
        has_test = has_test_split(self.source, splits, train_split, test_split, num_held_out)
        self.kind, self.num_left_out = kind, 0 if has_test else num_held_out
        self.format = format
        self.ignored_columns: list[str] = []  # of the rows that were read last
        next(self.batches(self.train, log=True), None)  # which settles the format
        held_out = self.rows(splits[test_split]) if has_test else itertools.islice(self.rows(self.train), num_held_out)
        self.held_out = list(held_out) or None

    def batches(self, split: Split, *, log: bool = False) -> Iterator[list[dict]]:
        """Rows as they come, some at a time; raise UserError that lists the mistakes among as many.

        log: warn of what is done to the first of them as they are read.
        """
        problems = Problems()
        checker = RowChecker(split.label, self.kind, self.format, problems.add)
        records = split.open(problems.add)
        while batch := list(itertools.islice(records, ROWS_AT_ONCE)):
            rows = list(checker.rows(batch))
            problems.raise_any()
            self.format, self.ignored_columns = checker.format, checker.columns.ignored_columns()
            if log:
                log_notes(checker)
            yield rows
        problems.raise_any()

    def rows(self, split: Split) -> Iterator[dict]:
        """The rows of a split, one by one."""
        return itertools.chain.from_iterable(self.batches(split))

    def __iter__(self) -> Iterator[dict]:
        return itertools.islice(self.rows(self.train), self.num_left_out, None)


def tokenized_stream(stream: RowStream, tokenize: Callable, counts: dict, sources: dict):
    """A datasets.IterableDataset of what `tokenize(rows)`, a TokenizedRows or alike, makes of the stream.

    counts: gets the counts by name of all rows that were read so far, also of those that wait in a buffer. sources:
    gets "file:line" of the rows that were read last, by their tokens as int32 bytes. Rows that worker processes read
    (--dataloader_num_workers) are not seen.
    """
    import numpy as np
    from datasets import IterableDataset

    def generate():
        rows = iter(stream)
        while batch := list(itertools.islice(rows, ROWS_AT_ONCE)):
            tokenized = tokenize(batch)
            for name, value in tokenized.counts().items():
                if isinstance(value, int):
                    counts[name] = counts.get(name, 0) + value
            sequences = list(tokenized.sequences())
            each = len(sequences) // max(1, len(tokenized.kept))  # of a pair, two
            for number, sequence in enumerate(sequences):
                key = np.array(sequence["input_ids"], dtype=np.int32).tobytes()
                sources[key] = batch[tokenized.kept[number // each]]["source"]
            for key in list(sources)[: max(0, len(sources) - SOURCES_KEPT)]:
                del sources[key]
            yield from tokenized.rows

    return IterableDataset.from_generator(generate)
