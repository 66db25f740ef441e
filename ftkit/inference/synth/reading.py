"""What synthesis begins with: seeds from rows or a text file, passages from documents."""

import hashlib
import json
import logging
from collections.abc import Iterable
from typing import Any

from ftkit.config.amounts import counted
from ftkit.config.errors import UserError
from ftkit.data.cleaning.near_duplicates import words
from ftkit.data.reading.loading import load_rows
from ftkit.data.reading.read_as import AS_WRITTEN, ReadAs
from ftkit.data.rows.kinds import asking_kind
from ftkit.data.rows.questions import question_and_answer, read_questions
from ftkit.inference.synth.items import Material, Seed

MIN_WORDS = 8  # of a passage

logger = logging.getLogger(__name__)


def read_seeds(name: str, *, needs_answers: bool, read_as: ReadAs = AS_WRITTEN) -> list[Seed]:
    """The questions of a file, a folder or a bundled dataset; a .txt file has one per line.

    Raises UserError for mistakes in rows, and where needs_answers for a row without an answer.
    """
    if not needs_answers:
        return [Seed(one.source, one.messages) for one in read_questions(name, read_as)]
    rows = load_rows(name, kind=asking_kind(), read_as=read_as).train
    return [Seed(row["source"], *question_and_answer(row)) for row in rows]


def read_passages(docs: str, max_tokens: int, least: int = 1) -> list[Any]:
    """The passages of a file or folder of documents that are long enough to ask about.

    Raises UserError where there are fewer than `least`.
    """
    from ftkit.data.index.documents import read_documents
    from ftkit.data.index.passages import count_words, split

    found = [
        passage
        for document in read_documents([docs])
        for passage in split(document, count_words, max_tokens=max_tokens)
    ]
    kept = [passage for passage in found if len(words(passage.text)) >= MIN_WORDS]
    if len(kept) < len(found):
        short = counted(len(found) - len(kept), "passage")
        logger.warning("%s: %s of less than %d words left out", docs, short, MIN_WORDS)
    if len(kept) < least:
        fix = "give more documents, or fewer --num_distractors" if kept else "give a file or folder of documents"
        raise UserError(f"{docs}: {counted(len(kept), 'passage')} to ask about, and {least} are needed; {fix}")
    return kept


def material_digest(material: Material) -> str:
    """What tells the seeds and passages of two runs apart."""
    seeds = (json.dumps([one.turns, one.answer]) for one in material.seeds)
    return text_digest([*seeds, *(f"{one.id}\0{one.text}" for one in material.passages)])


def text_digest(texts: Iterable[str]) -> str:
    """SHA-256 of texts in their order."""
    return hashlib.sha256(json.dumps(list(texts)).encode()).hexdigest()
