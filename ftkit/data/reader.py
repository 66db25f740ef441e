"""Reads .json, .jsonl, .csv, .parquet and .txt files strictly: nothing is guessed, dropped or made null in silence.

    records = read_records("train.jsonl")

Every mistake is a UserError `file:line: reason; fix`, where line is the one on which the record starts.
"""

import csv
import io
import json
import re
from pathlib import Path
from typing import NamedTuple

from ftkit.config.errors import UserError, did_you_mean

BOM = "\ufeff"
CSV_FIELD_LIMIT = 2**31 - 1  # characters; the csv module's own limit of 131,072 is shorter than some documents
SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
JSON_SPACE = re.compile(r"[ \t\r\n]*")
# Keys of one row whose value is a list of objects: an object holding one of them is a row, not a wrapper around rows.
ROW_LIST_KEYS = ("messages", "conversations", "prompt", "completion", "chosen", "rejected", "tools")


class Record(NamedTuple):
    """values: one row by column. line: 1-based line where the row starts (parquet: 1-based row number)."""

    values: dict
    line: int


class BadValue(ValueError):
    """A JSON value that is well formed but refused; the reader adds file and line."""


def read_records(path: str | Path) -> list[Record]:
    """Return the rows of a file, in order, as `Record`s. The kind of file is told by its suffix.

    .json: an array of objects, objects one after another, or an object with a single list of objects. .txt: one row
    {"text": line} per non-blank line. .csv: values stay text ("NA", "null" and "nan" too).
    Raises UserError for a missing or empty file, an unknown suffix, and text that is not a row.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(missing_file_message(path))
    readers = {".json": read_json, ".jsonl": read_jsonl, ".csv": read_csv, ".parquet": read_parquet, ".txt": read_txt}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise UserError(f'{path}: unknown file type "{path.suffix}"; use one of {", ".join(readers)}')
    records = reader(path)
    if not records:
        raise UserError(f"{path}: the file has no rows; add at least one")
    return records


def missing_file_message(path: Path) -> str:
    """Say what is wrong with a path that is no file, with the nearest name beside it."""
    if path.is_dir():
        return f"{path}: is a folder, not a file; name a file in it"
    siblings = [sibling.name for sibling in path.parent.iterdir()] if path.parent.is_dir() else []
    hint = did_you_mean(path.name, siblings) or "; check the path"
    return f"{path}: no such file{hint}"


def read_text(path: Path) -> str:
    """Return the file's text without its byte-order mark; raise UserError if it is empty or not UTF-8."""
    data = path.read_bytes()
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise UserError(f"{path}:1: the file is UTF-16, not UTF-8; save it as UTF-8")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line_start = data.rfind(b"\n", 0, error.start) + 1
        line = data.count(b"\n", 0, error.start) + 1
        column = len(data[line_start : error.start].decode("utf-8")) + 1
        raise UserError(
            f"{path}:{line}: not UTF-8 (byte 0x{data[error.start]:02x} at column {column}); save the file as UTF-8"
        ) from error
    text = text.removeprefix(BOM)
    if not text.strip():
        raise UserError(f"{path}: the file is empty; add at least one row")
    return text


def read_txt(path: Path) -> list[Record]:
    """One row per non-blank line."""
    lines = enumerate(read_text(path).split("\n"), start=1)
    return [Record({"text": line.rstrip("\r")}, number) for number, line in lines if line.strip()]


def read_jsonl(path: Path) -> list[Record]:
    """One object per line; blank lines are skipped."""
    lines = read_text(path).split("\n")
    decoder = strict_decoder()
    records = []
    for number, line in enumerate(lines, start=1):
        if line.strip(" \t\r"):
            records.append(jsonl_record(line, f"{path}:{number}", decoder, number == len(lines)))
    return records


