"""One row as it was read."""

from typing import NamedTuple


class Record(NamedTuple):
    """values: one row by column. line: 1-based line where the row starts (parquet, .xlsx and Hub: 1-based row number).

    file: which file it is from, where a split has several. is_blank: of a table's row that holds nothing, such as a
    spreadsheet's last ones.
    """

    values: dict
    line: int
    file: str = ""
    is_blank: bool = False

    def where(self, label: str) -> str:
        """The row's place as "file:line". label: of its split."""
        return f"{self.file or label}:{self.line}"
