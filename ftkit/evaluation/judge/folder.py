"""The folder of a judging: whose work it holds, so that no other judge, setting or set of answers goes on in it.

judge.json         the judge's settings, and a hash of each model's answers
judgements.jsonl   every reply, as it came
MODEL/results.json scores, or votes.jsonl: the votes of pairs
"""

import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path

from ftkit.config.errors import UserError
from ftkit.config.files import check_folder, write_json
from ftkit.config.json_object import read_object
from ftkit.config.output_folder import clear, visible_names
from ftkit.evaluation.judge.judge import read_judgements
from ftkit.inference.judging import Answered

NOTE, JUDGEMENTS, VOTES = "judge.json", "judgements.jsonl", "votes.jsonl"
FOLDER_NAME = re.compile(r"(?!\.)[\w.-]{1,60}")
ANSWERS = "answers"


def model_folder(model: str) -> str:
    """The name of a model's folder."""
    return model.replace("/", "-")


def check_models(models: list[str]) -> None:
    """Raise UserError for a model that can't have a folder by its name, or none of its own."""
    taken: dict[str, str] = {}
    for model in models:
        name = model_folder(model).lower()
        if not FOLDER_NAME.fullmatch(name) or name in (NOTE, JUDGEMENTS, VOTES):
            raise UserError(
                f"{json.dumps(model[:60], ensure_ascii=False)} can't name a folder of scores; name its file NAME=FILE, "
                'with at most 60 letters, digits, ".", "_" and "-"'
            )
        if name in taken:
            raise UserError(f"{taken[name]} and {model} would share the folder {name}; name one's file, NAME=FILE")
        taken[name] = model


def claim(folder: Path, settings: dict, answers: dict[str, list[Answered]]) -> None:
    """Note in FOLDER who judges what, or find the same noted.

    Raises UserError for a folder in use by something else, or by another judging, unless that never got a judgement.
    """
    check_folder(folder)
    note = {**settings, ANSWERS: {model: fingerprint(rows) for model, rows in answers.items()}}
    path = folder / NOTE
    if path.is_file():
        before = read_note(path)
        if before != note and any(not one.failure for one in read_judgements(folder / JUDGEMENTS)):
            raise UserError(
                f"{folder}: {difference(before, note)}; choose another --output_dir, or start over by --overwrite"
            )
    elif visible_names(folder):
        raise UserError(f"{folder}: is in use and holds no judgements; choose another --output_dir")
    write_json(path, note)


def forget(folder: Path, answers: Iterable[str]) -> None:
    """Remove a judging, for --overwrite; nothing where the folder holds none. answers: the models' names."""
    if (folder / NOTE).is_file():
        clear(folder, [NOTE, JUDGEMENTS, VOTES, *(model_folder(model) for model in answers)])


def fingerprint(rows: list[Answered]) -> str:
    """A hash of one model's answers."""
    content = json.dumps([(row.prompt, row.answer, row.reference) for row in rows])
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def read_note(path: Path) -> dict:
    """Raises UserError for a file that is not a record of judging."""
    note = read_object(path, "choose another --output_dir")
    if not isinstance(note.get(ANSWERS), dict):
        raise UserError(f"{path}: is not a record of judging; choose another --output_dir")
    return note


def difference(before: dict, now: dict) -> str:
    """The first setting that is another, in words."""
    name = next(name for name in {**now, **before} if before.get(name) != now.get(name))
    if name != ANSWERS:
        return f"was judged with --{name} {json.dumps(before.get(name))}, not {json.dumps(now.get(name))}"
    others = [model for model in now[name] if before[name].get(model) != now[name][model]]
    return f"holds judgements of different answers ({', '.join(others or before[name])}) or of another --limit"
