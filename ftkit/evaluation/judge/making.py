"""Answers of several models to a file of questions, made here and kept as they come, for people to vote on.

answers = made_answers(models, questions, settings, sampling, Path("votes.answers.jsonl"))

What the file holds of the same model, question and settings is not made again.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from ftkit.config.jsonl import append_jsonl, pass_over_torn, read_jsonl
from ftkit.data.rows.questions import Question
from ftkit.data.rows.thoughts import without_thought
from ftkit.inference.answering import answer_each
from ftkit.inference.asking import ModelSettings, Sampling
from ftkit.inference.judging import Answered, prompt_text
from ftkit.inference.side_by_side import each_engine


def made_answers(
    models: Mapping[str, str],
    questions: Sequence[Question],
    settings: ModelSettings,
    sampling: Sampling,
    path: Path,
    *,
    batch_size: int = 16,
) -> dict[str, list[Answered]]:
    """Each model's answers to the questions, in order and without thoughts; one model is loaded at a time.

    Raises UserError for a model that can't be loaded, and a question that leaves no room for its answer.
    """
    known = {one["key"]: one["answer"] for one in read_jsonl(path, checked, what="answer", report=pass_over_torn)}

    def key(model: str, question: Question) -> str:
        how = {**dataclasses.asdict(settings), "model_name_or_path": model, **dataclasses.asdict(sampling)}
        return hashlib.sha256(json.dumps([how, question.messages], sort_keys=True).encode()).hexdigest()[:24]

    unasked = {
        name: [question for question in questions if key(model, question) not in known]
        for name, model in models.items()
    }
    to_load = {name: model for name, model in models.items() if unasked[name]}
    for name, engine in each_engine(to_load, settings) if to_load else ():
        found = answer_each(engine, unasked[name], sampling, batch_size=batch_size)
        for question, replies in zip(unasked[name], found, strict=True):
            record = {"key": key(models[name], question), "answer": next(iter(replies.values()))[0].text}
            known[record["key"]] = record["answer"]
            append_jsonl(path, [{**record, "model": name, "prompt": question.messages}])
    return {
        name: [answered(question.messages, known[key(model, question)]) for question in questions]
        for name, model in models.items()
    }


def answered(messages: list[dict], answer: str) -> Answered:
    """An answer to a conversation; one turn of the user is kept as its text."""
    text = prompt_text(messages)
    return Answered(text, without_thought(answer), turns=messages if len(messages) > 1 else None)


def checked(values: dict) -> dict:
    """Raises ValueError for what is no answer that was kept."""
    if not isinstance(values.get("key"), str) or not isinstance(values.get("answer"), str):
        raise ValueError("no key, or no answer")
    return values
