"""How a model ranks held-out pairs of answers, before and after it was trained on preferences."""

from collections.abc import Sequence
from typing import NamedTuple

from ftkit.data.rows.formats import INPUT_MARKER
from ftkit.evaluation.held_out.writing import write_held_out
from ftkit.evaluation.results import Item, Score, content_id, mean_score, task_of
from ftkit.inference.scoring import answer_loss
from ftkit.metrics.paired_tests import share_difference
from ftkit.training.method import HeldOut, Run
from ftkit.training.sharing import shared

TASK = "preferences"


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


def write_preferences(run: Run, rows: Sequence[dict], before: list[PairScore], after: list[PairScore]) -> str:
    """Write what held-out pairs scored into OUT/before/results.json and OUT/results.json; return the result in a line.

    rows: preference rows, scored by the reference (before) and by the trained model (after).
    """
    old, new = preference_items(before, rows), preference_items(after, rows, reference=before)
    for items, is_trained in ((old, False), (new, True)):
        write_held_out(run, task_of(TASK, items, preference_scores(items)), items, is_trained=is_trained)
    return results_line(old, new)


def preference_items(scores, rows, *, reference=None) -> list[Item]:
    """An item for each pair: whether the chosen answer is the likelier one per token, and both log-probabilities.

    reference: scores of the model before, which the implicit reward is measured from: how much likelier than before an
    answer became (Rafailov et al. 2023, arXiv:2305.18290).
    """
    items = []
    for number, (score, row) in enumerate(zip(scores, rows, strict=True)):
        found = {
            "pair_accuracy": float(score.prefers_chosen),
            "chosen_logps": score.chosen,
            "rejected_logps": score.rejected,
        }
        if reference:
            old = reference[number]
            found["reward_accuracy"] = float(score.chosen - old.chosen > score.rejected - old.rejected)
        question = row["prompt"][-1]["content"].replace(INPUT_MARKER, "\n") if row["prompt"] else ""
        liked = row["chosen"] if score.prefers_chosen else row["rejected"]
        key = content_id(row["prompt"], row["chosen"], row["rejected"])
        items.append(Item(key, found, question, liked, row["chosen"]))
    return items


def preference_scores(items: list[Item]) -> dict[str, Score]:
    """The mean of each metric with its interval."""
    return {
        name: mean_score(
            [item.scores[name] for item in items],
            higher_is_better=name != "rejected_logps",
            is_share=name.endswith("accuracy"),
        )
        for name in items[0].scores
    }


def results_line(before: list[Item], after: list[Item]) -> str:
    """The result in one line for a person; the interval of the change is Tango's."""
    old, new = (preference_scores(items) for items in (before, after))
    flips = [new.scores["pair_accuracy"] - old.scores["pair_accuracy"] for old, new in zip(before, after, strict=True)]
    change = share_difference(flips.count(1.0), flips.count(-1.0), len(flips))
    reward = new["reward_accuracy"]
    return (
        f"held-out pairs in the right order ({len(flips)}): {old['pair_accuracy'].value:.1%} before, "
        f"{new['pair_accuracy'].value:.1%} after (change {change.difference:+.1%}, 95 % interval {change.low:+.1%} to "
        f"{change.high:+.1%}); by implicit reward {reward.value:.1%} ({reward.low:.1%} to {reward.high:.1%})"
    )


def measure_held_out(run: Run, trainer) -> list[PairScore] | None:
    """Log-probabilities of the held-out pairs; None where nothing is held out."""
    data = run.data
    if not data.test:
        return None
    sequences = list(data.test.sequences())
    pairs = list(zip(sequences[::2], sequences[1::2], strict=True))

    def score(part) -> list[PairScore]:
        return score_pairs(trainer.model, [one for pair in part for one in pair], data.tokenizer.pad_token_id)

    return shared(trainer.accelerator, pairs, score)


def report(run: Run, before: list[PairScore], after: list[PairScore]) -> list[str]:
    """Write OUT/results.json and OUT/before/results.json, how held-out pairs were ranked; a line for a person."""
    rows = [run.data.rows.test[index] for index in run.data.test.kept]
    return [write_preferences(run, rows, before, after)]


HELD_OUT = HeldOut(measure_held_out, report)
