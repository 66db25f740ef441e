"""A file of answers, written as they come; after a kill the same command goes on with it.

    file = AnswerFile.of(Path("answers.jsonl"), {"temperature": 0.7, "questions": digest})
    for record in answers(start=len(file.records)): file.add(record)
    file.finish()

Until it is whole, NAME.unfinished beside it holds what was asked, and what a comparison of models has so far.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ftkit.config.errors import UserError
from ftkit.config.jsonl import append_jsonl, append_or_print, end_last_line, pass_over_torn, read_jsonl, write_or_print
from ftkit.inference.completion import AnswerToken, Reply

ENDING = ".unfinished"
VERSION = 1


def check_answer_file(path: Path) -> None:
    """Raise UserError where a file is there that no command of ours left unfinished."""
    if path.exists() and not note_of(path).is_file():
        raise UserError(f"{path}: exists already; choose another --output_file")


def note_of(path: Path) -> Path:
    """Where it is written what an unfinished file is to become."""
    return path.with_name(path.name + ENDING)


@dataclasses.dataclass
class AnswerFile:
    """See the module. records: what was there before. replies: of a comparison, by model, in the order of questions."""

    path: Path
    asked: dict[str, Any]
    records: list[dict]
    replies: dict[str, list[list[Reply]]]

    @classmethod
    def of(cls, path: Path, asked: dict[str, Any]) -> "AnswerFile":
        """The file at a path as far as it was written; UserError where other answers were asked for then."""
        check_answer_file(path)
        note = note_of(path)
        lines = read_jsonl(note, what="note of an unfinished file", report=pass_over_torn)
        if not lines:
            return cls(path, asked, [], {})
        before = lines[0].get("asked")
        if lines[0].get("version") != VERSION or not isinstance(before, dict):
            raise UserError(f"{note}:1: another version of ftkit wrote it; remove it and {path.name}, and begin again")
        changed = differences(before, json.loads(json.dumps(asked)))
        if changed:
            raise UserError(
                f"{path}: was begun otherwise ({'; '.join(changed)}); ask as before, or choose another --output_file"
            )
        end_last_line(path)
        replies: dict[str, list[list[Reply]]] = {}
        for line in lines[1:]:
            replies.setdefault(line["model"], []).append([reply_of(one) for one in line["replies"]])
        return cls(path, asked, read_jsonl(path), replies)

    def begin(self) -> None:
        """Write down what is asked, where that is not done yet."""
        if not note_of(self.path).is_file():
            append_jsonl(note_of(self.path), [{"version": VERSION, "asked": self.asked}])

    def add(self, record: dict) -> None:
        """Add the answers to a question."""
        self.begin()
        append_or_print(self.path, record)

    def add_replies(self, model: str, replies: Sequence[Reply]) -> None:
        """Keep one model's replies to its next question."""
        self.begin()
        append_jsonl(
            note_of(self.path), [{"model": model, "replies": [dataclasses.asdict(reply) for reply in replies]}]
        )

    def write(self, records: Iterable[dict]) -> None:
        """Write all records again, whole."""
        self.begin()
        write_or_print(self.path, records)

    def finish(self) -> None:
        """Take the note away: the file is whole."""
        note_of(self.path).unlink(missing_ok=True)


def differences(before: dict, now: dict) -> list[str]:
    """What was asked otherwise, in words."""
    found = []
    for name in sorted(before.keys() | now.keys()):
        old, new = before.get(name), now.get(name)
        if old != new:
            is_value = isinstance(old, str | int | float) and isinstance(new, str | int | float) and name != "questions"
            found.append(f"--{name} was {old}, is {new}" if is_value else f"other {name}")
    return found


def questions_digest(questions: Sequence) -> str:
    """What tells the questions of two commands apart."""
    text = json.dumps([question.messages for question in questions], ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def reply_of(record: dict) -> Reply:
    """A reply as it was kept."""
    tokens = [AnswerToken(**{**one, "top": [tuple(pair) for pair in one["top"]]}) for one in record["tokens"]]
    return Reply(**{**record, "tokens": tokens})
