"""How an encoder finds the passages of held-out questions, before it was trained on pairs and after.

OUT/before/        the encoder that training started from
OUT/results.json   the result

Each held-out question is searched for among the passages of all rows, of those that are held out first.
"""

from collections import defaultdict
from pathlib import Path

import numpy as np

from ftkit.data.tokens.text_pairs import ANCHOR, POSITIVE
from ftkit.evaluation.held_out.writing import write_held_out
from ftkit.evaluation.results import Item, Score, content_id, mean_score, task_of
from ftkit.evaluation.verdict.text import run_lines
from ftkit.metrics.retrieval import ndcg_at, recall_at, reciprocal_rank
from ftkit.training.method import HeldOut, Run
from ftkit.training.sharing import shared

TASK = "retrieval"
MAX_PASSAGES = 5000  # searched in; some minutes of a small encoder on a CPU
DEPTH = 10  # passages of a ranking that count
CHUNK = 256  # questions compared at a time


def questions_of(data) -> dict[str, dict]:
    """The held-out questions in order: by question, its row and the token ids of the question."""
    found: dict[str, dict] = {}
    for row, tokens in zip(data.rows.test, data.test.rows, strict=True):
        found.setdefault(row["anchor"], {"row": row, "ids": tokens[ANCHOR]})
    return found


def passages_of(data) -> dict[str, list[int]]:
    """The token ids of the passages that are searched, by passage: those held out, then those of the training rows."""
    found: dict[str, list[int]] = {}
    for rows, tokens in ((data.rows.test, data.test), (data.rows.train, data.train)):
        for row, ids in zip(rows, tokens.rows, strict=True):
            if len(found) < MAX_PASSAGES or rows is data.rows.test:
                found.setdefault(row["positive"], ids[POSITIVE])
    return found


def right_passages(data) -> dict[str, set[str]]:
    """All passages that some row, held out or not, gives a question."""
    found = defaultdict(set)
    for row in (*data.rows.train, *data.rows.test):
        found[row["anchor"]].add(row["positive"])
    return found


def measured(run: Run, trainer) -> list[Item]:
    """An item for each held-out question, in all processes."""
    from ftkit.training.embed.encoder import sentence_model

    data = run.data
    if not data.test:
        return []
    model = sentence_model(trainer.model, data.tokenizer)
    questions, passages, right = questions_of(data), passages_of(data), right_passages(data)
    rows = [found["ids"] for found in questions.values()] + list(passages.values())
    vectors_ND = np.array(shared(trainer.accelerator, rows, model.embed_ids), dtype=np.float32)
    vectors_ND /= np.linalg.norm(vectors_ND, axis=1, keepdims=True)
    asked_QD, found_PD = vectors_ND[: len(questions)], vectors_ND[len(questions) :]
    texts, items = list(passages), []
    right = {question: found & passages.keys() for question, found in right.items()}
    for start in range(0, len(questions), CHUNK):
        scores_QP = asked_QD[start : start + CHUNK] @ found_PD.T
        for found, scores in zip(list(questions.values())[start : start + CHUNK], scores_QP, strict=True):
            items.append(item_of(found["row"], scores, texts, right[found["row"]["anchor"]]))
    return items


def item_of(row: dict, scores_P: np.ndarray, texts: list[str], right: set[str]) -> Item:
    """A question with the passage that is found first. Equal similarities stand in the order of the passages."""
    found = [texts[place] for place in np.argsort(-scores_P, kind="stable")[:DEPTH]]
    scores = {
        f"ndcg_at_{DEPTH}": ndcg_at(found, right, DEPTH),
        "recall_at_1": recall_at(found, right, 1),
        f"recall_at_{DEPTH}": recall_at(found, right, DEPTH),
        "mrr": reciprocal_rank(found, right),
    }
    key = content_id(row["anchor"], row["positive"])
    return Item(key, scores, row["anchor"], found[0], row["positive"], extra={"source": row["source"]})


def scores_of(items: list[Item]) -> dict[str, Score]:
    """The mean of each metric with its interval."""
    return {name: mean_score([item.scores[name] for item in items]) for name in items[0].scores}


def before(run: Run, trainer) -> None:
    """Write OUT/before, how held-out questions are answered at first."""
    write(run, trainer, measured(run, trainer), is_trained=False)


def after(run: Run, trainer) -> list[str]:
    """Write OUT/results.json, how they are answered now; lines for a person."""
    items = measured(run, trainer)
    if not items or not trainer.is_world_process_zero():
        return []
    write(run, trainer, items, is_trained=True)
    return run_lines(run.output_dir, "question")


def write(run: Run, trainer, items: list[Item], *, is_trained: bool) -> None:
    """Write the items and their means, in the first process."""
    if items and trainer.is_world_process_zero():
        name = str(run.output_dir if is_trained else run.settings.model.model_name_or_path)
        facts = {"num_passages": len(passages_of(run.data))}
        task = task_of(TASK, items, scores_of(items), settings=facts)
        write_held_out(run, task, items, is_trained=is_trained, facts=facts, name=Path(name).name or name)


HELD_OUT = HeldOut(after, before)
