"""The scores of a task from its items: means with intervals, and for metrics that are no means those of the corpus."""

import math

from ftkit.evaluation.bench.task_file import METRICS, Task
from ftkit.evaluation.results import NO_SHARES, Item, Score, mean_score

SHARES = frozenset(name for names in METRICS.values() for name in names) - set(NO_SHARES)  # between 0 and 1
LOWER_IS_BETTER = ("bits_per_byte", "perplexity", "stereotype_share")


def task_scores(task: Task, items: list[Item]) -> dict[str, Score]:
    """Scores by metric, the main one first, then those of each group as METRIC/GROUP."""
    scores = {name: score(name, items) for name in task.metrics}
    groups = sorted({item.extra.get("group", "") for item in items} - {""})
    if len(groups) > 1:
        for group in groups:
            own = [item for item in items if item.extra.get("group") == group]
            scores |= {f"{name}/{group}": score(name, own) for name in task.metrics}
    return scores


def score(metric: str, items: list[Item]) -> Score:
    """One metric over items, with its 95 % interval where it is a mean over items."""
    better = metric not in LOWER_IS_BETTER
    if metric in CORPUS:
        return Score(CORPUS[metric](items), higher_is_better=better)
    values, weights = [item.scores[metric] for item in items], [item.weight for item in items]
    return mean_score(values, weights, higher_is_better=better, is_share=metric in SHARES)


def corpus_perplexity(items: list[Item]) -> float:
    """exp of the mean loss over all tokens."""
    loss = -math.fsum(item.extra["log_likelihood"] for item in items)
    return math.exp(min(loss / sum(item.extra["num_tokens"] for item in items), 700.0))


def corpus_bleu(items: list[Item]) -> float:
    """BLEU of all answers together."""
    from sacrebleu.metrics import BLEU

    predictions, references = [item.prediction for item in items], [item.reference for item in items]
    return BLEU().corpus_score(predictions, [references]).score


def corpus_chrf(items: list[Item]) -> float:
    """chrF of all answers together."""
    from sacrebleu.metrics import CHRF

    predictions, references = [item.prediction for item in items], [item.reference for item in items]
    return CHRF().corpus_score(predictions, [references]).score


CORPUS = {"perplexity": corpus_perplexity, "bleu": corpus_bleu, "chrf": corpus_chrf}
