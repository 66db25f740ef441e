"""How a model ranks held-out pairs of answers, before and after it was trained on preferences."""

from collections.abc import Sequence
from typing import NamedTuple

from ftkit.inference.scoring import answer_loss
from ftkit.metrics.intervals import wilson_interval
from ftkit.metrics.paired_tests import share_difference


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


def preference_results(before: Sequence[PairScore], after: Sequence[PairScore]) -> dict:
    """results.json of a preference run: shares of pairs in the right order with 95 % intervals.

    The intervals are Wilson's, that of the change Tango's, which has a width where no pair changed, too.
    before, after: the same pairs under the reference and under the trained model. The last row ranks by the implicit
    reward, how much likelier than under the reference an answer became (Rafailov et al. 2023, arXiv:2305.18290).
    """
    gained = [new.chosen - old.chosen > new.rejected - old.rejected for old, new in zip(before, after, strict=True)]
    prefers = [[score.prefers_chosen for score in scores] for scores in (before, after)]
    num_gained = sum(new > old for old, new in zip(*prefers, strict=True))
    num_lost = sum(new < old for old, new in zip(*prefers, strict=True))
    change = share_difference(num_gained, num_lost, len(before))
    rows = [
        {"name": "before, by likelihood per token", **share(prefers[0]), **mean_log_probs(before)},
        {"name": "after, by likelihood per token", **share(prefers[1]), **mean_log_probs(after)},
        {"name": "after, by implicit reward", **share(gained)},
    ]
    return {
        "measure": "pairs in the right order",
        "num_pairs": len(before),
        "change": change._asdict(),
        "rows": rows,
    }


def share(flags: Sequence[bool]) -> dict[str, float]:
    """The share of true flags and its interval, by the names the report knows."""
    low, high = wilson_interval(sum(flags), len(flags))
    return {"share": sum(flags) / len(flags), "low": low, "high": high}


def mean_log_probs(scores: Sequence[PairScore]) -> dict[str, float]:
    """Mean log-probability of the chosen and the rejected answers, in nats an answer."""
    return {
        "logps/chosen": sum(score.chosen for score in scores) / len(scores),
        "logps/rejected": sum(score.rejected for score in scores) / len(scores),
    }


def results_line(results: dict) -> str:
    """The result in one line for a person."""
    before, after, reward = results["rows"]
    change = results["change"]
    return (
        f"held-out pairs in the right order ({results['num_pairs']}): {before['share']:.1%} before, "
        f"{after['share']:.1%} after (change {change['difference']:+.1%}, 95 % interval {change['low']:+.1%} to "
        f"{change['high']:+.1%}); by implicit reward {reward['share']:.1%} "
        f"({reward['low']:.1%} to {reward['high']:.1%})"
    )
