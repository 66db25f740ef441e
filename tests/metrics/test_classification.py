"""The classification metrics equal scikit-learn's, refuse no rows, and work offline in evaluate.combine."""

import evaluate
import numpy as np
import pytest
from sklearn import metrics as sk

from ftkit.metrics.classification import (
    F1,
    METRICS,
    Accuracy,
    Brier,
    ExpectedCalibrationError,
    MatthewsCorrelation,
    Precision,
    Recall,
    RocAuc,
    calibration_bins,
)

TRUE, TOLD = [1, 0, 1, 1, 0, 0], [1, 1, 0, 1, 0, 0]  # of class 1: 2 found, 1 missed, 1 wrongly told


def scores(num_classes, rows=60, seed=0):
    generator = np.random.default_rng(seed)
    probabilities = generator.dirichlet(np.ones(num_classes), size=rows)
    return generator.integers(num_classes, size=rows), probabilities


def test_two_classes_by_hand():
    assert Accuracy().compute(predictions=TOLD, references=TRUE) == {"accuracy": pytest.approx(4 / 6)}
    for metric, name in ((Precision, "precision"), (Recall, "recall"), (F1, "f1")):
        assert metric().compute(predictions=TOLD, references=TRUE) == {name: pytest.approx(2 / 3)}
    # (2 * 2 - 1 * 1) / sqrt(3 * 3 * 3 * 3)
    found = MatthewsCorrelation().compute(predictions=TOLD, references=TRUE)
    assert found == {"matthews_correlation": pytest.approx(3 / 9)}


def test_pos_label_chooses_the_class():
    found = Recall().compute(predictions=[0, 0, 1, 1], references=[0, 0, 0, 1], pos_label=0)
    assert found == {"recall": pytest.approx(2 / 3)}


def test_more_than_two_classes_are_averaged_as_scikit_learn_does():
    references, probabilities = scores(4)
    predictions = probabilities.argmax(axis=1)
    for metric, function in ((Precision, sk.precision_score), (Recall, sk.recall_score), (F1, sk.f1_score)):
        for average in (None, "macro", "micro", "weighted"):
            expected = function(references, predictions, average=average or "macro", zero_division=0)
            found = metric().compute(predictions=predictions, references=references, average=average)
            assert found[metric.name] == pytest.approx(expected)


def test_scores_equal_scikit_learn_and_the_formulas():
    references, probabilities = scores(2)
    auc = RocAuc().compute(prediction_scores=probabilities, references=references)
    assert auc == {"roc_auc": pytest.approx(sk.roc_auc_score(references, probabilities[:, 1]))}
    brier = Brier().compute(prediction_scores=probabilities, references=references)
    assert brier == {"brier": pytest.approx(sk.brier_score_loss(references, probabilities[:, 1]))}
    references, probabilities = scores(3)
    auc = RocAuc().compute(prediction_scores=probabilities, references=references)
    assert auc["roc_auc"] == pytest.approx(sk.roc_auc_score(references, probabilities, multi_class="ovr"))
    # a sure and right row: 0; a sure and wrong one: 1 + 1
    sure = Brier().compute(prediction_scores=[[1.0, 0, 0], [1.0, 0, 0]], references=[0, 1])
    assert sure == {"brier": pytest.approx((0 + 2) / 2)}


def test_calibration_error_by_hand():
    # 0.8 sure: 1 of 2 right, 0.3 off; 0.6 sure: 1 of 1 right, 0.4 off
    probabilities = [[0.8, 0.2], [0.8, 0.2], [0.4, 0.6]]
    found = ExpectedCalibrationError().compute(prediction_scores=probabilities, references=[0, 1, 1])
    assert found == {"expected_calibration_error": pytest.approx((2 * 0.3 + 1 * 0.4) / 3)}
    bins = calibration_bins([0, 1, 1], probabilities)
    assert bins == [
        {"num_rows": 1, "confidence": pytest.approx(0.6), "accuracy": 1.0},
        {"num_rows": 2, "confidence": pytest.approx(0.8), "accuracy": 0.5},
    ]
    assert calibration_bins([0], [[1.0, 0.0]])[0]["num_rows"] == 1  # the upper border belongs to the last bin


@pytest.mark.parametrize("metric", METRICS)
def test_no_rows_are_refused(metric):
    columns = {name: [] for name in metric.columns}
    with pytest.raises(ValueError, match=f"{metric.name} of no rows; give at least one prediction"):
        metric()._compute(**columns)
    with pytest.raises(ValueError):
        metric(keep_in_memory=True).compute(**columns)


@pytest.mark.parametrize("metric", [Accuracy, Precision, Recall, F1, MatthewsCorrelation])
def test_what_is_no_class_is_refused(metric):
    for wrong, said in ((-1, "-1"), (0.9, "0.9"), (float("nan"), "nan")):
        message = f"{metric.name}: {said} is not a class; give whole numbers from 0, and leave unlabelled rows out"
        with pytest.raises(ValueError, match=message):
            metric().compute(predictions=[wrong, 1], references=[0, 1])
        with pytest.raises(ValueError, match=message):
            metric().compute(predictions=[0, 1], references=[wrong, 1])
    with pytest.raises(ValueError, match="predictions is one text"):
        metric().compute(predictions="01", references="01")


@pytest.mark.parametrize("metric", [RocAuc, Brier, ExpectedCalibrationError])
@pytest.mark.parametrize(
    ("scores", "references", "message"),
    [
        ([[0.1, 0.2, 0.7]], [-1], "-1 is not a class"),
        ([[0.3, 0.7], [0.2, 0.8]], [2, 0], "reference 2, but prediction_scores have 2 columns"),
        ([[0.3, 0.7], [0.2, 0.8]], [2, 1], "reference 2, but prediction_scores have 2 columns"),
        ([[0.9], [0.2]], [1, 0], "need the same number of columns in each row, one per class"),
        ([[0.9, 0.1], [0.2, 0.3, 0.5]], [1, 0], "need the same number of columns in each row"),
        ([[0.5, 0.5], [-3.0, 7.0]], [1, 0], r"\[-3.0, 7.0\] are not probabilities, 0 to 1 and 1 in sum; softmax them"),
        ([[0.9, 0.9]], [1], r"\[0.9, 0.9\] are not probabilities"),
        ([[float("nan"), 0.5]], [1], "are not probabilities"),
    ],
)
def test_what_is_no_probability_of_the_classes_is_refused(metric, scores, references, message):
    with pytest.raises(ValueError, match=f"{metric.name}: .*{message}"):
        metric().compute(prediction_scores=scores, references=references)


def test_a_single_class_has_no_area():
    with pytest.raises(ValueError, match="roc_auc needs rows of two classes; all 2 are of class 1"):
        RocAuc().compute(prediction_scores=[[0.5, 0.5], [0.1, 0.9]], references=[1, 1])


def test_all_metrics_combine_and_give_plain_floats(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    references, probabilities = scores(2)
    found = evaluate.combine([metric() for metric in METRICS]).compute(
        predictions=probabilities.argmax(axis=1), references=references, prediction_scores=probabilities
    )
    assert list(found) == [metric.name for metric in METRICS]
    assert {type(value) for value in found.values()} == {float}


def test_rows_may_be_added_in_batches():
    metric = F1()
    metric.add_batch(predictions=TOLD[:3], references=TRUE[:3])
    metric.add_batch(predictions=TOLD[3:], references=TRUE[3:])
    assert metric.compute() == {"f1": pytest.approx(2 / 3)}
