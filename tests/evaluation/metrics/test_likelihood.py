"""Perplexity, bits per byte and multiple choice, worked out by hand."""

import math

import pytest

from ftkit.evaluation.metrics.likelihood import BitsPerByte, MultipleChoice, Perplexity, likeliest


def test_perplexity_is_over_all_tokens_and_not_a_mean_of_texts():
    found = Perplexity().compute(log_likelihoods=[-math.log(2) * 3, -math.log(8)], num_tokens=[3, 1])
    assert found["perplexity"] == pytest.approx(2 ** (6 / 4))


def test_bits_per_byte_of_a_fair_coin_a_byte_is_one():
    found = BitsPerByte().compute(log_likelihoods=[-math.log(2) * 5, -math.log(2) * 7], num_bytes=[5, 7])
    assert found["bits_per_byte"] == pytest.approx(1.0)


def test_length_decides_between_acc_and_acc_norm():
    found = MultipleChoice().compute(
        log_likelihoods=[[-3.0, -8.0], [-1.0, -2.0]], num_characters=[[2, 10], [3, 3]], references=[1, 0]
    )
    assert found == {"acc": 0.5, "acc_norm": 1.0}


def test_the_first_of_equal_choices_is_chosen():
    assert likeliest([-2.0, -1.0, -1.0]) == 1
    with pytest.raises(ValueError, match="a choice is empty"):
        likeliest([-1.0], [0])


@pytest.mark.parametrize(
    ("metric", "columns"),
    [
        (Perplexity, {"log_likelihoods": [], "num_tokens": []}),
        (BitsPerByte, {"log_likelihoods": [], "num_bytes": []}),
        (MultipleChoice, {"log_likelihoods": [], "num_characters": [], "references": []}),
    ],
)
def test_no_items_are_an_error_and_not_nan(metric, columns):
    with pytest.raises(ValueError, match="no items to score"):
        metric().compute(**columns)


def test_empty_texts_are_an_error():
    with pytest.raises(ValueError, match="the texts are empty"):
        BitsPerByte().compute(log_likelihoods=[0.0], num_bytes=[0])
