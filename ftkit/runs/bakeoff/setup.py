"""What the contestants of a bake-off share: the split, the template, the longest answer, the index of the documents.

OUT/data/train.jsonl, test.jsonl; OUT/setup.json; OUT/index/
"""

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec

from ftkit.config.errors import UserError
from ftkit.config.files import write_json
from ftkit.config.json_object import read_object
from ftkit.config.jsonl import write_jsonl
from ftkit.data.reading.loading import hold_out, load_rows
from ftkit.data.reading.read_as import ReadAs
from ftkit.evaluation.bench.task_rows import is_question
from ftkit.runs.bakeoff.asked import Asked

FILE = "setup.json"
CONTAINS = "contains"
SENTENCE_TOKENS = 48  # of an answer that may be a whole sentence around the words that are wanted
FEWEST = 8  # rows to train on, and to measure on


@dataclass(frozen=True)
class Setup:
    """template: that all are asked by and trained in. max_new_tokens: of an answer. metric: that decides.

    index_minutes, index_megabytes: of the documents, where there are any.
    """

    template: str
    max_new_tokens: int
    metric: str
    num_parameters: int
    num_passages: int = 0
    index_minutes: float = 0.0
    index_megabytes: float = 0.0


def read_setup(asked: Asked) -> Setup:
    """What OUT/setup.json holds."""
    path = asked.folder / FILE
    return msgspec.convert(read_object(path, "delete it, and give the same command again"), Setup)


def split_rows(asked: Asked) -> tuple[list[dict], list[dict]]:
    """Training and held-out rows: those that ask and answer.

    Raises UserError for rows of which some do neither, and for too few.
    """
    read_as = ReadAs.of(asked.columns, asked.encoding, asked.join_turns)
    rows = load_rows(asked.rows, seed=asked.seed, read_as=read_as)
    train, test = rows.train, rows.test
    if test is None and len(train) > 1:
        train, test = hold_out(train, min(asked.num_test, max(1, len(train) // 3)), asked.seed)
    for row in (*train, *(test or [])):
        if not is_question(row.get("messages")):
            raise UserError(f"{row['source']}: is no question with an answer, which a bake-off is about; leave it out")
    test = (test or [])[: asked.num_test]
    if min(len(train), len(test)) < FEWEST:
        raise UserError(
            f"{asked.rows}: {len(train)} rows to train on and {len(test)} held out are too few; give {FEWEST} of each"
        )
    return train, test


def write_split(asked: Asked, train: list[dict], test: list[dict]) -> None:
    """Write OUT/data, as `ftkit bench` and `ftkit sft` read it."""
    for name, rows in (("train", train), ("test", test)):
        write_jsonl(asked.data / f"{name}.jsonl", ({"messages": row["messages"]} for row in rows))


def set_up(asked: Asked) -> None:
    """Write OUT/setup.json, and OUT/index where there are documents.

    Raises UserError for a model without a tokenizer, and documents that can't be read or hold no text.
    """
    from ftkit.config.hardware import probe
    from ftkit.data.rows.thoughts import without_thought
    from ftkit.model.loading import load_config, load_tokenizer, local_model_folder
    from ftkit.training.answering import new_tokens
    from ftkit.training.facts import model_facts

    folder = local_model_folder(asked.model)
    tokenizer = load_tokenizer(folder)
    template = "alpaca" if asked.template == "auto" and not tokenizer.chat_template else asked.template
    answers = [without_thought(row["messages"][-1]["content"]) for row in load_rows(str(asked.data)).test or []]
    longest = new_tokens([len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in answers])
    metric = asked.metric or metric_for(answers, has_docs=bool(asked.docs))
    room = max(longest, SENTENCE_TOKENS) if metric == CONTAINS else longest
    num_parameters = model_facts(load_config(folder), probe()).shape.num_parameters
    indexed = build_index(asked, tokenizer) if asked.docs else {}
    write_json(asked.folder / FILE, dataclasses.asdict(Setup(template, room, metric, num_parameters, **indexed)))


def metric_for(answers: list[str], *, has_docs: bool) -> str:
    """What decides where nobody chose: as of all held-out rows; of short answers that are in documents, whether they
    are held, as who reads a passage answers by a sentence."""
    from ftkit.metrics.text_match import graded_metric

    found = graded_metric(answers)
    return CONTAINS if has_docs and found == "exact_match" else found


def build_index(asked: Asked, tokenizer) -> dict:
    """Cut the documents into passages and index them; how many, how long it took and how large it is."""
    from ftkit.data.index.documents import read_documents
    from ftkit.data.index.passages import split
    from ftkit.inference.retrieval.index import Index

    def count_tokens(text: str) -> int:
        return len(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    start = time.perf_counter()
    passages = [
        passage
        for document in read_documents(asked.docs)
        for passage in split(document, count_tokens, max_tokens=asked.passage_tokens)
    ]
    if not passages:
        raise UserError(f"{', '.join(asked.docs)}: no text in these documents; name others with --docs")
    Index.build(asked.index, passages, embedder=asked.embedder)
    minutes = (time.perf_counter() - start) / 60
    return {"num_passages": len(passages), "index_minutes": minutes, "index_megabytes": megabytes([asked.index])}


def megabytes(paths: list[Path]) -> float:
    """Of files, and of all files in folders."""
    files = [file for path in paths for file in (path.rglob("*") if path.is_dir() else [path]) if file.is_file()]
    return sum(file.stat().st_size for file in files) / 1e6
