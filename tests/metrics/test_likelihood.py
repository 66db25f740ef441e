"""Perplexity, bits per byte and multiple choice, worked out by hand."""

import math

import evaluate
import pytest

from ftkit.metrics.likelihood import BitsPerByte, MultipleChoice, Perplexity, likeliest


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


def test_a_perplexity_that_no_float_holds_is_cut():
    found = Perplexity().compute(log_likelihoods=[-800.0], num_tokens=[1])
    assert found == {"perplexity": math.exp(700)}


def test_what_is_no_number_is_refused():
    nan = float("nan")
    for metric, columns in ((Perplexity, {"num_tokens": [1]}), (BitsPerByte, {"num_bytes": [1]})):
        with pytest.raises(ValueError, match=r"log-likelihoods \[nan\] hold NaN"):
            metric().compute(log_likelihoods=[nan], **columns)
    with pytest.raises(ValueError, match=r"log-likelihoods \[nan, -2.0\] hold NaN; the weights or the precision are"):
        MultipleChoice().compute(log_likelihoods=[[nan, -2.0]], num_characters=[[1, 1]], references=[0])
    with pytest.raises(ValueError, match="an item without choices"):
        likeliest([])


@pytest.mark.parametrize("reference", [2, -1])
def test_a_reference_that_is_no_choice_is_refused(reference):
    columns = {"log_likelihoods": [[-1.0, -2.0]] * 2, "num_characters": [[1, 1]] * 2, "references": [0, reference]}
    with pytest.raises(ValueError, match=f"item 1: reference {reference} of 2 choices; count them from 0"):
        MultipleChoice().compute(**columns)


def test_they_combine():
    columns = {"log_likelihoods": [-math.log(4)], "num_tokens": [1], "num_bytes": [2]}
    found = evaluate.combine([Perplexity(), BitsPerByte()]).compute(**columns)
    assert found == {"perplexity": pytest.approx(4), "bits_per_byte": pytest.approx(1)}


def test_empty_texts_are_an_error():
    with pytest.raises(ValueError, match="the texts are empty"):
        BitsPerByte().compute(log_likelihoods=[0.0], num_bytes=[0])
