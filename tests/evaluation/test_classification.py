"""What a classifier is worth: the quick measures of the bootstrap are the metrics', intervals hold what they should."""

import json

import numpy as np
import pytest
from sklearn import metrics as sk

from ftkit.evaluation.held_out.classification import baselines, evaluate_classifier, evaluation_lines
from ftkit.metrics.classification import area_under_curve, confusion_matrix, intervals, matrix_measures, measure
from ftkit.metrics.intervals import bootstrap_statistic, wilson_interval


def drawn(num_classes, rows=80, seed=0):
    generator = np.random.default_rng(seed)
    references = generator.integers(num_classes, size=rows)
    logits = generator.normal(size=(rows, num_classes)) + 1.5 * np.eye(num_classes)[references]
    return references, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


@pytest.mark.parametrize("num_classes", [2, 5])
@pytest.mark.parametrize("positive", [0, 1])
def test_the_quick_measures_are_those_of_the_metrics(num_classes, positive):
    references, probabilities = drawn(num_classes)
    references[references == 3] = 0  # a class that does not occur
    exact = measure(references, probabilities, positive=positive)
    matrix = confusion_matrix(references, probabilities.argmax(axis=1), num_classes)
    quick = matrix_measures(matrix, positive)
    assert quick == {name: pytest.approx(exact[name]) for name in quick}
    assert (
        matrix.tolist()
        == sk.confusion_matrix(references, probabilities.argmax(axis=1), labels=list(range(num_classes))).tolist()
    )


def test_the_quick_area_counts_ties_half():
    scores = np.array([0.1, 0.4, 0.4, 0.4, 0.9, 0.2])
    truth = np.array([0, 1, 0, 1, 1, 0])
    ranks = np.unique(scores, return_inverse=True)[1]
    assert area_under_curve(truth == 1, ranks) == pytest.approx(sk.roc_auc_score(truth, scores))
    assert np.isnan(area_under_curve(truth > 5, ranks))


def test_intervals_hold_the_value_and_the_accuracys_is_wilsons():
    references, probabilities = drawn(2)
    values, bounds = measure(references, probabilities), intervals(references, probabilities)
    assert bounds.keys() == values.keys() - {"expected_calibration_error"}
    assert all(low <= values[name] <= high and low < high for name, (low, high) in bounds.items())
    right = int((probabilities.argmax(axis=1) == references).sum())
    assert bounds["accuracy"] == wilson_interval(right, len(references))


def test_the_interval_of_f1_is_that_of_scikit_learn_on_the_same_draws():
    references, probabilities = drawn(2, rows=40)
    told = probabilities.argmax(axis=1)
    ours = intervals(references, probabilities, seed=3)["f1"]
    generator = np.random.default_rng(3)
    draws = [generator.integers(40, size=40) for _ in range(2000)]
    pairs = 2 * references + told
    counts = [tuple(np.bincount(pairs[rows], minlength=4)) for rows in draws]
    f1 = {}  # of each table of counts once: scikit-learn takes milliseconds
    for rows, count in zip(draws, counts, strict=True):
        if count not in f1:
            f1[count] = sk.f1_score(references[rows], told[rows], zero_division=0)
    theirs = np.quantile([f1[count] for count in counts], [0.025, 0.975])
    assert ours == pytest.approx(tuple(theirs))


def test_a_bootstrap_of_no_rows_is_refused():
    with pytest.raises(ValueError, match="no rows; give at least one"):
        bootstrap_statistic(lambda rows: {"x": 0.0}, 0)


def test_the_bootstrap_of_a_mean_is_as_wide_as_theory_says():
    values = np.random.default_rng(0).normal(size=400)
    low, high = bootstrap_statistic(lambda rows: {"mean": values[rows].mean()}, 400, num_resamples=2000)["mean"]
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.08)


def test_the_evaluation_is_json_and_names_classes():
    references, probabilities = drawn(3)
    evaluation = evaluate_classifier(references, probabilities, ["a", "b", "c"])
    assert json.loads(json.dumps(evaluation, allow_nan=False)) == evaluation
    assert evaluation["positive"] is None and evaluation["num_rows"] == 80
    assert sum(map(sum, evaluation["confusion"])) == 80
    report = sk.classification_report(references, probabilities.argmax(axis=1), output_dict=True)
    assert evaluation["classes"]["b"]["f1"] == pytest.approx(report["1"]["f1-score"])
    assert evaluation["commonest"]["accuracy"] == pytest.approx(np.bincount(references).max() / 80)
    assert evaluate_classifier(*drawn(2), ["ham", "spam"])["positive"] == "spam"


def test_a_classifier_that_finds_one_class_only_is_reported_and_claims_no_false_certainty():
    references = [0] * 160 + [1] * 40
    evaluation = evaluate_classifier(references, [[0.9, 0.1]] * 200, ["ham", "spam"]) | {"split": "test"}
    measures = evaluation["measures"]
    assert measures["precision"] == {"value": None, "undefined": "no text was called spam"}  # 0 of 0
    assert measures["matthews_correlation"] == {"value": None, "undefined": "every text was called ham"}
    # Wilson's interval of 0 of 40: up to z^2 / (40 + z^2)
    assert measures["recall"] == {"value": 0.0, "low": 0.0, "high": pytest.approx(1.959964**2 / (40 + 1.959964**2))}
    assert measures["f1"] == {"value": 0.0}  # the same in every draw: no interval
    assert evaluation["classes"]["spam"] == {"num_rows": 40, "precision": None, "recall": 0.0, "f1": 0.0}
    text = "\n".join(evaluation_lines(evaluation))
    assert "precision                  undefined: no text was called spam" in text
    assert "recall                     0.000  (0.000 to 0.088)" in text and "(0.000 to 0.000)" not in text
    assert "warning: it called all 200 texts ham: it does not tell the classes apart" in text


def test_a_class_that_is_never_predicted_is_named_and_a_flawless_f1_has_no_interval():
    certain = np.eye(3)
    evaluation = evaluate_classifier([0, 1, 2, 0], certain[[0, 1, 0, 0]], ["a", "b", "c"]) | {"split": "test"}
    assert evaluation["warnings"] == ["no text was called c"]
    assert evaluation["measures"]["precision"]["value"] == pytest.approx((2 / 3 + 1 + 0) / 3)  # scikit-learn's mean
    many = evaluate_classifier([0, 1, *range(2, 20)], np.eye(20)[[0, 1] * 10], [f"c{number}" for number in range(20)])
    assert many["warnings"] == ["no text was called c2, c3, c4, c5, c6, c7, c8, c9, ..."]  # one line, however many
    flawless = evaluate_classifier([0, 1] * 40, np.eye(2)[[0, 1] * 40], ["a", "b"])
    assert flawless["measures"]["f1"] == {"value": 1.0} and not flawless["warnings"]
    assert flawless["measures"]["precision"]["low"] == pytest.approx(40 / (40 + 1.959964**2))


def test_baselines_say_the_commonest_class_and_what_words_alone_tell():
    train = [{"text": f"win {word} now", "label": 1} for word in ("cash", "a car", "gold")]
    train += [{"text": f"see you {word}", "label": 0} for word in ("soon", "today", "at noon", "there")]
    rows = [{"text": "win a prize now", "label": 1}, {"text": "see you in the evening", "label": 0}]
    assert baselines(train, rows) == {"majority class": [0, 0], "bag of words": [1, 0]}
    assert baselines([{"text": "a", "label": 2}], rows) == {"majority class": [2, 2]}
