"""Turns records into rows of one kind, one by one; every mistake goes to a report, and the good rows come out.

    problems = Problems()
    checker = RowChecker("train.jsonl", CONVERSATIONS, report=problems.add)
    for row in checker.rows(iter_records("train.jsonl", problems.add)): ...
    checker.finish()
    problems.raise_any()

Every command reads rows through this, so what `ftkit data check` passes is what a trainer gets.
"""

from collections.abc import Iterable, Iterator

from ftkit.config.amounts import counted
from ftkit.config.errors import UserError
from ftkit.data.reading.problems import Report, stop
from ftkit.data.reading.records import Record
from ftkit.data.rows.columns import FormatCheck, RowKind
from ftkit.data.rows.known_names import known_names, names_note


class RowChecker:
    """Holds rows against a kind. label: file name or Hub split, for the place of a mistake.

    format: what the rows turned out to be, None before the first good one.
    """

    def __init__(self, label: str, kind: RowKind, format: str = "auto", report: Report = stop):
        self.label, self.kind, self.report = label, kind, report
        self.columns = FormatCheck(label, kind.formats, format)
        self.summary = kind.summary() if kind.summary else None
        self.names: dict[str, str] = {}  # name in the file -> column, where they differ
        self.keys: tuple | None = None  # of the rows that were looked at for that
        self.num_blank = 0  # rows of a table that hold nothing

    @property
    def format(self) -> str | None:
        """The format of the rows so far, None before the first good one."""
        return self.columns.format

    def pairs(self, records: Iterable[Record]) -> Iterator[tuple[Record, dict]]:
        """Each good record with what the kind makes of it, and with its "source" as "file:line".

        The record has the columns' names of the form. Blank rows are left out and counted.
        """
        for record in records:
            if record.is_blank:
                self.num_blank += 1
                continue
            record, source = self.renamed(record), record.where(self.label)
            try:
                row = self.kind.convert(record.values, self.columns.check(record), source)
            except UserError as mistake:
                self.report(mistake)
                continue
            row["source"] = source
            if self.summary:
                self.summary.add(row)
            yield record, row

    def renamed(self, record: Record) -> Record:
        """The record with the names of a form's columns where it has others that are known."""
        is_open = not self.names and (self.keys is None or self.format is None)
        if is_open and (keys := tuple(record.values)) != self.keys:
            self.keys, self.names = keys, known_names(keys, self.kind.formats, format=self.format)
        if not self.names:
            return record
        return record._replace(values={self.names.get(name, name): value for name, value in record.values.items()})

    def rows(self, records: Iterable[Record]) -> Iterator[dict]:
        """The good rows alone."""
        for _, row in self.pairs(records):
            yield row

    def finish(self) -> None:
        """Report what is wrong with the rows as a whole, after the last one."""
        for mistake in self.summary.mistakes() if self.summary else ():
            self.report(mistake)

    def reading_notes(self) -> list[str]:
        """What was done to the rows while they were read."""
        notes = []
        if self.names:
            notes.append(names_note(self.names, self.columns.ignored_columns()))
        if self.num_blank:
            notes.append(f"{counted(self.num_blank, 'empty row')} left out")
        return notes

    def notes(self) -> list[str]:
        """What a person should know of the rows."""
        return self.reading_notes() + (self.summary.notes() if self.summary else [])
