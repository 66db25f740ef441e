"""How a model ranks held-out pairs of answers, before and after it was trained on preferences."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ftkit.config.errors import UserError
from ftkit.data.rows.formats import INPUT_MARKER
from ftkit.evaluation.held_out.writing import write_held_out
from ftkit.evaluation.results import (
    BEFORE,
    FILE,
    Item,
    Score,
    content_id,
    mean_score,
    read_items,
    read_results,
    task_of,
)
from ftkit.evaluation.verdict.text import verdict_lines
from ftkit.inference.asking import Sampling
from ftkit.inference.engine import Engine
from ftkit.inference.scoring import answer_loss
from ftkit.metrics.paired_tests import mean_difference, share_difference
from ftkit.training.answering import new_tokens
from ftkit.training.method import HeldOut, Run
from ftkit.training.sharing import shared

TASK = "preferences"
LENGTH = "answer_length"  # in tokens; a preference for longer answers is learnt easily, and seldom wanted
ANSWERED_AT_ONCE = 32


class PairScore(NamedTuple):
    """Log-probabilities of a pair's answers, in nats, and their lengths in tokens."""

    chosen: float
    rejected: float
    num_chosen: int
    num_rejected: int

    @property
    def prefers_chosen(self) -> bool:
        """Whether the chosen answer is the likelier one per token; summed, the shorter one would have the advantage."""
        return self.chosen / self.num_chosen > self.rejected / self.num_rejected


def score_pairs(model, sequences: Sequence[dict], pad_token_id: int, batch_size: int = 8) -> list[PairScore]:
    """Score pairs given as alternating chosen and rejected sequences ({"input_ids", "labels"}), prompts included."""
    losses = answer_loss(model, sequences, pad_token_id, batch_size)
    return [
        PairScore(-chosen, -rejected, num_chosen, num_rejected)
        for (chosen, num_chosen), (rejected, num_rejected) in zip(losses[::2], losses[1::2], strict=True)
    ]


def write_preferences(
    run: Run, rows: Sequence[dict], scores: list[PairScore], lengths: dict[int, int], *, is_trained: bool
) -> list[Item]:
    """Write what held-out pairs score into OUT/results.json, or before training into OUT/before; return the items.

    rows: preference rows. lengths: tokens of the answers to some of their prompts, by place.
    """
    reference = read_before(run.output_dir) if is_trained else None
    items = preference_items(scores, rows, reference=reference)
    for place, length in lengths.items():
        items[place].scores[LENGTH] = float(length)
    write_held_out(run, task_of(TASK, items, preference_scores(items)), items, is_trained=is_trained)
    return items


def read_before(output_dir: str, task: str = TASK) -> list[Item]:
    """The pairs, or the items of another task, as they were scored before training."""
    path = Path(output_dir) / BEFORE / FILE
    return read_items(path, read_results(path).tasks[task])


def preference_items(
    scores: list[PairScore], rows: Sequence[dict], *, reference: list[Item] | None = None
) -> list[Item]:
    """An item for each pair: whether the chosen answer is the likelier one per token, and both log-probabilities.

    reference: the items of the model before, which the implicit reward is measured from: how much likelier than before
    an answer became (Rafailov et al. 2023, arXiv:2305.18290).
    """
    items = []
    for number, (score, row) in enumerate(zip(scores, rows, strict=True)):
        found = {
            "pair_accuracy": float(score.prefers_chosen),
            "chosen_logps": score.chosen,
            "rejected_logps": score.rejected,
        }
        if reference:
            old = reference[number].scores
            gained = score.chosen - old["chosen_logps"] > score.rejected - old["rejected_logps"]
            found["reward_accuracy"] = float(gained)
        question = row["prompt"][-1]["content"].replace(INPUT_MARKER, "\n") if row["prompt"] else ""
        liked = row["chosen"] if score.prefers_chosen else row["rejected"]
        key = content_id(row["prompt"], row["chosen"], row["rejected"])
        items.append(Item(key, found, question, liked, row["chosen"]))
    return items


