"""Exact match, token F1 and final numbers, worked out by hand."""

from fractions import Fraction

import evaluate
import pytest

from ftkit.metrics.text_match import ExactMatch, NumericMatch, TokenF1, contains, final_number

PAIRS = [  # prediction, reference, F1 by SQuAD's rules
    ("the cat sat", "A cat sat down.", 4 / 5),  # cat, sat of cat, sat, down
    ("Paris", "paris!", 1.0), ("", "nothing", 0.0), ("an", "the", 1.0),  # articles are no words
    ("yes, yes", "yes", 2 / 3), ("42 apples", "42 pears", 1 / 2), ("theory", "the ory", 0.0),
]  # fmt: skip


def columns(pairs) -> dict:
    return {"predictions": [pair[0] for pair in pairs], "references": [pair[1] for pair in pairs]}


def test_exact_match_overlooks_space_and_a_full_stop_and_no_more():
    pairs = [("Paris.", "Paris"), (" New  York", "New York"), ("paris", "Paris"), ("Paris!", "Paris")]
    assert ExactMatch().compute(**columns(pairs)) == {"exact_match": 0.5}
    assert ExactMatch().compute(**columns(pairs), ignore_case=True) == {"exact_match": 0.75}
    assert ExactMatch().compute(**columns(pairs), ignore_case=True, ignore_punctuation=True) == {"exact_match": 1.0}


@pytest.mark.parametrize(("prediction", "reference", "f1"), PAIRS)
def test_token_f1_is_squads(prediction, reference, f1):
    assert TokenF1().compute(predictions=[prediction], references=[reference])["token_f1"] == pytest.approx(f1)


@pytest.mark.parametrize(
    ("prediction", "reference", "holds"),
    [
        ("It is built in Leeds, I think.", "Leeds", 1.0),
        ("Every 45 days.", "every 45 days", 1.0),
        ("Every 45 or 46 days", "45 days", 0.0),
        ("It costs 450 euros.", "45", 0.0),
        ("", "Leeds", 0.0),
    ],
)
def test_an_answer_holds_its_reference_as_whole_words_side_by_side(prediction, reference, holds):
    assert contains(prediction, reference) == holds


