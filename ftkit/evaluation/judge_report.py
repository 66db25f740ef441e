"""What a judging came to: failures, agreement with itself, position and length, tokens and cost, in plain sentences."""

from collections import Counter, defaultdict
from statistics import fmean

from ftkit.evaluation.judge import Judgement, Outcome
from ftkit.evaluation.judge_prompts import Answered
from ftkit.evaluation.statistics import bootstrap_interval, wilson_interval

MAX_FAILURE_SHARE = 0.05  # with more, the summary warns that what is left may be a selection


def failure_lines(judgements: list[Judgement]) -> list[str]:
    """How many requests brought no judgement, by reason."""
    failures = Counter(one.failure for one in judgements if one.failure)
    num = sum(failures.values())
    lines = [f"{len(judgements):,} judgements asked for, {num:,} failed ({share(num, len(judgements))})"]
    lines += [f"  {count:,} x {reason}" for reason, count in failures.most_common()]
    examples = [one.reply for one in judgements if one.failure and one.reply.strip()][:1]
    lines += [f"  such as: {examples[0][:80]!r}"] if examples else []
    if num > MAX_FAILURE_SHARE * len(judgements):
        lines.append("  warning: what is left may be a selection; use a judge that keeps to the form")
    return lines


def score_lines(judgements: list[Judgement], answers: dict[str, list[Answered]]) -> list[str]:
    """Mean score of each model with its interval, agreement with itself, and scores against length."""
    lines = []
    by_answer = values_by_answer(judgements)
    for model in answers:
        means = [fmean(values) for (name, _), values in by_answer.items() if name == model]
        interval = ""
        if len(means) > 1:
            low, high = bootstrap_interval(means)
            interval = f" ({low:.1f} to {high:.1f})"
        lines.append(
            f"{model}: {fmean(means):.1f}{interval} of 100, {len(means):,} answers" if means else f"{model}: nothing"
        )
    repeated = [values for values in by_answer.values() if len(values) > 1]
    if repeated:
        equal = sum(len(set(values)) == 1 for values in repeated)
        apart = fmean(max(values) - min(values) for values in repeated)
        lines.append(
            f"asked again, the judge gave the same score {share(equal, len(repeated))} of the time; "
            f"{apart:.1f} points apart"
        )
    return lines + length_of_scores(by_answer, answers)


def values_by_answer(judgements: list[Judgement]) -> dict[tuple[str, int], list[float]]:
    """Scores of each (model, item), one a repeat."""
    found = defaultdict(list)
    for one in judgements:
        if one.value is not None:
            found[one.models[0], one.item].append(one.value)
    return dict(found)


def length_of_scores(by_answer: dict, answers: dict[str, list[Answered]]) -> list[str]:
    """Rank correlation of an answer's length and its score, where it can be told from none."""
    from scipy.stats import spearmanr

    scores = [fmean(values) for values in by_answer.values()]
    lengths = [len(answers[model][item].answer) for model, item in by_answer]
    if len(set(scores)) < 2 or len(set(lengths)) < 2 or len(scores) < 10:
        return []
    found = spearmanr(lengths, scores)
    warns = "; may be a bias for length" if found.pvalue < 0.05 and abs(found.statistic) > 0.2 else ""
    return [f"length and score: rank correlation {found.statistic:+.2f} (p {found.pvalue:.3f}){warns}"]


def pair_lines(judgements: list[Judgement], outcomes: list[Outcome], answers: dict[str, list[Answered]]) -> list[str]:
    """Wins, agreement of both orders and of repeats, the place of the winner, and its length."""
    lines = []
    for models in dict.fromkeys(one.models for one in outcomes):
        own = [one.won for one in outcomes if one.models == models]
        won, lost = own.count(1.0), own.count(0.0)
        lines.append(f"{models[0]} against {models[1]}: {won:,} won, {own.count(0.5):,} tied, {lost:,} lost")
    if outcomes:
        agreed = sum(one.agreed for one in outcomes)
        lines.append(f"both orders agree {share(agreed, len(outcomes))} of the time; a tie where they do not")
    lines += repeat_line(outcomes)
    first = [one.value for one in judgements if one.value in (0.0, 1.0)]
    if first:
        lines.append(place_line("the answer that stands first", int(sum(first)), len(first)))
    decided = [
        (one, *(len(answers[model][one.item].answer) for model in one.models)) for one in outcomes if one.won != 0.5
    ]
    uneven = [(one, a, b) for one, a, b in decided if a != b]
    if uneven:
        longer = sum((a > b) == (one.won == 1.0) for one, a, b in uneven)
        lines.append(place_line("the longer answer", longer, len(uneven)))
    return lines


def repeat_line(outcomes: list[Outcome]) -> list[str]:
    found = defaultdict(list)
    for one in outcomes:
        found[one.item, one.models].append(one.won)
    repeated = [values for values in found.values() if len(values) > 1]
    equal = sum(len(set(values)) == 1 for values in repeated)
    return [f"asked again, the judge came to the same {share(equal, len(repeated))} of the time"] if repeated else []


def place_line(what: str, num: int, total: int) -> str:
    """A share of wins that should be a half, with its interval and a warning where it is not."""
    low, high = wilson_interval(num, total)
    warns = "" if low <= 0.5 <= high else ": biased, or the better answers are these"
    return f"{what} won {num:,} of {total:,}, {num / total:.0%} ({low:.0%} to {high:.0%}){warns}"


def token_lines(judgements: list[Judgement], input_price: float | None, output_price: float | None) -> list[str]:
    """Tokens, and what they cost at prices per million."""
    unique = {one.key: one for one in judgements}.values()
    tokens = [sum(getattr(one, name) for one in unique) for name in ("input_tokens", "output_tokens")]
    lines = [f"{tokens[0]:,} tokens read, {tokens[1]:,} written"]
    if input_price is not None or output_price is not None:
        cost = (tokens[0] * (input_price or 0.0) + tokens[1] * (output_price or 0.0)) / 1e6
        lines[0] += f", cost {cost:.4f} at the prices given"
    return lines


def share(num: int, total: int) -> str:
    return f"{num / total:.1%}".replace("%", " %") if total else "-"
