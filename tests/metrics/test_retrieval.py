"""Recall, reciprocal rank and nDCG as trec_eval has them; faithfulness by the words of the sources."""

import math
import random

import pytest

from ftkit.metrics.faithfulness import faithfulness, statements
from ftkit.metrics.retrieval import Retrieval, ndcg_at, recall_at, reciprocal_rank

FOUND, RELEVANT = ["c", "a", "d", "b"], {"a", "b", "z"}


def test_scores_of_one_ranking_are_what_a_person_works_out():
    assert recall_at(FOUND, RELEVANT, 1) == 0 and recall_at(FOUND, RELEVANT, 2) == 1 / 3
    assert reciprocal_rank(FOUND, RELEVANT) == 1 / 2 and reciprocal_rank(["c"], RELEVANT) == 0
    gained, possible = 1 / math.log2(3) + 1 / math.log2(5), 1 + 1 / math.log2(3) + 1 / 2
    assert ndcg_at(FOUND, RELEVANT, 10) == pytest.approx(gained / possible)
    assert ndcg_at(FOUND, RELEVANT, 2) == pytest.approx(1 / math.log2(3) / (1 + 1 / math.log2(3)))


def test_a_name_that_comes_twice_counts_once():
    assert recall_at(["a", "a", "b"], {"a", "b"}, 2) == 1
    assert reciprocal_rank(["c", "c", "a"], {"a"}) == 1 / 2


def test_the_metric_is_the_mean():
    found = Retrieval().compute(predictions=[FOUND, ["z"]], references=[sorted(RELEVANT), ["z"]], k=2)
    assert found == {
        "recall_at_2": pytest.approx((1 / 3 + 1) / 2), "mrr": pytest.approx(0.75),
        "ndcg_at_2": pytest.approx((ndcg_at(FOUND, RELEVANT, 2) + 1) / 2),
    }  # fmt: skip


@pytest.mark.parametrize(
    "score",
    [
        lambda relevant: recall_at(FOUND, relevant, 3),
        lambda relevant: ndcg_at(FOUND, relevant, 3),
        lambda relevant: reciprocal_rank(FOUND, relevant),
    ],
)
@pytest.mark.parametrize("relevant", [set(), "a"])
def test_nothing_to_find_is_refused(score, relevant):
    with pytest.raises(ValueError, match="give the names that should be found"):
        score(relevant)


def test_k_starts_at_1():
    with pytest.raises(ValueError, match="k is 0; give at least 1"):
        recall_at(FOUND, RELEVANT, 0)


def rankings(num: int) -> list[tuple[list[str], set[str]]]:
    rng, names = random.Random(0), [f"d{number}" for number in range(30)]
    return [(rng.sample(names, rng.randint(1, 20)), set(rng.sample(names, rng.randint(1, 6)))) for _ in range(num)]


def test_scores_equal_trec_evals():
    pytrec_eval = pytest.importorskip("pytrec_eval")
    cases = rankings(200)
    judged = {f"q{number}": {name: 1 for name in relevant} for number, (_, relevant) in enumerate(cases)}
    run = {
        f"q{number}": {name: float(len(found) - place) for place, name in enumerate(found)}
        for number, (found, _) in enumerate(cases)
    }
    measures = {"recall.1,5,10", "recip_rank", "ndcg_cut.5,10"}
    theirs = pytrec_eval.RelevanceEvaluator(judged, measures).evaluate(run)
    for number, (found, relevant) in enumerate(cases):
        scores = theirs[f"q{number}"]
        for k in (1, 5, 10):
            assert recall_at(found, relevant, k) == pytest.approx(scores[f"recall_{k}"])
        for k in (5, 10):
            assert ndcg_at(found, relevant, k) == pytest.approx(scores[f"ndcg_cut_{k}"])
        assert reciprocal_rank(found, relevant) == pytest.approx(scores["recip_rank"])


SOURCES = ["Plan B costs 7 euros and has daily backups.", "Plan A has no backups. It costs 3 euros."]
ANSWERS = [
    ("Plan B has daily backups [1].", 1.0),
    ("Plan B costs 9 euros.", 0.0),  # a number that no source holds
    ("Plan B has backups [1]. The moon is made of green cheese.", 0.5),
    ("Plan B costs 7 euros [1].\nPlan A costs 3 euros [2].", 1.0),
    ("Plan A has daily backups for 7 euros and 3 euros.", 0.0),  # of two sources together, of neither alone
    ("[1] [2]", 0.0), ("", 0.0),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "expected"), ANSWERS)
def test_an_answer_is_as_faithful_as_its_sentences_are_supported(answer, expected):
    assert faithfulness(answer, SOURCES) == expected


def test_a_judge_may_decide_instead():
    asked = []
    assert faithfulness("Yes, it does. No backups.", SOURCES, lambda *pair: asked.append(pair) or len(asked) > 1) == 0.5
    assert asked == [("Yes, it does.", SOURCES), ("No backups.", SOURCES)]


def test_statements_are_sentences_without_their_citations():
    assert statements('One fact [1, 2]. "Another fact."\n- A third [3]\nIt is.') == [
        "One fact.",
        '"Another fact."',
        "- A third",
    ]