def test_token_f1_is_a_mean_over_items():
    mean = sum(pair[2] for pair in PAIRS) / len(PAIRS)
    assert TokenF1().compute(**columns(PAIRS))["token_f1"] == pytest.approx(mean)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("It is 7, so 12 in all.", "12"), ("1,234.50 dollars", "1234.5"), ("-3", "-3"), ("−3", "-3"), (".5", "0.5"),
        ("3 + 4 = 7\n#### 7 (of 9)", "7"), ("#### none, or 5", "5"), ("12 %", "12"), ("1, 2", "2"), ("none", None),
        ("5-3", "3"), ("The answer is 42.", "42"), ("#### 1,000", "1000"), ("= $18.00", "18"), ("x = -3", "-3"),
        ("-$5", "-5"), ("−$5", "-5"), ("$-5", "-5"), ("#### -$5", "-5"), ("#### $-5", "-5"), ("$10-$5", "5"),
        ("3/4", "3/4"), ("3 / 4", "3/4"), ("-3/4", "-3/4"), ("1 1/2 hours", "3/2"), ("0.5/2", "1/4"), ("5/0", None),
        (r"\boxed{-\frac{3}{4}}", "-3/4"), (r"$2\frac{1}{2}$", "5/2"), ("on 1/2/2024", "2024"),
        ("1e3", "1000"), ("2.5e-3", "1/400"), ("0x1e3f", "3"), ("1e9999", "9999"), ("9" * 5000, None),
        ("1\u202f000", "1000"), ("12\u00a0345\u2009678", "12345678"), ("in 2020\u00a0100 came", "100"),
        (r"1{,}000 and 2\,500", "2500"), ("1{,}000", "1000"), ("1 000", "0"), ("50%", "50"),
        ("#### Step 1: think\nsome steps.\nThe answer is 12.", "12"), ("#### Final Answer\n3 + 4 = **7**", "7"),
        ("#### 1. Count them: 3\n#### 2. Add up\nThe answer is 12.", "12"), ("##### 3 steps\nSo 12.", "12"),
        ("#### 5 + 3 = 8", "8"), ("#### 5 = five", "5"), ("####5", "5"), ("#### 5.\nNow 6", "5"), ("#### 7\n#### 8 (not 9)\nQ 10", "8"),
    ],
)  # fmt: skip
def test_the_final_number_of_an_answer(text, number):
    assert final_number(text) == (None if number is None else Fraction(number))


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("2,5", "2.5"), ("1,5 kg", "1.5"), ("-0,5", "-0.5"), ("0,125", "0.125"), ("3,1415", "3.1415"), ("12,34.", "12.34"),
        ("1.234,56", "1234.56"), ("1.234.567", "1234567"), ("1.234.567,8 €", "1234567.8"), ("-1.234,5", "-1234.5"),
        ("1\u202f234,56", "1234.56"), ("1\u00a0234", "1234"), ("1'234.50", "1234.5"), ("1’234’567", "1234567"),
        ("1,234", "1234"), ("12,345,678.9", "12345678.9"), ("1,00,000", "100000"), ("12,34,567.5", "1234567.5"),
        ("1.234", "1.234"), ("1,2,3", "3"), ("(2, 5)", "5"), ("12.5", "12.5"), ("1,234, or 5", "5"), ("#### 2,5", "2.5"),
        ("= 1.234,56", "1234.56"), ("2,5/2", "1.25"), ("2,5e3", "2500"), ("it's 2,5, so", "2.5"), ("version 1.2.3", "0.3"),
    ],
)  # fmt: skip
def test_a_decimal_comma_and_other_groups_of_thousands_are_one_number(text, number):
    assert final_number(text) == Fraction(number)


def test_numbers_are_compared_and_not_their_spelling():
    wrong = [("-$5", "$5"), ("3/4", "1/4"), ("1/2", "2"), ("1e3", "3"), ("1\u202f000", "0"), ("1 1/2", "1/2")]
    assert NumericMatch().compute(**columns(wrong)) == {"numeric_match": 0.0}
    wrong = [("2,5", "1,5"), ("1.234,56", "0,56"), ("1.234,56", "56"), ("1,234", "1.234"), ("3,5", "5")]
    assert NumericMatch().compute(**columns(wrong)) == {"numeric_match": 0.0}
    right = [("2,5", "2.5"), ("1.234,56", "1,234.56"), ("1.000.000", "1,000,000"), ("0,75", "3/4")]
    assert NumericMatch().compute(**columns(right)) == {"numeric_match": 1.0}
    right = [("-$5", "−5"), ("3/4", "0.75"), ("1e3", "1000"), ("1\u00a0000", "1,000"), ("6/8", "3/4")]
    assert NumericMatch().compute(**columns(right)) == {"numeric_match": 1.0}
    pairs = [("so 1,000.", "#### 1000"), ("7.0", "7"), ("seven", "7"), ("8 or 7", "#### 8")]
    assert NumericMatch().compute(**columns(pairs)) == {"numeric_match": 0.5}
    with pytest.raises(ValueError, match="reference 'seven' has no number"):
        NumericMatch().compute(predictions=["7"], references=["seven"])


@pytest.mark.parametrize("metric", [ExactMatch, TokenF1, NumericMatch])
def test_no_items_are_an_error_and_not_nan(metric):
    with pytest.raises(ValueError, match="no items to score"):
        metric().compute(predictions=[], references=[])


def test_they_combine():
    found = evaluate.combine([ExactMatch(), TokenF1()]).compute(**columns(PAIRS))
    assert found == {"exact_match": 0.0, "token_f1": TokenF1().compute(**columns(PAIRS))["token_f1"]}
