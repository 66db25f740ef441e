"""Reads .jsonl and .json files record by record, in memory that does not grow with the file.

records = read_jsonl_rows(Path("train.jsonl"), problems.add)

A file's structure may break in a way that leaves no next record to go on with; the mistake is then the last one named.
"""

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

from ftkit.config.errors import UserError
from ftkit.data.reading.problems import Report
from ftkit.data.reading.read_as import AS_WRITTEN, ReadAs
from ftkit.data.reading.records import Record
from ftkit.data.reading.strict_json import StrictDecoder, explain, is_cut_off
from ftkit.data.reading.text_file import Progress, describe_flaw, find_flaw, line_flaw, numbered_lines, open_text

CHUNK = 2**20  # characters of a .json file that are read at once
LONGEST_LITERAL = len("-Infinity")  # how far a decoder must look ahead, at most
JSON_SPACE = re.compile(r"[ \t\r\n]*")
TOO_DEEP = "values are nested too deeply; flatten the record"
# Keys of one row whose value is a list of objects: an object holding one of them is a row, not a wrapper around rows.
ROW_LIST_KEYS = ("messages", "conversations", "prompt", "completion", "chosen", "rejected", "tools")


def read_jsonl_rows(
    path: Path, report: Report, progress: Progress | None = None, read_as: ReadAs = AS_WRITTEN
) -> Iterator[Record]:
    """One object per line; blank lines are skipped."""
    decoder = StrictDecoder()
    with open_text(path, encoding=read_as.encoding) as file:
        for number, line in numbered_lines(file, progress):
            text = line.strip(" \t\r\n")
            if not text:
                continue
            if text in "[{":
                raise UserError(f"{path}:{number}: a record must fit on one line; rename the file to .json")
            try:
                values = jsonl_values(text, line, decoder)
            except ValueError as error:
                report(UserError(f"{path}:{number}: {error}"))
            else:
                yield Record(values, number)


def is_spread_over_lines(path: Path, read_as: ReadAs = AS_WRITTEN) -> bool:
    """Whether a .jsonl file is JSON of another layout: an array, or records of several lines."""
    with open_text(path, encoding=read_as.encoding) as file:
        first = next((text for line in file if (text := line.strip(" \t\r\n"))), "")
    return first.startswith("[") or first == "{"


def jsonl_values(text: str, line: str, decoder: StrictDecoder) -> dict:
    """The object that `text`, a stripped line, holds; raise ValueError with the reason and its fix."""
    flaw = line_flaw(line)
    if flaw:
        raise ValueError(flaw)
    indent = len(line) - len(line.lstrip(" \t\r"))
    try:
        value, end = decoder.raw_decode(text, 0)
    except RecursionError as error:
        raise ValueError(TOO_DEEP) from error
    except ValueError as error:
        if not line.endswith("\n") and isinstance(error, json.JSONDecodeError) and is_cut_off(error, text):
            raise ValueError("the last line is cut off; restore it or delete it") from error
        position, reason = explain(error)
        raise ValueError(f"bad JSON at column {position + indent + 1} ({reason}); fix the line") from error
    if end != len(text):
        raise ValueError(f"more text after the record, at column {end + indent + 1}; put one record on each line")
    flaw = decoder.flaw_of(value, text)
    if flaw:
        raise ValueError(flaw)
    return value


def read_json_rows(
    path: Path, report: Report, progress: Progress | None = None, read_as: ReadAs = AS_WRITTEN
) -> Iterator[Record]:
    """An array of objects, objects one after another, or an object whose single list of objects holds the rows."""
    with open_text(path, encoding=read_as.encoding) as file:
        scanner = JsonScanner(path, file, report, progress)
        try:
            yield from scanner.read_file()
        except BrokenStructure as error:
            report(UserError(str(error)))


class BrokenStructure(ValueError):
    """A mistake after which no record can be found; the text is "file:line: reason; fix"."""