def preference_scores(items: list[Item]) -> dict[str, Score]:
    """The mean of each metric with its interval, over the items that have it."""
    names = dict.fromkeys(name for item in items for name in item.scores)
    return {
        name: mean_score(
            [item.scores[name] for item in items if name in item.scores],
            higher_is_better=name != "rejected_logps",
            is_share=name.endswith("accuracy"),
        )
        for name in names
    }


def results_lines(before: list[Item], after: list[Item]) -> list[str]:
    """The result for a person; the interval of the change is Tango's, that of a length the bootstrap's."""
    old, new = (preference_scores(items) for items in (before, after))
    flips = [new.scores["pair_accuracy"] - old.scores["pair_accuracy"] for old, new in zip(before, after, strict=True)]
    change = share_difference(flips.count(1.0), flips.count(-1.0), len(flips))
    reward = new["reward_accuracy"]
    lines = [
        f"held-out pairs in the right order ({len(flips)}): {old['pair_accuracy'].value:.1%} before, "
        f"{new['pair_accuracy'].value:.1%} after (change {change.difference:+.1%}, 95 % interval {change.low:+.1%} to "
        f"{change.high:+.1%}); by implicit reward {reward.value:.1%} ({reward.low:.1%} to {reward.high:.1%})"
    ]
    both = [(one, two) for one, two in zip(before, after, strict=True) if LENGTH in one.scores and LENGTH in two.scores]
    if both:
        lengths = (np.array([item.scores[LENGTH] for item in side]) for side in zip(*both, strict=True))
        change = mean_difference(*lengths)
        lines.append(
            f"length of {len(both)} answers, tokens: {old[LENGTH].value:.1f} before, {new[LENGTH].value:.1f} after "
            f"(change {change.difference:+.1f}, 95 % interval {change.low:+.1f} to {change.high:+.1f})"
        )
    return lines


def measured(run: Run, trainer) -> tuple[list[dict], list[PairScore], dict[int, int]]:
    """The held-out pairs, their log-probabilities, and the lengths of answers to some of them; in all processes."""
    data = run.data
    if not data.test:
        return [], [], {}
    sequences = list(data.test.sequences())
    pairs = list(zip(sequences[::2], sequences[1::2], strict=True))

    def score(part) -> list[PairScore]:
        return score_pairs(trainer.model, [one for pair in part for one in pair], data.tokenizer.pad_token_id)

    rows = [data.rows.test[index] for index in data.test.kept]
    return rows, shared(trainer.accelerator, pairs, score), answer_lengths(run, trainer, rows)


def answer_lengths(run: Run, trainer, rows: list[dict]) -> dict[int, int]:
    """Tokens of a greedy answer to the prompt of as many pairs as the plan says, evenly chosen, by place."""
    number, data = run.decided.num_answered, run.data
    if not number:
        return {}
    places = range(len(rows))[:: math.ceil(len(rows) / number)]
    limit = new_tokens([len(row["chosen_ids"]) for row in data.test.rows])
    engine = Engine.of(trainer.model, data.tokenizer, data.template)

    def lengths(some: Sequence[int]) -> list[int]:
        prompts = [data.test.rows[place]["prompt_ids"] for place in some]
        found = engine.generate(prompts, Sampling(max_new_tokens=limit), batch_size=ANSWERED_AT_ONCE)
        return list(map(len, found))

    return dict(zip(places, shared(trainer.accelerator, places, lengths), strict=True))


def before(run: Run, trainer) -> None:
    """Write OUT/before/results.json, how held-out pairs are ranked at first. Raises UserError for NaN weights."""
    rows, scores, lengths = measured(run, trainer)
    if any(not math.isfinite(score.chosen + score.rejected) for score in scores):
        raise UserError("the held-out loss of a pair is not a number; the weights or the precision are broken")
    if rows and trainer.is_world_process_zero():
        write_preferences(run, rows, scores, lengths, is_trained=False)


def after(run: Run, trainer) -> list[str]:
    """Write OUT/results.json, how they are ranked now; lines for a person."""
    rows, scores, lengths = measured(run, trainer)
    if not rows or not trainer.is_world_process_zero():
        return []
    old = read_before(run.output_dir)
    lines = results_lines(old, write_preferences(run, rows, scores, lengths, is_trained=True))
    return [*lines, *verdict_lines(run.output_dir, "pair")]


HELD_OUT = HeldOut(after, before)
