"""How a reward model ranks held-out pairs, before training and after it, beside the length of answers and a coin.

OUT/before/               the model with its new head
OUT/before-longer-answer/ (or -shorter-): what the training pairs prefer more often, of the length alone
OUT/before-coin/          a coin for each pair
OUT/results.json          the result; the report shows how far sigmoid(margin) can be trusted
"""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ftkit.data.rows.formats import INPUT_MARKER
from ftkit.data.rows.kinds import ANSWERS
from ftkit.evaluation.held_out.classification import calibration_chart
from ftkit.evaluation.held_out.preferences import TASK
from ftkit.evaluation.held_out.writing import write_held_out
from ftkit.evaluation.pages.charts import Chart
from ftkit.evaluation.results import (
    BEFORE,
    FILE,
    Item,
    Score,
    content_id,
    find_results,
    mean_score,
    read_items,
    task_of,
)
from ftkit.evaluation.verdict.text import run_lines
from ftkit.inference.reward_model import RewardModel
from ftkit.metrics.classification import calibration_bins
from ftkit.training.method import HeldOut, Run
from ftkit.training.sharing import shared

LOWER_IS_BETTER = ("pair_loss", "brier")
COIN = "coin"


def measured(run: Run, trainer) -> list[tuple[float, float]]:
    """The scores of the chosen and of the rejected answer of each held-out pair; in all processes."""
    data, batch_size = run.data, 2 * run.config.per_device_eval_batch_size
    if not data.test:
        return []
    model = RewardModel.of(trainer.model, data.tokenizer, data.template)

    def score(pairs: Sequence[dict]) -> list[tuple[float, float]]:
        sequences = [row[f"{name}_ids"] for row in pairs for name in ANSWERS]
        scores = model.scores_of_ids(sequences, batch_size=batch_size)
        return list(zip(scores[::2], scores[1::2], strict=True))

    return shared(trainer.accelerator, data.test.rows, score)


def items_of(rows: Sequence[dict], scores: Sequence[tuple[float, float]]) -> list[Item]:
    """An item for each pair: whether the chosen answer has the higher score, and by how much.

    pair_loss: -log sigmoid(margin), in nats. brier: (1 - sigmoid(margin))^2.
    """
    items = []
    for row, (chosen, rejected) in zip(rows, scores, strict=True):
        margin = chosen - rejected
        chance = 1 / (1 + math.exp(-margin)) if margin > -700 else 0.0
        found = {
            "pair_accuracy": float(margin > 0),
            "margin": margin,
            "pair_loss": float(np.logaddexp(0, -margin)),
            "brier": (1 - chance) ** 2,
        }
        extra = {"source": row["source"], "chosen_score": chosen, "rejected_score": rejected}
        items.append(item_of(row, found, prefers_chosen=margin > 0, extra=extra))
    return items


def item_of(row: dict, scores: dict[str, float], *, prefers_chosen: bool, extra: dict | None = None) -> Item:
    """A pair with the answer that is liked better."""
    question = row["prompt"][-1]["content"].replace(INPUT_MARKER, "\n") if row["prompt"] else ""
    key = content_id(row["prompt"], row["chosen"], row["rejected"])
    liked = row["chosen"] if prefers_chosen else row["rejected"]
    return Item(key, scores, question, liked, row["chosen"], extra=extra or {})


def scores_of(items: list[Item]) -> dict[str, Score]:
    """The mean of each metric with its interval."""
    return {
        name: mean_score(
            [item.scores[name] for item in items],
            higher_is_better=name not in LOWER_IS_BETTER,
            is_share=name == "pair_accuracy",
        )
        for name in items[0].scores
    }


def baselines(run: Run, rows: Sequence[dict]) -> dict[str, list[bool]]:
    """Whether the chosen answer is liked better by what knows nothing but the length, and by a coin.

    Of length: longer or shorter, whichever the training pairs prefer more often. Where two are equally long, the coin.
    """
    coin = [int(content_id("coin", row["prompt"], row["chosen"], row["rejected"]), 16) % 2 == 0 for row in rows]
    first, second = (np.array(lengths) for lengths in run.data.train.answer_lengths())
    prefers_longer = (first > second).sum() >= (first < second).sum()
    pairs = zip(*run.data.test.answer_lengths(), coin, strict=True)
    by_length = [toss if one == two else (one > two) == prefers_longer for one, two, toss in pairs]
    return {f"{'longer' if prefers_longer else 'shorter'} answer": by_length, COIN: coin}


def held_out_rows(run: Run) -> list[dict]:
    """The held-out pairs that are scored."""
    return [run.data.rows.test[index] for index in run.data.test.kept]


def before(run: Run, trainer) -> None:
    """Write OUT/before*, how held-out pairs are ranked at first and by what needs no model."""
    scores = measured(run, trainer)
    if not scores or not trainer.is_world_process_zero():
        return
    rows = held_out_rows(run)
    for name, likes_chosen in baselines(run, rows).items():
        plain = [
            item_of(row, {"pair_accuracy": float(liked)}, prefers_chosen=bool(liked))
            for row, liked in zip(rows, likes_chosen, strict=True)
        ]
        where = {"folder": f"{BEFORE}-{name.replace(' ', '-')}", "name": name}
        write_held_out(run, task_of(TASK, plain, scores_of(plain)), plain, is_trained=False, **where)
    items = items_of(rows, scores)
    write_held_out(run, task_of(TASK, items, scores_of(items)), items, is_trained=False)


def after(run: Run, trainer) -> list[str]:
    """Write OUT/results.json, how they are ranked now; lines for a person."""
    scores = measured(run, trainer)
    if not scores or not trainer.is_world_process_zero():
        return []
    items = items_of(held_out_rows(run), scores)
    write_held_out(run, task_of(TASK, items, scores_of(items)), items)
    return run_lines(run.output_dir, "pair")


def pair_calibration(folder: Path) -> Chart | None:
    """How sure a reward model is of the answer it prefers, against how often that is the chosen one; None for another
    kind of run. From the items of OUT/results.json."""
    results = find_results(folder)
    task = results.tasks.get(TASK) if results else None
    if task is None or "margin" not in task.scores:
        return None
    margins = np.array([item.scores["margin"] for item in read_items(folder / FILE, task)])
    chances = 1 / (1 + np.exp(-np.clip(margins, -700, 700)))
    bins = calibration_bins(np.ones(len(margins), dtype=int), np.stack([1 - chances, chances], axis=1))
    return calibration_chart(bins, "probability of the preferred answer, sigmoid(margin)", "pairs")


HELD_OUT = HeldOut(after, before)
