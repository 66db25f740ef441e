"""How likely held-out answers that are wanted or not are to a model, before and after it was trained on such."""

import math
from collections.abc import Sequence

from ftkit.config.errors import UserError
from ftkit.data.rows.formats import INPUT_MARKER
from ftkit.evaluation.held_out.preferences import read_before
from ftkit.evaluation.held_out.writing import write_held_out
from ftkit.evaluation.results import Item, Score, content_id, mean_score, task_of
from ftkit.evaluation.verdict.text import verdict_lines
from ftkit.inference.scoring import answer_loss
from ftkit.metrics.paired_tests import mean_difference
from ftkit.training.method import HeldOut, Run
from ftkit.training.sharing import shared

TASK = "labelled answers"
SIGNED, MOVED = "signed_logps", "moved_rightly"
LOGPS = {True: "wanted_logps", False: "unwanted_logps"}


def measured(run: Run, trainer) -> tuple[list[dict], list[tuple[float, int]]]:
    """The held-out rows, and loss and number of tokens of each answer; in all processes."""
    data = run.data
    if not data.test:
        return [], []

    def score(part) -> list[tuple[float, int]]:
        return answer_loss(trainer.model, part, data.tokenizer.pad_token_id, run.config.per_device_eval_batch_size)

    rows = [data.rows.test[place] for place in data.test.kept]
    return rows, shared(trainer.accelerator, list(data.test.sequences()), score)


def items_of(rows: Sequence[dict], scores: Sequence[tuple[float, int]], before: list[Item] | None = None) -> list[Item]:
    """An item for each answer: its log-probability per token, with a minus where it is unwanted, and as a whole.

    before: the items before training; with them, whether the answer became likelier, or where unwanted less likely.
    """
    items = []
    for number, ((loss, num_tokens), row) in enumerate(zip(scores, rows, strict=True)):
        label, sign = row["label"], 1 if row["label"] else -1
        found = {SIGNED: -sign * loss / num_tokens, LOGPS[label]: -loss}
        if before:
            found[MOVED] = float(found[SIGNED] > before[number].scores[SIGNED])
        question = row["prompt"][-1]["content"].replace(INPUT_MARKER, "\n") if row["prompt"] else ""
        key = content_id(row["prompt"], row["completion"], label)
        items.append(Item(key, found, question, row["completion"], "wanted" if label else "unwanted"))
    return items


def scores_of(items: list[Item]) -> dict[str, Score]:
    """The mean of each metric with its interval, over the items that have it."""
    found = {name: [item.scores[name] for item in items if name in item.scores] for name in (SIGNED, *LOGPS.values())}
    scores = {
        name: mean_score(values, higher_is_better=name != LOGPS[False], is_share=False)
        for name, values in found.items()
        if values
    }
    moved = [item.scores[MOVED] for item in items if MOVED in item.scores]
    return scores | ({MOVED: mean_score(moved)} if moved else {})


def before(run: Run, trainer) -> None:
    """Write OUT/before/results.json, how likely they are at first. Raises UserError for NaN weights."""
    rows, scores = measured(run, trainer)
    if any(not math.isfinite(loss) for loss, _ in scores):
        raise UserError("the held-out loss of an answer is not a number; the weights or the precision are broken")
    if rows and trainer.is_world_process_zero():
        items = items_of(rows, scores)
        write_held_out(run, task_of(TASK, items, scores_of(items)), items, is_trained=False)


def after(run: Run, trainer) -> list[str]:
    """Write OUT/results.json, how likely they are now; lines for a person."""
    rows, scores = measured(run, trainer)
    if not rows or not trainer.is_world_process_zero():
        return []
    old = read_before(run.output_dir, TASK)
    items = items_of(rows, scores, old)
    write_held_out(run, task_of(TASK, items, scores_of(items)), items)
    return [*result_lines(old, items), *verdict_lines(run.output_dir, "answer")]


def result_lines(old: list[Item], new: list[Item]) -> list[str]:
    """The result for a person, with intervals."""
    moved = scores_of(new)[MOVED]
    parts = []
    for label, name in LOGPS.items():
        sides = [[item.scores[name] for item in side if name in item.scores] for side in (old, new)]
        if not sides[0]:
            continue
        change = mean_difference(*sides)
        interval = "" if math.isinf(change.low) else f" ({change.low:+.2f} to {change.high:+.2f})"
        parts.append(f"{'wanted' if label else 'unwanted'} {change.difference:+.2f}{interval}")
    return [
        f"held-out answers moved the way of their label ({len(new)}): {moved.value:.1%} ({moved.low:.1%} to "
        f"{moved.high:.1%}); log-probability, nats: {', '.join(parts)}"
    ]


HELD_OUT = HeldOut(after, before)