def jsonl_record(line: str, where: str, decoder: json.JSONDecoder, is_last: bool) -> Record:
    """The record on one line that is not blank. where: "file:line". is_last: no line follows it."""
    text = line.strip(" \t\r\n")
    number = int(where.rpartition(":")[2])
    try:
        value, end = decoder.raw_decode(text)
    except json.JSONDecodeError as error:
        column = error.pos + 1 + len(line) - len(line.lstrip(" \t\r"))
        if is_last and is_cut_off(error, text):
            raise UserError(f"{where}: the last line is cut off; restore it or delete it") from error
        if text in "[{":
            raise UserError(f"{where}: a record must fit on one line; rename the file to .json") from error
        raise UserError(f"{where}: bad JSON at column {column} ({error.msg}); mend the line") from error
    except BadValue as error:
        raise UserError(f"{where}: {error}") from error
    except RecursionError as error:
        raise UserError(f"{where}: values are nested too deeply; flatten the record") from error
    if end != len(text):
        raise UserError(f"{where}: more text after the record, at column {end + 1}; put one record on each line")
    return checked_record(value, text, number, where)


def read_json(path: Path) -> list[Record]:
    """An array of objects, objects one after another, or an object whose single list of objects holds the rows."""
    text = read_text(path)
    scanner = JsonScanner(path, text)
    if text[scanner.position] == "[":
        return scanner.read_array()
    records = scanner.read_sequence()
    if len(records) == 1:
        lists = [key for key, value in records[0].values.items() if is_object_list(value)]
        if len(lists) == 1 and lists[0] not in ROW_LIST_KEYS:
            return JsonScanner(path, text).read_wrapped(lists[0])
    return records


def is_object_list(value) -> bool:
    """Whether a value can be the list of rows of a wrapped file."""
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


class JsonScanner:
    """Walks through JSON text value by value, so that the line of every record is known; linear in the length."""

    def __init__(self, path: Path, text: str):
        self.path, self.text, self.decoder = path, text, strict_decoder()
        self.counted, self.line = 0, 1
        self.position = 0
        self.skip_space()

    def skip_space(self) -> None:
        self.position = JSON_SPACE.match(self.text, self.position).end()

    def peek(self) -> str:
        """The next character, or an empty string at the end."""
        return self.text[self.position : self.position + 1]

    def line_here(self) -> int:
        """1-based line of the current position, which never moves backwards."""
        self.line += self.text.count("\n", self.counted, self.position)
        self.counted = self.position
        return self.line

    def fail(self, reason: str, line: int | None = None) -> UserError:
        return UserError(f"{self.path}:{line or self.line_here()}: {reason}")

    def read_value(self):
        """Decode the value at the current position and move behind it."""
        line, start = self.line_here(), self.position
        try:
            value, self.position = self.decoder.raw_decode(self.text, start)
        except json.JSONDecodeError as error:
            if is_cut_off(error, self.text.rstrip()):
                raise self.fail("the file is cut off in this record; restore it or delete the record", line) from error
            where = f"line {error.lineno} column {error.colno}" if error.lineno != line else f"column {error.colno}"
            raise self.fail(f"bad JSON at {where} ({error.msg}); mend the record", line) from error
        except BadValue as error:
            raise self.fail(str(error), line) from error
        except RecursionError as error:
            raise self.fail("values are nested too deeply; flatten the record", line) from error
        return value

    def read_record(self) -> Record:
        line, start = self.line_here(), self.position
        value = self.read_value()
        return checked_record(value, self.text[start : self.position], line, f"{self.path}:{line}")

    def read_array(self) -> list[Record]:
        """Read `[object, ...]` up to its closing bracket, then expect the end of the file."""
        records = self.read_items()
        self.skip_space()
        if self.peek():
            raise self.fail("more text after the array; keep one array in the file")
        return records

    def read_items(self) -> list[Record]:
        self.position += 1
        self.skip_space()
        records = []
        while self.peek() != "]":
            records.append(self.read_record())
            self.skip_space()
            if self.peek() == ",":
                self.position += 1
                self.skip_space()
                if self.peek() == "]":
                    raise self.fail('bad JSON: a comma before "]"; delete the comma')
            elif not self.peek():
                raise self.fail('the file is cut off: the array has no closing "]"; restore the end of the file')
            elif self.peek() != "]":
                raise self.fail('bad JSON: expected "," or "]" after a record; mend the file')
        self.position += 1
        return records

    def read_sequence(self) -> list[Record]:
        """Read objects one after another up to the end of the file."""
        records = []
        while self.peek():
            records.append(self.read_record())
            self.skip_space()
            if self.peek() == ",":
                raise self.fail('records are separated by commas but not inside "[ ]"; add the brackets')
        return records

    def read_wrapped(self, key: str) -> list[Record]:
        """Read the rows of `{"key": [object, ...]}`; the text is known to be valid JSON."""
        self.position += 1
        while True:
            self.skip_space()
            name = self.read_value()
            self.skip_space()
            self.position += 1  # the colon
            self.skip_space()
            if name == key:
                return self.read_items()
            self.read_value()
            self.skip_space()
            self.position += 1  # the comma