class JsonScanner:
    """Walks through JSON text value by value, so that the line of every record is known; linear in the length.

    text[position:] is what was read of the file and is not decoded yet; `line` is the line at `counted`; `lead` is the
    number of characters that were dropped of the first line of `text`.
    """

    def __init__(self, path: Path, file: io.TextIOWrapper, report: Report, progress: Progress | None):
        self.path, self.file, self.report, self.progress = path, file, report, progress
        self.decoder = StrictDecoder()
        self.text, self.position, self.at_end = "", 0, False
        self.counted, self.line, self.lead = 0, 1, 0

    def read_more(self) -> bool:
        """Drop what is decoded and read at least as much as is left, so that long values cost linear time in all."""
        if self.at_end:
            return False
        self.line_here()
        last_break = self.text.rfind("\n", 0, self.position)
        self.lead = self.position - last_break - 1 if last_break >= 0 else self.lead + self.position
        self.text = self.text[self.position :]
        self.position = self.counted = 0
        piece = self.file.read(max(CHUNK, len(self.text)))
        self.at_end = not piece
        self.text += piece
        if self.progress:
            self.progress(self.file.buffer.tell())
        return bool(piece)

    def peek(self) -> str:
        """The next character after white space, or an empty string at the end of the file."""
        while True:
            self.position = JSON_SPACE.match(self.text, self.position).end()
            if self.position < len(self.text) or not self.read_more():
                return self.text[self.position : self.position + 1]

    def line_here(self) -> int:
        """1-based line of the current position."""
        self.line += self.text.count("\n", self.counted, self.position)
        self.counted = self.position
        return self.line

    def broken(self, why: str, line: int | None = None) -> BrokenStructure:
        """A mistake at a line, the current one if none is given."""
        return BrokenStructure(f"{self.path}:{line or self.line_here()}: {why}")

    def read_value(self):
        """Decode the value at the current position and move past it."""
        line = self.line_here()
        while True:
            try:
                value, end = self.decoder.raw_decode(self.text, self.position)
            except RecursionError as error:
                raise self.broken(TOO_DEEP, line) from error
            except ValueError as error:
                if self.at_end or not self.may_go_on(error):
                    raise self.bad_value(error, line) from error
            else:
                if end < len(self.text) or self.at_end:  # a number at the end may have more digits
                    self.position = end
                    return value
            self.read_more()

    def may_go_on(self, error: ValueError) -> bool:
        """Whether the value may only seem broken because it is not read to its end."""
        if not isinstance(error, json.JSONDecodeError):
            return False
        return error.msg.startswith("Unterminated string") or error.pos + LONGEST_LITERAL > len(self.text)

    def bad_value(self, error: ValueError, line: int) -> BrokenStructure:
        """The mistake in the value that begins at the current position, on `line`."""
        if not isinstance(error, json.JSONDecodeError):
            return self.broken(f"bad JSON ({explain(error)[1]}); fix the record", line)
        flaw = self.find_flaw(error.pos + 1, line)
        if flaw:
            return self.broken(flaw, line)
        if is_cut_off(error, self.text.rstrip()):
            return self.broken("the file is cut off in this record; restore it or delete the record", line)
        position, reason = explain(error)
        return self.broken(f"bad JSON at {self.place(position, line)} ({reason}); fix the record", line)

    def find_flaw(self, end: int, line: int) -> str | None:
        """What makes the text of a record unusable, with its place. end: position after it; line: where it begins."""
        found = find_flaw(self.text, self.counted, end)
        return describe_flaw(found[1], self.place(found[0], line), found[2]) if found else None

    def place(self, position: int, line: int) -> str:
        """A position in a record as "column N", or "line M column N" where it is not on the record's first line."""
        line_start = self.text.rfind("\n", 0, position)
        column = position - line_start + (self.lead if line_start < 0 else 0)
        lines_before = self.text.count("\n", self.counted, position)
        return f"line {line + lines_before} column {column}" if lines_before else f"column {column}"

    def read_record(self) -> Iterator[Record]:
        """Decode one record; yields it, or reports why it is none."""
        line = self.line_here()
        value = self.read_value()
        # Nothing was dropped after `counted`, where the record begins.
        flaw = self.find_flaw(self.position, line)
        flaw = flaw or self.decoder.flaw_of(value, self.text[self.counted : self.position])
        if flaw:
            self.report(UserError(f"{self.path}:{line}: {flaw}"))
        else:
            yield Record(value, line)

    def read_file(self) -> Iterator[Record]:
        """All records of the file, whichever of the three forms it has."""
        if self.peek() == "[":
            yield from self.read_items()
            if self.peek():
                raise self.broken("more text after the array; keep one array in the file")
        elif self.peek() == "{" and (place := self.find_wrapped()):
            yield from self.read_wrapped(*place)
        else:
            yield from self.read_sequence()

    def read_items(self) -> Iterator[Record]:
        """Read `[object, ...]` up to and with its closing bracket."""
        self.position += 1
        if self.peek() == "]":
            self.position += 1
            return
        while True:
            yield from self.read_record()
            sign = self.peek()
            if sign == ",":
                self.position += 1
                if self.peek() == "]":
                    raise self.broken('bad JSON: a comma before "]"; delete the comma')
            if not self.peek():
                raise self.broken('the file is cut off: the array has no closing "]"; restore the end of the file')
            if sign == "]":
                self.position += 1
                return
            if sign != ",":
                raise self.broken('bad JSON: expected "," or "]" after a record; fix the file')

    def read_sequence(self) -> Iterator[Record]:
        """Read objects one after another up to the end of the file."""
        while self.peek():
            yield from self.read_record()
            if self.peek() == ",":
                raise self.broken('records are separated by commas but not inside "[ ]"; add the brackets')

    def find_wrapped(self) -> tuple[str, int] | None:
        """(key, position) of the list of rows in the object that begins here, or None if the object is a row itself.

        An object of which more than a chunk follows its first list of objects is taken for a wrapper.
        """
        while True:
            try:
                found = first_object_list(self.text, self.position, self.decoder)
                break
            except RecursionError:
                return None
            except (ValueError, IndexError) as error:
                if (isinstance(error, ValueError) and not self.may_go_on(error)) or not self.read_more():
                    return None
        if found is None:
            return None
        try:
            values, end = self.decoder.raw_decode(self.text, self.position)
        except (ValueError, RecursionError):  # longer than what is read, or broken: read_items will tell
            return found
        if JSON_SPACE.match(self.text, end).end() < len(self.text):
            return None  # more objects follow
        return found if sum(map(is_object_list, values.values())) == 1 else None

    def read_wrapped(self, key: str, position: int) -> Iterator[Record]:
        """Read the rows of `{..., key: [object, ...], ...}`; the list begins at `position`."""
        self.position = position
        yield from self.read_items()
        while (sign := self.peek()) == ",":
            self.position += 1
            if self.peek() == "}":
                raise self.broken('bad JSON: a comma before "}"; delete the comma')
            name = self.read_value()
            if self.peek() != ":":
                raise self.broken('bad JSON: expected ":" after a key; fix the file')
            self.position += 1
            self.peek()
            if is_object_list(self.read_value()):
                raise self.broken(f'both "{key}" and "{name}" are lists of objects; keep the one that holds the rows')
        if sign != "}":
            raise self.broken('the file is cut off: the object has no closing "}"; restore the end of the file')
        self.position += 1
        if self.peek():
            raise self.broken("more text after the object that holds the rows; keep one object in the file")


def is_object_list(value) -> bool:
    """Whether a value can be the list of rows of a wrapped file."""
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


def first_object_list(text: str, position: int, decoder: StrictDecoder) -> tuple[str, int] | None:
    """(key, position) of the first `[{` among the values of the object at `position`, unless a row has such a key.

    Raises ValueError or IndexError where the text ends too early.
    """

    def skip_space() -> int:
        return JSON_SPACE.match(text, position).end()

    while True:
        position += 1  # the brace or the comma
        position = skip_space()
        if text[position] == "}":
            return None
        key, position = decoder.raw_decode(text, position)
        position = skip_space()
        if not isinstance(key, str) or text[position] != ":":
            return None  # no JSON
        position += 1
        position = skip_space()
        if text[position] == "[" and text[JSON_SPACE.match(text, position + 1).end()] == "{":
            return None if key in ROW_LIST_KEYS else (key, position)
        _, position = decoder.raw_decode(text, position)
        position = skip_space()
        if text[position] != ",":
            return None
