"""One row as it was read."""

from typing import NamedTuple


class Record(NamedTuple):
    """values: one row by column. line: 1-based line where the row starts (parquet and Hub: 1-based row number)."""

    values: dict
    line: int