def strict_decoder() -> json.JSONDecoder:
    """A decoder that refuses duplicate keys and the literals NaN and Infinity, which are not JSON."""

    def object_without_duplicates(pairs):
        values = dict(pairs)
        if len(values) < len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise BadValue(f'key "{twice}" appears twice; keep one')
        return values

    def refuse_constant(name):
        raise BadValue(f"{name} is not JSON; write a number, null or a string")

    return json.JSONDecoder(object_pairs_hook=object_without_duplicates, parse_constant=refuse_constant)


def is_cut_off(error: json.JSONDecodeError, text: str) -> bool:
    """Whether decoding failed because `text` ends in the middle of a value."""
    rest = text[error.pos :]
    half_literal = any(literal.startswith(rest) for literal in ("true", "false", "null", "-"))
    half_escape = error.msg.startswith("Invalid \\u") and len(rest) < len("\\u0000")
    return half_literal or half_escape or error.msg.startswith("Unterminated string")


def checked_record(value, text: str, line: int, where: str) -> Record:
    """Wrap one decoded JSON value; raise UserError unless it is an object whose strings can be written as UTF-8."""
    if not isinstance(value, dict):
        names = {list: "an array", str: "a string", bool: "true or false", type(None): "null"}
        name = names.get(type(value), "a number")
        raise UserError(f'{where}: expected an object, got {name}; write {{"column": value, ...}}')
    if SURROGATE_ESCAPE.search(text):
        try:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError as error:
            raise UserError(f"{where}: half of a surrogate pair, such as \\ud83d; write the whole character") from error
    return Record(value, line)


def read_csv(path: Path) -> list[Record]:
    """Rows of a comma-separated file with a header; every value stays text."""
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    limit = csv.field_size_limit(CSV_FIELD_LIMIT)
    line = 1
    try:
        header, records = None, []
        for row in reader:
            if row and header is None:
                header = checked_header(row, f"{path}:{line}")
            elif row:
                if len(row) != len(header):
                    counts = f"{len(row)} fields, but the header has {len(header)}"
                    raise UserError(f"{path}:{line}: {counts}; quote a field that holds a comma")
                records.append(Record(dict(zip(header, row, strict=True)), line))
            line = reader.line_num + 1
    except csv.Error as error:
        raise UserError(f"{path}:{line}: bad CSV ({error}); close the quotes of the row that starts here") from error
    finally:
        csv.field_size_limit(limit)
    return records


def checked_header(names: list[str], where: str) -> list[str]:
    """Return the column names; raise UserError for an empty or a repeated one."""
    for position, name in enumerate(names, start=1):
        if not name.strip():
            raise UserError(f"{where}: column {position} has no name; name it in the header")
        if names.index(name) != position - 1:
            raise UserError(f'{where}: column "{name}" appears twice; rename one')
    return names


def read_parquet(path: Path) -> list[Record]:
    """Rows of a parquet file, numbered from 1."""
    import pyarrow
    import pyarrow.parquet

    try:
        rows = pyarrow.parquet.read_table(path).to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path}: not a readable parquet file ({reason}); write it again") from error
    return [Record(row, number) for number, row in enumerate(rows, start=1)]
