"""Answers that a teacher writes to the rows' questions, kept one by one: a text, for any two vocabularies.

    ~/.cache/ftkit/teachers/KEY/answers.jsonl      {"question", "answer", "is_cut"}

KEY is a digest of the teacher's weights, precision, template and the length of an answer; a question is known by its
turns, so that more rows, or a run that was killed, ask only what is new. Answers are greedy. Source: sequence-level
distillation, Kim and Rush 2016, arXiv:1606.07947.
"""

import hashlib
import json
import logging
from pathlib import Path

from ftkit.config.amounts import counted
from ftkit.config.errors import UserError
from ftkit.config.jsonl import append_jsonl, read_log
from ftkit.config.terminal import Progress
from ftkit.data.rows.questions import Question, question_of
from ftkit.inference.answering import answer_each
from ftkit.inference.asking import Sampling
from ftkit.training.distill.kept import place_of
from ftkit.training.distill.teacher import Teacher

AT_ONCE = 16  # questions that are answered together, and lost together by a kill

logger = logging.getLogger(__name__)


class Written:
    """What a teacher has written, by the digest of a question. max_new_tokens: of an answer."""

    def __init__(self, teacher: Teacher, max_new_tokens: int):
        self.teacher, self.max_new_tokens = teacher, max_new_tokens
        template = teacher.template.fingerprint if teacher.template else None
        parts = [teacher.digest(), teacher.settings.dtype, template, max_new_tokens]
        self.path = place_of(hashlib.sha256(json.dumps(parts).encode()).hexdigest()) / "answers.jsonl"
        self.known = read_known(self.path)

    def write(self, rows: list[dict], *, shown: bool) -> None:
        """Let the teacher answer what it has not answered yet; each batch is kept at once."""
        missing = {key_of(row): row for row in rows if key_of(row) not in self.known}
        if not missing:
            return
        questions = [Question(row["source"], question_of(row)) for row in missing.values()]
        sampling, keys = Sampling(max_new_tokens=self.max_new_tokens), iter(missing)
        with self.teacher.loaded(None), Progress(len(missing), "teacher", "answers", shown=shown) as progress:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            for replies in answer_each(self.teacher.engine, questions, sampling, batch_size=AT_ONCE):
                (reply,) = next(iter(replies.values()))
                record = {"question": next(keys), "answer": reply.text, "is_cut": reply.finish_reason == "length"}
                append_jsonl(self.path, [record])
                self.known[record["question"]] = record
                progress.advance()

    def answered(self, rows: list[dict]) -> list[dict]:
        """The rows with the teacher's answers in the place of their last; cut and empty ones are left out.

        Rows that it was not asked keep their own. Raises UserError where no answer is whole.
        """
        found, num_cut, num_empty = [], 0, 0
        for row in rows:
            record = self.known.get(key_of(row))
            if record is None:
                found.append(row)
            elif record["is_cut"] or not record["answer"].strip():
                num_cut, num_empty = num_cut + record["is_cut"], num_empty + (not record["is_cut"])
            else:
                answer = {"role": "assistant", "content": record["answer"].strip()}
                found.append(row | {"messages": [*question_of(row), answer]})
        if rows and not found:
            raise UserError(
                f"--teacher {self.teacher.name} ends none of its answers within --max_completion_length "
                f"{self.max_new_tokens}; raise it, or name a teacher that knows an end token"
            )
        if num_cut or num_empty:
            logger.warning(
                "%s of the teacher are left out: %s cut at --max_completion_length, %s empty",
                counted(num_cut + num_empty, "answer"), num_cut, num_empty,
            )  # fmt: skip
        return found


def key_of(row: dict) -> str:
    """SHA-256 of a row's question."""
    return hashlib.sha256(json.dumps(question_of(row), sort_keys=True).encode()).hexdigest()


def read_known(path: Path) -> dict[str, dict]:
    """The answers of a file by their question; a line that a kill has torn is asked again."""
    return {record["question"]: record for record in read_log(path)} if path.is_file() else {}
