"""What rows ask: with the answer that they know, or without one, for `ftkit generate --file`.

turns, reference = question_and_answer(row)     # of a row that RowChecker(label, asking_kind()) gives
questions = read_questions("prompts.txt")
"""

import logging
from pathlib import Path
from typing import NamedTuple

from ftkit.config.errors import UserError
from ftkit.data.reading.loading import load_rows
from ftkit.data.reading.problems import Problems
from ftkit.data.reading.read_as import AS_WRITTEN, ReadAs
from ftkit.data.reading.reader import iter_records
from ftkit.data.rows.checking import RowChecker
from ftkit.data.rows.columns import nearest_key
from ftkit.data.rows.formats import CONVERSATIONS, FORMATS
from ftkit.data.rows.known_names import known_names, names_note
from ftkit.data.rows.thoughts import without_thought
from ftkit.data.rows.tools import with_calls

logger = logging.getLogger(__name__)

PLACEHOLDER = "?"  # stands for an answer that is not read; never rendered
# What a row needs apart from its answer -> the answer's column.
ANSWER_COLUMNS = {"instruction": "output", "prompt": "completion"}
QUESTIONS = {"alpaca": (("instruction",), ("input", "system")), "prompt_completion": (("prompt",), ())}
ANSWER_MARKS = ("label", "kto_tag")  # say something of the answer, which is not read
QUESTION_COLUMNS = ("instruction", "input", "prompt", "messages", "conversations", "text", "system")


class Question(NamedTuple):
    """A conversation up to the answer that is asked for, and the place that asks it: "file:line"."""

    source: str
    messages: list[dict]


def question_and_answer(row: dict) -> tuple[list[dict], str]:
    """The conversation up to an answer, and that answer without its thought, its calls as text: the last one that is
    trained, the chosen, or the wanted one.

    row: a conversation, a preference or a KTO row, as RowKind.convert gives it.
    """
    if "prompt" in row:
        return row["prompt"], without_thought(row["chosen"] if "chosen" in row else row["completion"])
    answers = [index for index, turn in enumerate(row["messages"]) if turn["role"] == "assistant"]
    last = max(set(answers) - set(row.get("untrained", ())) or answers)
    return row["messages"][:last], without_thought(with_calls(row["messages"][last]))


def read_questions(path: str, read_as: ReadAs = AS_WRITTEN) -> list[Question]:
    """The questions of a file of prompts or rows, or of a bundled or Hub dataset.

    A .txt file has one prompt per line. The last answer of a row is ignored and may be missing or blank; a conversation
    may end with the user's turn.
    Raises UserError, `file:line: reason; fix`, for every other mistake, as `ftkit sft` does.
    """
    if Path(path).expanduser().is_file():
        path = str(Path(path).expanduser())
        problems = Problems()
        checker = RowChecker(path, CONVERSATIONS, report=problems.add)
        rows = list(checker.rows(with_answers(iter_records(path, problems.add, None, read_as), path, problems.add)))
        problems.raise_any()
    else:
        rows = load_rows(path, read_as=read_as).train
    return [Question(row["source"], question_of(row)) for row in rows]


def question_of(row: dict) -> list[dict]:
    """The turns of a row before its last answer; of plain text one turn."""
    messages = row["messages"] if "messages" in row else [{"role": "user", "content": row["text"]}]
    return messages[:-1] if messages[-1]["role"] == "assistant" else messages


def with_answers(records, path: str, report):
    """The records with an answer each; what nearly spells a question is reported and left out."""
    names = None  # in the file -> column, where they differ
    for record in records:
        values = record.values
        if names is None and (names := known_names(values, FORMATS) or known_names(values, QUESTIONS)):
            logger.warning("%s: %s", path, names_note(names))
        values = {names.get(name, name): value for name, value in values.items()}
        try:
            yield record._replace(values=with_answer(values, f"{path}:{record.line}"))
        except UserError as mistake:
            report(mistake)


def with_answer(values: dict, where: str) -> dict:
    """A row's values with a placeholder where the answer is missing, so that the formats can check all the rest."""
    values = {name: value for name, value in values.items() if name not in ANSWER_MARKS}
    for key in ("messages", "conversations"):
        turns = values.get(key)
        if isinstance(turns, list) and turns and isinstance(turns[-1], dict):
            is_openai = "role" in turns[-1]  # also under "conversations"
            if turns[-1].get("role" if is_openai else "from") in ("user", "human"):
                answer = {"from": "gpt", "value": PLACEHOLDER}
                if is_openai:
                    answer = {"role": "assistant", "content": PLACEHOLDER}
                return {**values, key: [*turns, answer]}
    for question, column in ANSWER_COLUMNS.items():
        answer = values.get(column)
        if question in values and (answer is None or isinstance(answer, str) and not answer.strip()):
            is_list = isinstance(values[question], list)
            return {**values, column: [{"role": "assistant", "content": PLACEHOLDER}] if is_list else PLACEHOLDER}
    check_spelling(values, where)
    return values


def check_spelling(values: dict, where: str) -> None:
    """Raise UserError for a row that has no question but a column that nearly spells one."""
    if set(values) & {"instruction", "prompt", "messages", "conversations", "text"}:
        return
    for key in values:
        nearest = nearest_key(key, QUESTION_COLUMNS, values)
        if nearest:
            raise UserError(f'{where}: unknown key "{key}"; did you mean "{nearest}"?')
