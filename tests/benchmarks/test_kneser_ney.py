"""The n-gram yardstick agrees with nltk's Kneser-Ney and is a distribution."""

import math
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).resolve().parent

VOCABULARY = 6


@pytest.fixture(autouse=True)
def kneser_ney(monkeypatch):
    monkeypatch.syspath_prepend(str(HERE))
    return __import__("kneser_ney")


@pytest.fixture
def documents() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.choice(VOCABULARY, size, p=[0.35, 0.25, 0.2, 0.1, 0.06, 0.04]) for size in (40, 25, 33)]


def test_probabilities_of_all_tokens_add_up_to_one(kneser_ney, documents):
    model = kneser_ney.KneserNey(documents, VOCABULARY, order=3)
    for context in ([0], [1, 2], [5, 5], [3, 0, 1]):
        total = sum(math.exp(model.log_probs(np.array([*context, token]))[-1]) for token in range(VOCABULARY))
        assert total == pytest.approx(1.0)


def test_a_unigram_is_worked_out_by_hand(kneser_ney):
    # 0 1, 0 2, 0 1: the tokens 1 and 2 each follow one context (0), so both have a continuation count of 1.
    documents = [np.array([0, 1]), np.array([0, 2]), np.array([0, 1])]
    model = kneser_ney.KneserNey(documents, 3, order=2, discounts=(0.5, 0.5, 0.5))
    unigram = 0.5 / 2 + 0.5 / 3  # (1 - 0.5) / 2, and 2 * 0.5 / 2 of the uniform 1/3
    assert math.exp(model.log_probs(np.array([0, 1]))[0]) == pytest.approx(1.5 / 3 + (2 * 0.5 / 3) * unigram)


@pytest.mark.parametrize("order", [2, 3])
def test_one_discount_without_the_uniform_part_is_nltks_model(kneser_ney, documents, order):
    lm = pytest.importorskip("nltk.lm")
    from nltk.util import everygrams

    texts = [[str(token) for token in ids] for ids in documents]
    peer = lm.KneserNeyInterpolated(order, discount=0.4)
    grams = [[gram for gram in everygrams(text, max_len=order)] for text in texts]
    peer.fit(grams, vocabulary_text=[token for text in texts for token in text])
    ours = kneser_ney.KneserNey(documents, VOCABULARY, order, discounts=(0.4, 0.4, 0.4), textbook=True)
    test = np.random.default_rng(1).choice(VOCABULARY, 30)
    found = ours.log_probs(test)
    for place in range(order, len(test)):
        context = [str(token) for token in test[place - order + 1 : place]]
        assert math.exp(found[place - 1]) == pytest.approx(peer.score(str(test[place]), context), rel=1e-9)
