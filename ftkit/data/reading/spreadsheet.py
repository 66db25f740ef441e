"""Reads .xlsx files row by row: the one sheet that holds rows, each value as the text that Excel shows.

records = read_xlsx(Path("train.xlsx"), problems.add)

Needs openpyxl: pip install 'ftkit[xlsx]'.
"""

import datetime
import re
import zipfile
import zlib
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

from ftkit.config.errors import UserError, first_line
from ftkit.data.reading.problems import Report
from ftkit.data.reading.read_as import AS_WRITTEN, ReadAs
from ftkit.data.reading.records import Record
from ftkit.data.reading.table_reader import UNNAMED, blank_row, checked_header, is_blank_row, without_blank_end
from ftkit.data.reading.text_file import Progress

DAMAGE = (KeyError, ValueError, OSError, EOFError, zlib.error, SyntaxError)  # the last of XML
EXCEL_DIGITS = 15  # that a number has in Excel
LOCAL_DATE = "mm-dd-yy"  # Excel's own date, which it shows as the country does: no order of day and month is meant
NUMBER = re.compile(r"(?P<thousands>#,##)?0(?:\.(?P<decimals>0+))?(?P<percent>%)?")  # formats that are followed
DATE_PARTS = re.compile(r"y+|m+|d+|h+|s+|AM/PM", re.IGNORECASE)
DATES = {"yyyy": "%Y", "yy": "%y", "mmmm": "%B", "mmm": "%b", "mm": "%m", "dddd": "%A", "ddd": "%a", "dd": "%d",
         "hh": "%H", "ss": "%S"}  # fmt: skip
NOT_SHOWN = re.compile(r"\[[^\]]*\]|\\|\"|_.|;@|@")  # parts of a date's format that show no part of it


def read_xlsx(
    path: Path, report: Report, progress: Progress | None = None, read_as: ReadAs = AS_WRITTEN
) -> Iterator[Record]:
    """Rows of the sheet that holds any, under its first row that is not blank; a row's line is its number in the sheet.

    Raises UserError without openpyxl, for a file that is none, and where several sheets hold rows.
    """
    try:
        import openpyxl
    except ImportError as error:
        raise UserError(f"{path}: .xlsx files need openpyxl; pip install 'ftkit[xlsx]', or save it as .csv") from error
    try:
        # as values, and as formulas: a formula that was never calculated has no value
        books = [openpyxl.load_workbook(path, read_only=True, data_only=data_only) for data_only in (True, False)]
        for one in (*books[0].worksheets, *books[1].worksheets):
            one.reset_dimensions()  # some programs write wrong ones
        sheet = sheet_with_rows(path, books[0])
        yield from table_rows(path, *(book[sheet].iter_rows() for book in books), report, read_as)
    except UserError:
        raise
    except (zipfile.BadZipFile, openpyxl.utils.exceptions.InvalidFileException, *DAMAGE) as error:
        raise UserError(f"{path}: not a readable .xlsx file ({first_line(error)}); save it again") from error


def sheet_with_rows(path: Path, book) -> str:
    """The name of the one sheet that holds anything; the first where none does."""
    names = [sheet.title for sheet in book.worksheets if any(any(row) for row in sheet.iter_rows(values_only=True))]
    if len(names) > 1:
        raise UserError(f"{path}: the sheets {', '.join(names)} all hold rows; keep one, or save one as .csv")
    return (names or book.sheetnames)[0]


def table_rows(path: Path, values: Iterator, formulas: Iterator, report: Report, read_as: ReadAs) -> Iterator[Record]:
    """The rows under a header, each by its number in the sheet."""
    header = None
    for line, (cells, written) in enumerate(zip_longest(values, formulas, fillvalue=()), start=1):
        where = f"{path}:{line}"
        flaw = next(filter(None, map(cell_flaw, cells, written)), None)
        row = [shown(cell) for cell in cells]
        if flaw:
            report(UserError(f"{where}: {flaw}"))
        elif is_blank_row(row):
            if header:
                yield blank_row(header, line)
        elif header is None and read_as.has_header:
            header = checked_header(row, where)
        else:
            header = header or [str(number) for number in range(1, len(row) + 1)]
            fields = without_blank_end(row, len(header))
            fields += [""] * (len(header) - len(fields))  # a sheet's rows end with their last filled cell
            if len(fields) > len(header):
                report(UserError(f"{where}: {UNNAMED}"))
                continue
            yield Record(dict(zip(header, fields, strict=True)), line)


def cell_flaw(cell, written) -> str | None:
    """Why a cell has no value that could be a row's."""
    if cell.data_type == "e":
        return f'cell {cell.coordinate} is an error, "{cell.value}"; correct its formula'
    if cell.value is None and written.data_type == "f":
        return f"cell {written.coordinate} is a formula that was never calculated; open the file and save it again"
    return None


def shown(cell) -> str:
    """A cell's value as text, as Excel shows it where its format is a common one."""
    value = cell.value
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, int | float):
        return number_text(value, cell.number_format)
    if isinstance(value, datetime.date | datetime.time):
        return date_text(value, cell.number_format)
    return str(value)


def number_text(value: float, number_format: str) -> str:
    """A number under a format such as 0.00, #,##0 or 0%; under any other as it is, without a needless ".0"."""
    found = NUMBER.fullmatch(number_format)
    if found is None:
        return str(value) if isinstance(value, int) else f"{value:.{EXCEL_DIGITS}g}"
    value = value * 100 if found["percent"] else value
    digits = len(found["decimals"] or "")
    return f"{value:{',' if found['thousands'] else ''}.{digits}f}{found['percent'] or ''}"


def date_text(value, number_format: str) -> str:
    """A date or time under a format of years, months, days, hours, minutes and seconds; else as ISO has it."""
    plain = NOT_SHOWN.sub("", number_format)
    is_known, after_hours = bool(DATE_PARTS.search(plain)) and number_format != LOCAL_DATE, False
    parts = []
    for part in re.split(f"({DATE_PARTS.pattern})", plain, flags=re.IGNORECASE):
        low = part.lower()
        if low[:1] == "m" and after_hours:
            parts.append(f"{value.minute:0{len(low)}d}")
        elif low in DATES and hasattr(value, "strftime"):
            parts.append(value.strftime(DATES[low]))
        elif low in ("d", "m", "h", "s"):
            name = {"d": "day", "m": "month", "h": "hour", "s": "second"}[low]
            parts.append(str(getattr(value, name, "")))
        elif DATE_PARTS.fullmatch(part):
            is_known = False
        else:
            parts.append(part)
        after_hours = low[:1] == "h" or (after_hours and not DATE_PARTS.fullmatch(part))
    return "".join(parts) if is_known else str(value).removesuffix(" 00:00:00")
