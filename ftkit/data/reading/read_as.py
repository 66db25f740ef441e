"""How a person says that files are to be read: columns under other names, an encoding, joined turns.

ReadAs.of(columns="instruction=Question,output=Answer", encoding="cp1252")
"""

import csv
from dataclasses import dataclass

from ftkit.config.errors import UserError, did_you_mean
from ftkit.data.reading.joined_turns import with_joined_turns
from ftkit.data.reading.records import Record
from ftkit.data.reading.text_file import known_encoding

EXAMPLE = "instruction=Question,output=Answer"


@dataclass(frozen=True)
class ReadAs:
    """columns: (column of a form, name in the file) pairs. encoding: None for UTF-8, or what a byte-order mark says.

    join_turns: whether turns of the user that follow each other become one.
    """

    columns: tuple[tuple[str, str], ...] = ()
    encoding: str | None = None
    join_turns: bool = False

    @classmethod
    def of(cls, columns: str | None = None, encoding: str | None = None, join_turns: bool = False) -> "ReadAs":
        """As --columns, --encoding and --join_turns say; raise UserError for what they can't mean."""
        if encoding is not None:
            known_encoding(encoding)
        return cls(column_pairs(columns) if columns is not None else (), encoding, join_turns)

    @property
    def has_header(self) -> bool:
        """Whether a table's first row names its columns: not where --columns counts them, label=1,text=2."""
        return not self.columns or not all(name.isdecimal() for _, name in self.columns)

    def applied(self, record: Record, where: str) -> Record:
        """The record with the names of --columns and its turns joined where that was asked for."""
        record = self.renamed(record, where)
        return record._replace(values=with_joined_turns(record.values)) if self.join_turns else record

    def renamed(self, record: Record, where: str) -> Record:
        """The record with the names of --columns; raise UserError where it lacks one of them, or has both."""
        if not self.columns:
            return record
        values = record.values
        missing = next((name for _, name in self.columns if name not in values), None)
        if missing is not None:
            alike = next((f'; did you mean "{name}"?' for name in values if name.lower() == missing.lower()), "")
            hint = alike or did_you_mean(missing, values) or f"; the columns are: {', '.join(values)}"
            raise UserError(f'{where}: --columns names "{missing}", which is not a column{hint}')
        names = {name: column for column, name in self.columns}
        twice = next((name for name in values if name in names.values() and name not in names), None)
        if twice is not None:
            raise UserError(f'{where}: --columns reads another column as "{twice}", and there is one of that name')
        return record._replace(values={names.get(name, name): value for name, value in values.items()})


def column_pairs(text: str) -> tuple[tuple[str, str], ...]:
    """The pairs of "instruction=Question,output=Answer"; a pair that holds a comma is put in quotes."""
    pairs = []
    for part in next(csv.reader([text], skipinitialspace=True), []):
        column, equals, name = part.partition("=")
        if not equals or not column.strip() or not name.strip():
            raise UserError(f'--columns "{part}": write COLUMN=NAME-IN-THE-FILE, such as {EXAMPLE}')
        pairs.append((column.strip(), name.strip()))
    for side in zip(*pairs, strict=True):
        twice = next((name for name in side if side.count(name) > 1), None)
        if twice:
            raise UserError(f'--columns: "{twice}" appears twice; keep one')
    if not pairs:
        raise UserError(f"--columns is empty; write COLUMN=NAME-IN-THE-FILE, such as {EXAMPLE}")
    return tuple(pairs)


AS_WRITTEN = ReadAs()


def add_reading_flags(parser) -> None:
    """Add --columns and --encoding to an argparse parser; `ReadAs.of(args.columns, args.encoding)` reads them."""
    parser.add_argument("--columns", help="columns that have other names: instruction=Question,output=Answer")
    parser.add_argument("--encoding", help="encoding of text files that are not UTF-8, such as cp1252")


def add_turns_flag(parser) -> None:
    """Add --join_turns, for commands that read conversations."""
    parser.add_argument("--join_turns", action="store_true", help="join turns of the user that follow each other")
