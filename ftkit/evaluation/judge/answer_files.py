"""Answers to be judged, from the files that ftkit writes and from common ones.

items/TASK.jsonl of ftkit bench          {"prompt", "prediction", "reference"}
the file of ftkit generate               {"prompt", "answers": [...]}, or {"prompt", "answers": {model: [...]}}
any file of rows                         {"prompt", "answer" or "completion"}, {"instruction", "input", "output"}
"""

import json
import logging
import os
from dataclasses import replace
from pathlib import Path

from ftkit.config.errors import UserError
from ftkit.data.reading.read_as import AS_WRITTEN, ReadAs
from ftkit.data.reading.reader import Record, read_records
from ftkit.data.rows.thoughts import split_thought, without_thought
from ftkit.inference.judging import Answered, prompt_text

logger = logging.getLogger(__name__)

ANSWER_KEYS = ("prediction", "answer", "completion", "output", "answers")


def read_answers(sources: list[str], read_as: ReadAs = AS_WRITTEN) -> dict[str, list[Answered]]:
    """Answers by model, from FILE or NAME=FILE; a file's own name where none is given.

    Raises UserError, `file:line: reason; fix`, for rows that are no answers and for a name that is taken.
    """
    found: dict[str, list[Answered]] = {}
    for source in sources:
        name, equals, path = source.partition("=")
        if not equals or os.path.exists(source):  # Path.exists raises for a name that is too long
            name, path = "", source
        for model, rows in answers_of_file(path, name or Path(path).stem, read_as).items():
            if model in found:
                raise UserError(f'{path}: "{model}" has answers already; name this file, NAME={path}')
            found[model] = rows
    return with_one_reference(found)


def with_one_reference(answers: dict[str, list[Answered]]) -> dict[str, list[Answered]]:
    """`answers` in which all models have the reference that one of them has for a question.

    Raises UserError where two have different ones.
    """
    known: dict[tuple[int, str], tuple[str, str]] = {}  # of a row and its question: the reference, and whose it is
    for model, rows in answers.items():
        for number, row in enumerate(rows):
            first, whose = known.setdefault((number, row.prompt), (row.reference, model))
            if not first:
                known[number, row.prompt] = row.reference, model
            elif row.reference and row.reference != first:
                raise UserError(
                    f'{whose} and {model} have different references in row {number + 1}, "{first[:40]}" and '
                    f'"{row.reference[:40]}"; keep one'
                )
    return {
        model: [replace(row, reference=known[number, row.prompt][0]) for number, row in enumerate(rows)]
        for model, rows in answers.items()
    }


def answers_of_file(path: str, name: str, read_as: ReadAs = AS_WRITTEN) -> dict[str, list[Answered]]:
    """Answers by model; a file of ftkit generate may hold those of several."""
    found: dict[str, list[Answered]] = {}
    num_thoughts = 0
    for record in read_records(path, read_as):
        where = f"{path}:{record.line}"
        prompt, reference = prompt_of(record, where), record.values.get("reference")
        reference, turns = "" if reference is None else reference, record.values.get("prompt")
        turns = turns if isinstance(turns, list) else None
        for model, answer in named_answers(record, name, where).items():
            if not isinstance(answer, str) or not isinstance(reference, str):
                raise UserError(f"{where}: answer and reference must be strings; put them in quotes")
            thought, answer = split_thought(answer)
            num_thoughts += thought is not None
            found.setdefault(model, []).append(Answered(prompt, answer, without_thought(reference), turns))
    if num_thoughts:
        think = f"{num_thoughts:,} answers think" if num_thoughts > 1 else "1 answer thinks"
        logger.warning("%s: %s first; thoughts are not judged", path, think)
    counts = {len(rows) for rows in found.values()}
    if len(counts) > 1:
        raise UserError(f"{path}: its models have different numbers of answers; let all answer every prompt")
    return found


def prompt_of(record: Record, where: str) -> str:
    """What was asked, as one text."""
    values = record.values
    prompt = values.get("prompt", values.get("instruction"))
    prompt = prompt_text(prompt) if isinstance(prompt, list) else prompt
    if not isinstance(prompt, str) or not prompt.strip():
        raise UserError(f'{where}: no "prompt" or "instruction"; say what was asked, such as --columns prompt=Question')
    return prompt + (f"\n\n{values['input']}" if "prompt" not in values and values.get("input") else "")


def named_answers(record: Record, name: str, where: str) -> dict:
    """Answers by model in one row; of several by one model the first."""
    key = next((key for key in ANSWER_KEYS if key in record.values), None)
    if key is None:
        raise UserError(f"{where}: no answer; give one as {', '.join(ANSWER_KEYS)}")
    value = record.values[key]
    if key == "answers":
        named = value if isinstance(value, dict) else {name: value}
        if not all(isinstance(texts, list) and texts for texts in named.values()):
            raise UserError(
                f'{where}: "answers" must hold lists of texts, as ftkit generate writes them: {json.dumps(value)[:60]}'
            )
        return {model: texts[0] for model, texts in named.items()}
    if key == "completion" and isinstance(value, list):
        value = value[-1].get("content") if value and isinstance(value[-1], dict) else None
    return {name: value}
