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
    is_begun: bool = False

    @classmethod
    def of(cls, path: Path, asked: dict[str, Any]) -> "AnswerFile":
        """The file at a path as far as it was written; UserError where other answers were asked for then."""
        check_answer_file(path)
        note = note_of(path)
        lines = read_jsonl(note, checked, what="note of an unfinished file", report=pass_over_torn)
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
        return cls(path, asked, read_jsonl(path), replies, is_begun=True)

    def begin(self) -> None:
        """Write down what is asked, where that is not done yet."""
        if not self.is_begun:
            self.is_begun = True
            append_jsonl(note_of(self.path), [{"version": VERSION, "asked": self.asked}])

    @property
    def finish_reasons(self) -> list[str]:
        """What ended each answer that was there before."""
        named = [record["finish_reasons"] for record in self.records]
        by_voice = [list(one.values()) if isinstance(one, dict) else [one] for one in named]
        return [reason for voices in by_voice for reasons in voices for reason in reasons]

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


def checked(line: dict) -> dict:
    """A line of a note. Raises ValueError for what is none."""
    is_reply = isinstance(line.get("model"), str) and isinstance(line.get("replies"), list)
    if not is_reply and "version" not in line:
        raise ValueError("neither what was asked nor a reply")
    return line


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
