"""Turns records into rows of one kind, one by one; every mistake goes to a report, and the good rows come out.

    problems = Problems()
    checker = RowChecker("train.jsonl", CONVERSATIONS, report=problems.add)
    for row in checker.rows(iter_records("train.jsonl", problems.add)): ...
    checker.finish()
    problems.raise_any()

Every command reads rows through this, so what `ftkit data check` passes is what a trainer gets.
"""

from collections.abc import Iterable, Iterator

from ftkit.config.errors import UserError
from ftkit.data.reading.problems import Report, stop
from ftkit.data.reading.records import Record
from ftkit.data.rows.columns import FormatCheck, RowKind


class RowChecker:
    """Holds rows against a kind. label: file name or Hub split, for the place of a mistake.

    format: what the rows turned out to be, None before the first good one.
    """

    def __init__(self, label: str, kind: RowKind, format: str = "auto", report: Report = stop):
        self.label, self.kind, self.report = label, kind, report
        self.columns = FormatCheck(label, kind.formats, format)
        self.summary = kind.summary() if kind.summary else None

    @property
    def format(self) -> str | None:
        """The format of the rows so far, None before the first good one."""
        return self.columns.format

    def pairs(self, records: Iterable[Record]) -> Iterator[tuple[Record, dict]]:
        """Each good record with what the kind makes of it, and with its "source" as "file:line"."""
        for record in records:
            source = f"{self.label}:{record.line}"
            try:
                row = self.kind.convert(record.values, self.columns.check(record), source)
            except UserError as mistake:
                self.report(mistake)
                continue
            row["source"] = source
            if self.summary:
                self.summary.add(row)
            yield record, row

    def rows(self, records: Iterable[Record]) -> Iterator[dict]:
        """The good rows alone."""
        for _, row in self.pairs(records):
            yield row

    def finish(self) -> None:
        """Report what is wrong with the rows as a whole, after the last one."""
        for mistake in self.summary.mistakes() if self.summary else ():
            self.report(mistake)

    def notes(self) -> list[str]:
        """What a person should know of the rows."""
        return self.summary.notes() if self.summary else []
