"""What a judging came to: failures, agreement with itself, position and length, tokens and cost, in plain sentences."""

from collections import Counter, defaultdict
from statistics import fmean

from ftkit.evaluation.judge.judge import Judgement, Outcome, majority, pair_winners, shared_scores
from ftkit.inference.judging import Answered
from ftkit.metrics.intervals import bootstrap_interval, wilson_interval

MAX_FAILURE_SHARE = 0.05  # with more, the summary warns that what is left may be a selection


def failure_lines(judgements: list[Judgement]) -> list[str]:
    """How many requests brought no judgement, by reason."""
    failures = Counter(one.failure for one in judgements if one.failure)
    num = sum(failures.values())
    lines = [f"{len(judgements):,} judgements asked for, {num:,} failed ({share_text(num, len(judgements))})"]
    lines += [f"  {count:,} x {reason}" for reason, count in failures.most_common()]
    examples = [one.reply for one in judgements if one.failure and one.reply.strip()][:1]
    lines += [f"  such as: {examples[0][:80]!r}"] if examples else []
    if MAX_FAILURE_SHARE * len(judgements) < num < len(judgements):
        lines.append("  warning: what is left may be a selection; use a judge that keeps to the form")
    return lines


def score_lines(judgements: list[Judgement], answers: dict[str, list[Answered]]) -> list[str]:
    """Mean score of each model over the items that all have scores for, as `write_scores` writes it; agreement with
    itself, and scores against length."""
    scores = shared_scores(judgements, answers)
    num_items = len(next(iter(scores.values())))
    lines = []
    for model, items in scores.items():
        means = [fmean(values) for values in items.values()]
        low, high = bootstrap_interval(means) if len(means) > 1 else (None, None)
        interval = f" ({low:.1f} to {high:.1f})" if len(means) > 1 else ""
        lines.append(
            f"{model}: {fmean(means):.1f}{interval} of 100, {len(means):,} answers" if means else f"{model}: nothing"
        )
    num_left_out = len(next(iter(answers.values()))) - num_items
    if len(answers) > 1 and num_left_out:
        lines.append(f"{num_left_out:,} questions are left out for all models: one of them has no score there")
    repeated = [values for items in scores.values() for values in items.values() if len(values) > 1]
    if repeated:
        equal = sum(len(set(values)) == 1 for values in repeated)
        apart = fmean(max(values) - min(values) for values in repeated)
        lines.append(
            f"asked again, the judge gave the same score {share_text(equal, len(repeated))} of the time; "
            f"{apart:.1f} points apart"
        )
    return lines + length_of_scores(scores, answers)


def length_of_scores(scores: dict[str, dict[int, list[float]]], answers: dict[str, list[Answered]]) -> list[str]:
    """Rank correlation of an answer's length and its score, where it differs from none."""
    from scipy.stats import spearmanr

    means = [fmean(values) for items in scores.values() for values in items.values()]
    lengths = [len(answers[model][item].answer) for model, items in scores.items() for item in items]
    if len(set(means)) < 2 or len(set(lengths)) < 2 or len(means) < 10:
        return []
    found = spearmanr(lengths, means)
    warns = "; may be a bias for length" if found.pvalue < 0.05 and abs(found.statistic) > 0.2 else ""
    return [f"length and score: rank correlation {found.statistic:+.2f} (p {found.pvalue:.3f}){warns}"]


def pair_lines(judgements: list[Judgement], outcomes: list[Outcome], answers: dict[str, list[Answered]]) -> list[str]:
    """Wins, agreement of both orders and of repeats, the place of the winner, and its length; a pair counts once."""
    lines = []
    winners = pair_winners(outcomes)
    for models in dict.fromkeys(models for _, models in winners):
        own = [won for (_, others), won in winners.items() if others == models]
        won, lost = own.count(1.0), own.count(0.0)
        lines.append(f"{models[0]} against {models[1]}: {won:,} won, {own.count(0.5):,} tied, {lost:,} lost")
    if outcomes:
        agreed = sum(one.agreed for one in outcomes)
        lines.append(f"both orders agree {share_text(agreed, len(outcomes))} of the time; a tie where they do not")
    lines += repeat_line(outcomes)
    first = [won for won in winners_in_place(judgements) if won != 0.5]
    if first:
        lines.append(place_line("the answer that stands first", int(sum(first)), len(first)))
    lengths = [
        (won, *(len(answers[model][item].answer) for model in models))
        for (item, models), won in winners.items()
        if won != 0.5
    ]
    uneven = [(won, a, b) for won, a, b in lengths if a != b]
    if uneven:
        longer = sum((a > b) == (won == 1.0) for won, a, b in uneven)
        lines.append(place_line("the longer answer", longer, len(uneven)))
    return lines


def winners_in_place(judgements: list[Judgement]) -> list[float]:
    """What the answer that stands first won, of each pair in each order, over its repeats."""
    found = defaultdict(list)
    for one in judgements:
        if one.value is not None:
            found[one.item, tuple(one.models)].append(one.value)
    return [majority(values) for values in found.values()]


def repeat_line(outcomes: list[Outcome]) -> list[str]:
    """How often the judge decided the same when it was asked again."""
    found = defaultdict(list)
    for one in outcomes:
        found[one.item, one.models].append(one.won)
    repeated = [values for values in found.values() if len(values) > 1]
    equal = sum(len(set(values)) == 1 for values in repeated)
    return (
        [f"asked again, the judge came to the same {share_text(equal, len(repeated))} of the time"] if repeated else []
    )


def place_line(what: str, num: int, total: int) -> str:
    """A share of wins that should be a half, with its interval and a warning where it is not."""
    low, high = wilson_interval(num, total)
    warns = "" if low <= 0.5 <= high else ": biased, or the better answers are these"
    return f"{what} won {num:,} of {total:,}, {num / total:.0%} ({low:.0%} to {high:.0%}){warns}"


def share_text(num: int, total: int) -> str:
    """A share in percent; a dash of nothing."""
    return f"{num / total:.1%}".replace("%", " %") if total else "-"
