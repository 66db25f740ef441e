"""Who answers best, from votes on pairs of answers: Bradley-Terry scores on Elo's scale, with intervals."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

ELO_SCALE = 400 / np.log(10)  # 400 points are odds of 10 to 1
ELO_MEAN = 1000.0
PRIOR_VOTES = 1.0  # half won and half lost against a player of mean strength: who never lost stays finite
NUM_RESAMPLES = 1000
MAX_STEPS, TOLERANCE = 100, 1e-9
MIN_WIDTH = 1e-3  # of an interval: below, all resamples were the same votes


@dataclass
class Standing:
    """One model. score: on Elo's scale, the mean of all models is 1000. low, high: 95 % interval, None where the votes
    tell none: resampling them can't show how far a model stands from others that it always beat, never beat or tied."""

    model: str
    score: float
    low: float | None
    high: float | None
    num_won: int = 0
    num_tied: int = 0
    num_lost: int = 0


def rank(votes: Sequence[tuple[str, str, float]], groups: Sequence | None = None, *, seed: int = 0) -> list[Standing]:
    """Standings, best first, from votes (model a, model b, share won by a: 1, 0, or 0.5 for a tie).

    groups: of each vote, such as its question; the bootstrap draws groups, as votes on one question are not
    independent. Raises ValueError for no votes, a vote of a model on itself, and shares that are none.
    Source: Bradley & Terry 1952, doi:10.2307/2334029, a tie as half a win each.
    """
    models = sorted({model for vote in votes for model in vote[:2]})
    places = {model: place for place, model in enumerate(models)}
    for first, second, share in votes:
        if first == second or not 0 <= share <= 1:
            raise ValueError(f"a vote of {share} for {first} over {second}; give two models and a share from 0 to 1")
    if not votes:
        raise ValueError("no votes; give at least one")
    groups = list(range(len(votes))) if groups is None else list(groups)
    drawn = grouped_wins(votes, groups, places)
    scores = elo(bradley_terry(drawn.sum(axis=0)))
    generator = np.random.default_rng(seed)
    resampled = []
    for _ in range(NUM_RESAMPLES):
        counts = np.bincount(generator.integers(len(drawn), size=len(drawn)), minlength=len(drawn))
        resampled.append(elo(bradley_terry(np.tensordot(counts, drawn, axes=1))))
    bounds = np.percentile(resampled, [2.5, 97.5], axis=0).T.tolist()
    standings = []
    for place, model in enumerate(models):
        shares = [share if a == model else 1 - share for a, b, share in votes if model in (a, b)]
        won, lost = sum(share > 0.5 for share in shares), sum(share < 0.5 for share in shares)
        low, high = bounds[place]
        is_known = 0 < sum(shares) < len(shares) and high - low > MIN_WIDTH
        interval = (low, high) if is_known else (None, None)
        standings.append(Standing(model, float(scores[place]), *interval, won, len(shares) - won - lost, lost))
    return sorted(standings, key=lambda standing: -standing.score)


def grouped_wins(votes: Sequence[tuple[str, str, float]], groups: list, places: dict[str, int]) -> np.ndarray:
    """(groups, models, models) float64: how often the row's model won against the column's, in each group."""
    numbers = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    wins = np.zeros((len(numbers), len(places), len(places)))
    for (first, second, share), group in zip(votes, groups, strict=True):
        wins[numbers[group], places[first], places[second]] += share
        wins[numbers[group], places[second], places[first]] += 1 - share
    return wins


def bradley_terry(wins: np.ndarray) -> np.ndarray:
    """(models,) log strengths that make `wins` (models, models) likeliest, with PRIOR_VOTES each; by Newton."""
    played = wins + wins.T
    strengths = np.zeros(len(wins))
    for _ in range(MAX_STEPS):
        chances = 1 / (1 + np.exp(strengths[None, :] - strengths[:, None]))
        prior = 1 / (1 + np.exp(-strengths))
        gradient = (wins - played * chances).sum(axis=1) + PRIOR_VOTES * (0.5 - prior)
        spread = played * chances * (1 - chances)
        curvature = np.diag(spread.sum(axis=1) + PRIOR_VOTES * prior * (1 - prior)) - spread
        step = np.linalg.solve(curvature, gradient)
        strengths += step / max(1.0, np.abs(step).max())  # no step beyond 1: far out the curve is flat
        if np.abs(step).max() < TOLERANCE:
            break
    return strengths


def elo(strengths: np.ndarray) -> np.ndarray:
    """Log strengths on Elo's scale, with their mean at 1000."""
    return ELO_MEAN + ELO_SCALE * (strengths - strengths.mean())


def is_connected(votes: Sequence[tuple[str, str, float]]) -> bool:
    """Whether every model is linked to every other by votes; where not, their scores can't be held against another."""
    linked = {votes[0][0]}
    while True:
        grown = linked | {model for vote in votes if linked & set(vote[:2]) for model in vote[:2]}
        if grown == linked:
            return linked == {model for vote in votes for model in vote[:2]}
        linked = grown
