"""What greedy answers to held-out prompts are rewarded with, before and after they were trained on rewards."""

import math
from collections.abc import Sequence

from ftkit.evaluation.held_out.preferences import read_before
from ftkit.evaluation.held_out.writing import write_held_out
from ftkit.evaluation.results import Item, Score, content_id, mean_score, task_of
from ftkit.evaluation.verdict.text import run_lines
from ftkit.inference.asking import Sampling
from ftkit.inference.engine import Engine
from ftkit.inference.judging import prompt_text
from ftkit.training.method import HeldOut, Run
from ftkit.training.rewards import columns_of, score, total, weights_of
from ftkit.training.sharing import shared

TASK, REWARD, LENGTH = "rewards", "reward", "answer_length"
ANSWERED_AT_ONCE = 32


def asked_rows(run: Run) -> list[dict]:
    """The held-out prompts that are answered, evenly chosen; none where the plan says so."""
    number, rows = run.decided.num_answered, run.data.test.rows if run.data.test else []
    return rows[:: math.ceil(len(rows) / number)] if number and rows else []


def measured(run: Run, trainer) -> list[Item]:
    """An item for each of them; in all processes."""
    data = run.data
    engine = Engine.of(trainer.accelerator.unwrap_model(trainer.model), data.tokenizer, data.template)
    limit = Sampling(max_new_tokens=run.config.max_completion_length)

    def answer(part: Sequence[dict]) -> list[tuple[str, int]]:
        ids = engine.generate([row["prompt_ids"] for row in part], limit, batch_size=ANSWERED_AT_ONCE)
        return [(engine.voice().text_of(one), len(one)) for one in ids]

    rows = asked_rows(run)
    return items_of(run, rows, shared(trainer.accelerator, rows, answer)) if rows else []


def items_of(run: Run, rows: Sequence[dict], answers: Sequence[tuple[str, int]]) -> list[Item]:
    """The answers with their rewards; one that has none is left out."""
    read = [run.data.rows.test[row["place"]] for row in rows]
    texts = [text for text, _ in answers]
    rewards = run.data.rewards
    found = score(rewards, [row["prompt"] for row in read], texts, columns_of(read))
    sums, items = total(found, weights_of(rewards)).tolist(), []
    for row, (text, length), each, summed in zip(read, answers, found.tolist(), sums, strict=True):
        if math.isnan(summed):
            continue
        scores = {REWARD: summed, LENGTH: float(length)}
        if len(rewards) > 1:
            scores |= {one.name: value for one, value in zip(rewards, each, strict=True) if not math.isnan(value)}
        answer = row["columns"].get("answer") or ""
        items.append(Item(content_id(row["prompt"], answer), scores, prompt_text(row["prompt"]), text, answer))
    return items


def scores_of(items: list[Item]) -> dict[str, Score]:
    """The mean of each metric with its interval, over the items that have it."""
    names = dict.fromkeys(name for item in items for name in item.scores)
    found = {name: [item.scores[name] for item in items if name in item.scores] for name in names}
    return {
        name: mean_score(values, is_share=name != LENGTH and all(0 <= value <= 1 for value in values))
        for name, values in found.items()
    }


def before(run: Run, trainer) -> None:
    """Write OUT/before/results.json."""
    items = measured(run, trainer)
    if items and trainer.is_world_process_zero():
        write_held_out(run, task_of(TASK, items, scores_of(items)), items, is_trained=False)


def after(run: Run, trainer) -> list[str]:
    """Write OUT/results.json; what it was before and after, and the verdict."""
    items = measured(run, trainer)
    if not items or not trainer.is_world_process_zero():
        return []
    known = {item.item_id for item in read_before(run.output_dir, TASK)}
    items = [item for item in items if item.item_id in known] or items
    write_held_out(run, task_of(TASK, items, scores_of(items)), items)
    return run_lines(run.output_dir, "prompt")


HELD_OUT = HeldOut(after, before)
