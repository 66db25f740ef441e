"""Finds a file's format by its columns, and holds every row against the format of the first.

check = FormatCheck("train.jsonl", formats)
for record in records:
    format = check.check(record)

A table of formats maps each name to (required keys, optional keys). Where a row fits several, the first counts.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, Protocol

from ftkit.config.errors import UserError, did_you_mean
from ftkit.data.reading.records import Record
from ftkit.data.rows.extras import RESULT_KEYS, RESULT_ROLES, TOOL_COLUMNS, TURN_KEYS, is_filled
from ftkit.data.rows.known_names import proposal

UNHINTED = ("history", "functions")  # columns that others resemble, such as a story or a function


class Summary(Protocol):
    """What is seen of all rows of a split together."""

    def add(self, row: dict) -> None:
        """Look at one more row."""

    def mistakes(self) -> list[UserError]:
        """What is wrong with the rows as a whole."""

    def notes(self) -> list[str]:
        """What a person should know of them."""


class RowKind(NamedTuple):
    """What a command trains on. formats: a table of them. convert: (values, format, "file:line") to a row, a dict.

    summary: makes what looks at all rows together; None where each row is checked by itself.
    unfold: makes of all rows those that a trainer takes, where they are not the same.
    """

    formats: dict
    convert: Callable[[dict, str, str], dict]
    summary: Callable[[], Summary] | None = None
    unfold: Callable[[list[dict]], list[dict]] | None = None


class FormatCheck:
    """Finds the format of the first row that has one, and refuses rows of another.

    Columns that belong to no format (id, source, ...) are tolerated unless they nearly spell a missing one.
    format: None until it is found. columns: all that were seen.
    """

    def __init__(self, path: str, formats: dict, format: str = "auto"):
        if format != "auto" and format not in formats:
            hint = did_you_mean(format, formats)
            raise UserError(f'unknown format "{format}"{hint}; allowed: auto, {", ".join(formats)}')
        self.path, self.formats = path, formats
        self.format = None if format == "auto" else format
        self.expected = f"{format} is expected"
        self.columns: dict = {}  # an ordered set
        self.checked: set[tuple] = set()
        self.refused: dict[tuple, str] = {}  # columns and the format before them -> what is wrong, after the place
        self.used: set[str] = set()

    def check(self, record: Record) -> str:
        """Return the format; raise UserError if the record has none, or another one than the records before it."""
        keys = tuple(record.values)
        if keys not in self.checked:
            self.columns |= dict.fromkeys(keys)
            where = record.where(self.path)
            if (keys, self.format) in self.refused:
                raise UserError(where + self.refused[keys, self.format])
            try:
                self.check_new(keys, where, record.line)
            except UserError as mistake:
                self.refused[keys, self.format] = str(mistake).removeprefix(where)
                raise
        for column in (self.used & record.values.keys()).difference(TOOL_COLUMNS):
            self.columns |= dict.fromkeys(unused_keys(record.values[column], column))
        return self.format

    def check_new(self, keys: tuple, where: str, line: int) -> None:
        """Look at columns that no row before had; settles the format where it is not known yet."""
        if self.format is None:
            found = format_of_keys(keys, self.formats)
            if found is None:
                raise UserError(no_format_message(keys, where, self.formats))
            check_keys(keys, found, where, "", self.formats)
            self.format, self.expected = found, f"line {line} is {found}"
        check_keys(keys, self.format, where, self.expected, self.formats)
        self.checked.add(keys)
        self.used = set().union(*self.formats[self.format])

    def ignored_columns(self) -> list[str]:
        """The columns that the format does not use, sorted; keys of turns that nothing uses as "messages[].name"."""
        return sorted({str(key) for key in self.columns} - self.used)


def unused_keys(value, column: str) -> Iterator[str]:
    """The filled keys of a column's turns that are not used, as "messages[].name"."""
    for turn in value if isinstance(value, list) else [value]:
        if isinstance(turn, dict):
            is_result = turn.get("role", turn.get("from")) in RESULT_ROLES
            for key in turn.keys() - TURN_KEYS - set(RESULT_KEYS if is_result else ()):
                if is_filled(turn[key]):
                    yield f"{column}[].{key}" if isinstance(value, list) else f"{column}.{key}"


def format_of_keys(keys: Iterable[str], formats: dict) -> str | None:
    """The first format whose required keys are all there, or None."""
    return next((name for name, (required, _) in formats.items() if set(required) <= set(keys)), None)


def no_format_message(keys: tuple, where: str, formats: dict) -> str:
    """Explain a row whose columns fit no format."""
    candidates = []
    for required, optional in formats.values():
        missing = [key for key in required if key not in keys]
        hints = [nearest_key(key, (*required, *optional), keys) for key in keys]
        misspelt = [(key, hint) for key, hint in zip(keys, hints, strict=True) if hint in missing]
        if len(misspelt) == len(missing):
            candidates.append(misspelt[0])
    if candidates:
        return f'{where}: unknown key "{candidates[0][0]}"; did you mean "{candidates[0][1]}"?'
    if {"chosen", "rejected"} <= set(keys):
        return f"{where}: chosen/rejected rows are preferences: ftkit dpo; or rename chosen to completion"
    known = "; ".join("+".join(required) for required, _ in formats.values())
    pairs = proposal(keys, formats)
    fix = f"say which is which, such as --columns {pairs}" if pairs else f"rename them to one of: {known}"
    return f"{where}: the columns {', '.join(map(str, keys)) or '(none)'} fit no format; {fix}"


def nearest_key(key: str, known: Iterable[str], present: Iterable[str]) -> str | None:
    """The known key that `key` misspells, or None if `key` is known or the one it resembles is present already."""
    known = tuple(known)
    if key in known:
        return None
    hint = did_you_mean(str(key).strip().lower(), known)
    nearest = hint.split('"')[1] if hint else None
    return nearest if nearest and nearest not in present and is_near(str(key), nearest) else None


def is_near(word: str, known: str) -> bool:
    """Whether `word` is `known` with few slips (one and another per six letters): changed, added, missing, swapped."""
    word, known = word.strip().lower(), known.lower()
    allowed = 1 + len(known) // 6
    if abs(len(word) - len(known)) > allowed:
        return False
    before, current = None, list(range(len(known) + 1))
    for i, letter in enumerate(word, start=1):
        previous, current = current, [i]
        for j, other in enumerate(known, start=1):
            cost = min(previous[j] + 1, current[-1] + 1, previous[j - 1] + (letter != other))
            if before and j > 1 and letter == known[j - 2] and word[i - 2] == other:
                cost = min(cost, before[j - 2] + 1)
            current.append(cost)
        before = previous
    return current[-1] <= allowed


def check_keys(keys: tuple, format: str, where: str, expected: str, formats: dict) -> None:
    """Raise UserError if a row lacks a required key of its format or misspells a key."""
    required, optional = formats[format]
    missing = [key for key in required if key not in keys]
    other = format_of_keys(keys, formats)
    if missing and other:
        raise UserError(f"{where}: this row is {other}, but {expected}; keep one format in a file")
    for key in keys:
        nearest = nearest_key(key, (*required, *optional), keys)
        if nearest and nearest not in UNHINTED:
            raise UserError(f'{where}: unknown key "{key}"; did you mean "{nearest}"?')
    if missing:
        raise UserError(f'{where}: key "{missing[0]}" is missing (format {format}); add it')
