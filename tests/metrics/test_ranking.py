"""Bradley-Terry scores by hand, against scikit-learn's logistic regression, and their intervals."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from ftkit.metrics import ranking
from ftkit.metrics.ranking import ELO_SCALE, bradley_terry, is_connected, rank


def test_two_models_are_apart_by_the_log_odds_of_their_wins(monkeypatch):
    monkeypatch.setattr(ranking, "PRIOR_VOTES", 1e-9)
    first, second = bradley_terry(np.array([[0.0, 30.0], [10.0, 0.0]]))
    assert first - second == pytest.approx(np.log(3), abs=1e-6)


def test_strengths_are_those_of_a_logistic_regression_with_the_same_prior():
    generator = np.random.default_rng(0)
    wins = generator.integers(0, 9, size=(5, 5)).astype(float)
    np.fill_diagonal(wins, 0)
    rows, won, weights = [], [], []
    for i in range(5):
        for j in range(5):
            row = np.zeros(5)
            row[i] += 1
            row[j] -= 1
            if i != j:
                rows += [row, -row]
                won += [1, 0]
                weights += [wins[i, j]] * 2
        phantom = np.eye(5)[i]
        rows += [phantom, phantom]
        won += [1, 0]
        weights += [ranking.PRIOR_VOTES] * 2
    fitted = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10, max_iter=1000)
    fitted.fit(np.array(rows), won, sample_weight=np.array(weights) / 2)
    assert bradley_terry(wins) == pytest.approx(fitted.coef_[0], abs=1e-4)


def test_400_points_are_odds_of_10_to_1():
    assert ELO_SCALE * np.log(10) == pytest.approx(400)


def test_a_model_that_never_lost_has_a_finite_score():
    best, worst = rank([("a", "b", 1.0)] * 50)
    assert (best.model, best.num_won, worst.num_lost) == ("a", 50, 50)
    assert 1000 < best.score < 2500 and best.score + worst.score == pytest.approx(2000)


def test_ties_alone_leave_all_models_equal():
    standings = rank([("a", "b", 0.5), ("b", "c", 0.5), ("c", "a", 0.5)])
    assert [one.score for one in standings] == pytest.approx([1000] * 3)
    assert [one.num_tied for one in standings] == [2, 2, 2]


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    truth, covered = 100.0, 0
    chance = 1 / (1 + 10 ** (-2 * truth / 400))
    for seed in range(10):
        won = np.random.default_rng(seed).random(150) < chance
        (standing,) = [one for one in rank([("a", "b", float(w)) for w in won], seed=seed) if one.model == "a"]
        covered += standing.low <= 1000 + truth <= standing.high
    assert covered >= 8  # 9.5 of 10 expected


def test_many_votes_on_one_question_do_not_narrow_the_interval():
    votes = [("a", "b", 1.0)] * 6 + [("a", "b", 0.0)] * 4
    alone = rank(votes * 10, list(range(10)) * 10)
    apart = rank(votes * 10)
    assert alone[0].high - alone[0].low > 2 * (apart[0].high - apart[0].low)


@pytest.mark.parametrize(
    ("votes", "groups"),
    [
        ([("a", "b", 1.0)], None),
        ([("a", "b", 1.0)] * 10, None),
        ([("a", "b", 0.5)] * 10, None),
        ([("a", "b", 1.0)] * 6 + [("a", "b", 0.0)] * 4, ["one question"] * 10),
        ([("a", "b", 1.0), ("a", "b", 0.0)] * 5, [n // 2 for n in range(10)]),
    ],
)
def test_votes_that_resampling_can_not_vary_give_no_interval(votes, groups):
    assert [(one.low, one.high) for one in rank(votes, groups)] == [(None, None)] * 2


def test_only_the_model_that_never_lost_has_no_interval():
    votes = [("a", "b", 1.0), ("a", "c", 1.0), ("b", "c", 1.0)] * 6 + [("c", "b", 1.0)] * 4
    standings = {one.model: one for one in rank(votes)}
    assert standings["a"].low is None and standings["b"].low < standings["b"].score < standings["b"].high


def test_models_that_no_vote_links_are_noticed():
    assert is_connected([("a", "b", 1.0), ("c", "b", 0.0)])
    assert not is_connected([("a", "b", 1.0), ("c", "d", 0.0)])


@pytest.mark.parametrize(
    ("votes", "message"),
    [([], "no votes"), ([("a", "a", 1.0)], "give two models"), ([("a", "b", 2.0)], "give two models and a share")],
)
def test_votes_that_are_none_are_refused(votes, message):
    with pytest.raises(ValueError, match=message):
        rank(votes)
