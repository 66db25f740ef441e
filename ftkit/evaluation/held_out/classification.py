"""What a classifier's probabilities are worth: measures with intervals, confusion matrix, calibration.

evaluation = evaluate_classifier(references, probabilities, ["ham", "spam"])
"""

from collections import Counter

import evaluate
import numpy as np

from ftkit.metrics.classification import METRICS, calibration_bins
from ftkit.metrics.intervals import bootstrap_statistic, wilson_interval

NUM_RESAMPLES = 2000


def measure(references, probabilities, *, positive: int = 1) -> dict[str, float]:
    """Every metric of `METRICS` by name. references: (rows,) class numbers. probabilities: (rows, classes).

    positive: of two classes the one that precision, recall and F1 are about. Raises ValueError for no rows and for
    rows of a single class.
    """
    references, probabilities = np.asarray(references), np.asarray(probabilities, dtype=np.float64)
    combined = evaluate.combine([metric(keep_in_memory=True) for metric in METRICS])
    return combined.compute(
        predictions=probabilities.argmax(axis=1),
        references=references,
        prediction_scores=probabilities,
        average="binary" if probabilities.shape[1] == 2 else "macro",
        pos_label=positive,
    )


def evaluate_classifier(references, probabilities, labels: list[str], *, positive: int = 1, seed: int = 0) -> dict:
    """Return a JSON-able account: measures with their 95 % intervals, the commonest class as a baseline, confusion
    (true class by row, predicted by column), measures of each class, calibration.

    Raises ValueError as `measure` does.
    """
    references, probabilities = np.asarray(references), np.asarray(probabilities, dtype=np.float64)
    values = measure(references, probabilities, positive=positive)
    bounds = intervals(references, probabilities, positive=positive, seed=seed)
    confusion = confusion_matrix(references, probabilities.argmax(axis=1), len(labels))
    commonest, count = Counter(references.tolist()).most_common(1)[0]
    return {
        "num_rows": len(references),
        "labels": labels,
        "positive": labels[positive] if len(labels) == 2 else None,
        "measures": {
            name: {"value": value} | dict(zip(("low", "high"), bounds.get(name, ()), strict=False))
            for name, value in values.items()
        },
        "commonest": {"label": labels[commonest], "accuracy": count / len(references)},
        "confusion": confusion.tolist(),
        "classes": class_measures(confusion, labels),
        "calibration": calibration_bins(references, probabilities),
    }


def intervals(references, probabilities, *, positive: int = 1, seed: int = 0) -> dict[str, tuple[float, float]]:
    """95 % intervals of `measure`'s metrics: Wilson's for the accuracy, the percentile bootstrap over rows for others.

    The calibration error has none: resampled rows only ever add to it.
    """
    num_classes = probabilities.shape[1]
    predictions = probabilities.argmax(axis=1)
    errors = np.square(probabilities - np.eye(num_classes)[references]).sum(axis=1) / (2 if num_classes == 2 else 1)
    scored = [1] if num_classes == 2 else range(num_classes)
    ranks = {number: np.unique(probabilities[:, number], return_inverse=True)[1] for number in scored}

    def statistic(rows):
        areas = [area_under_curve(references[rows] == number, ranks[number][rows]) for number in scored]
        confusion = confusion_matrix(references[rows], predictions[rows], num_classes)
        found = matrix_measures(confusion, positive)
        return found | {
            "roc_auc": np.nanmean(areas) if np.isfinite(areas).any() else np.nan,
            "brier": errors[rows].mean(),
        }

    found = bootstrap_statistic(statistic, len(references), seed=seed, num_resamples=NUM_RESAMPLES)
    right = int((predictions == references).sum())
    return found | {"accuracy": wilson_interval(right, len(references))}


def confusion_matrix(references, predictions, num_classes: int) -> np.ndarray:
    """(classes, classes) counts: true class by row, predicted class by column."""
    pairs = np.asarray(references) * num_classes + np.asarray(predictions)
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def matrix_measures(confusion: np.ndarray, positive: int) -> dict[str, float]:
    """Precision, recall, F1 and Matthews correlation of a confusion matrix, as scikit-learn's, in a few microseconds.

    Of two classes, of the one numbered `positive`; of more, the mean over the classes that occur.
    """
    right, told, true = np.diag(confusion).astype(float), confusion.sum(axis=0), confusion.sum(axis=1)
    shares = [share(right, told), share(right, true), share(2 * right, told + true)]
    picked = [positive] if len(confusion) == 2 else np.flatnonzero(told + true)
    total = confusion.sum()
    scale = np.sqrt(float(total**2 - told @ told)) * np.sqrt(float(total**2 - true @ true))
    correlation = (right.sum() * total - told @ true) / scale if scale else 0.0
    named = zip(("precision", "recall", "f1"), shares, strict=True)
    return {name: float(values[picked].mean()) for name, values in named} | {"matthews_correlation": float(correlation)}


def class_measures(confusion: np.ndarray, labels: list[str]) -> dict[str, dict[str, float]]:
    """Rows, precision, recall and F1 of each class."""
    right, told, true = np.diag(confusion).astype(float), confusion.sum(axis=0), confusion.sum(axis=1)
    columns = (true, share(right, told), share(right, true), share(2 * right, told + true))
    return {
        name: {"num_rows": int(count), "precision": float(precision), "recall": float(recall), "f1": float(f1)}
        for name, count, precision, recall, f1 in zip(labels, *columns, strict=True)
    }


def share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, and 0 where there is nothing."""
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)


def area_under_curve(is_positive: np.ndarray, ranks: np.ndarray) -> float:
    """ROC AUC of scores given as ranks, ties sharing one; NaN where one of the two classes is absent.

    The chance that a positive row ranks above a negative one, ties counting half (Hanley & McNeil 1982).
    """
    size = int(ranks.max()) + 1
    positives = np.bincount(ranks[is_positive], minlength=size)
    negatives = np.bincount(ranks[~is_positive], minlength=size)
    pairs = positives.sum() * negatives.sum()
    below = np.cumsum(negatives) - negatives / 2
    return float(positives @ below / pairs) if pairs else float("nan")
