"""JSON Lines as ftkit writes and reads them: an object per line, which ends at "\\n" alone, and no NaN.

    write_jsonl(Path("rows.jsonl"), rows)
    append_jsonl(Path("OUT/metrics.jsonl"), [{"step": 10, "loss": 2.5}])
    records = read_jsonl(Path("OUT/metrics.jsonl"))

Texts hold U+0085, U+2028 and form feeds as they are; `str.splitlines` cuts at them, so nothing here uses it.
Rows that a person wrote are read by `ftkit.data.reading`, which names what is wrong with them.
"""

import json
import logging
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ftkit.config.disk import writing
from ftkit.config.errors import UserError
from ftkit.config.files import write_text

logger = logging.getLogger(__name__)


class TornLine(UserError):
    """The last line of a file is no record and has no end: a kill or a full disk came in between."""


def json_line(record: dict) -> str:
    """A record with the end of its line. Raises ValueError for NaN and infinities, which are no JSON."""
    return json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n"


def write_jsonl(path: Path, records: Iterable[dict]) -> int:
    """Write a file, whole or not at all; return the number of records."""
    lines = [json_line(record) for record in records]
    write_text(path, "".join(lines))
    return len(lines)


def write_or_print(path: Path, records: Iterable[dict]) -> None:
    """Write a file of what took long to make; where it can't be written, print it before the OSError is raised."""
    kept = list(records)
    try:
        write_jsonl(path, kept)
    except OSError:
        sys.stdout.writelines(map(json_line, kept))
        raise


def append_or_print(path: Path, record: dict) -> None:
    """Add a record of what took long to make; where it can't be written, print it before the OSError is raised."""
    try:
        append_jsonl(path, [record])
    except OSError:
        sys.stdout.write(json_line(record))
        raise


def append_jsonl(path: Path, records: Iterable[dict]) -> None:
    """Add records after the last whole line of a file, which is made where there is none."""
    content = "".join(json_line(record) for record in records).encode("utf-8")
    with writing(path, need=len(content)):
        end_last_line(path)
        with path.open("ab") as file:
            file.write(content)


def end_last_line(path: Path) -> None:
    """Give the last line the end that it lacks; cut it off where it is torn. Nothing without a file."""
    if not path.is_file() or path.stat().st_size == 0:
        return
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        if file.read(1) == b"\n":
            return
        file.seek(0)
        content = file.read()
        start = content.rfind(b"\n") + 1
        try:
            parse_line(content[start:])
        except ValueError:
            file.truncate(start)
        else:
            file.write(b"\n")


def read_jsonl(
    path: Path,
    make: Callable[[dict], Any] = dict,
    *,
    what: str = "record",
    fix: str = "restore the file",
    report: Callable[[UserError], None] | None = None,
) -> list:
    """What `make` makes of each object of a file; [] where there is no file. Blank lines are skipped.

    A line that is no object, or for which `make` raises ValueError or TypeError, is a mistake: `path:line: no {what}
    (reason); {fix}`, a TornLine at a torn end. report: takes the mistakes, and their lines are left out; without it
    the first is raised.
    """
    found: list = []
    if not path.is_file():
        return found
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                found.append(make(parse_line(line)))
            except (ValueError, TypeError) as error:
                kind = UserError if line.endswith(b"\n") else TornLine
                mistake = kind(f"{path}:{number}: no {what} ({error}); {fix}")
                if report is None:
                    raise mistake from error
                report(mistake)
    return found


def parse_line(line: bytes) -> dict:
    """The object in a line. Raises ValueError for anything else."""
    try:
        value = json.loads(line.decode("utf-8"))
    except RecursionError as error:
        raise ValueError("its values are nested too deeply") from error
    if not isinstance(value, dict):
        raise ValueError(f"{type(value).__name__} instead of an object")
    return value


def pass_over_torn(mistake: UserError) -> None:
    """The `report` of a file that may end in a torn line, which is made again; other mistakes are raised."""
    if not isinstance(mistake, TornLine):
        raise mistake


def read_log(path: Path) -> list[dict]:
    """The records that a run wrote as it went; lines that are none are left out, with one warning."""
    broken: list[UserError] = []
    records = read_jsonl(path, report=broken.append)
    if broken:
        logger.warning("%s (lines left out: %d)", broken[0], len(broken))
    return records
