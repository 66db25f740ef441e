"""Metrics of a classifier as `evaluate.Metric`s that need no network; scikit-learn is underneath.

    Accuracy().compute(predictions=[0, 1], references=[1, 1])
    evaluate.combine([F1(), RocAuc()]).compute(predictions=[0, 1], references=[1, 0], prediction_scores=[...])

predictions, references: class numbers. prediction_scores: (rows, classes), each row's probabilities. Of two classes the
one numbered `pos_label` is what precision, recall and F1 are about; of more, they are the mean over the classes.
Every metric raises ValueError for no rows, for what is no class or no probability, and returns plain floats.
"""

import datasets
import evaluate
import numpy as np
from sklearn import metrics

from ftkit.metrics.definition import Lists
from ftkit.metrics.intervals import bootstrap_statistic, wilson_interval

NUMBER = datasets.Value("float64")  # also of classes: an integer feature would cut 0.9 to 0
CLASS_FEATURES = {"predictions": NUMBER, "references": NUMBER}
SCORE_FEATURES = {"prediction_scores": datasets.Sequence(NUMBER), "references": NUMBER}
SUM_TOLERANCE = 1e-3  # of a row's probabilities from 1
NUM_RESAMPLES = 2000
NUM_BINS = 15  # of equal width, as in Guo et al. 2017


class _ClassMetric(Lists, evaluate.Metric):
    """Of predicted class numbers. `measure` takes (references, predictions) as arrays."""

    name = ""
    columns = CLASS_FEATURES

    def _info(self):
        return evaluate.MetricInfo(
            description=(type(self).__doc__ or "").strip(),
            citation="",
            inputs_description=f"{', '.join(self.columns)}, one per row",
            features=datasets.Features(self.columns),
        )

    def _compute(self, references, predictions=None, prediction_scores=None, *, average=None, pos_label=1):
        """average: "binary", "macro", "micro" or "weighted"; None takes "binary" for classes 0 and 1, else "macro".

        All metrics take the same arguments, so that `evaluate.combine` can hand them to each; those that a metric has
        no use for do not change it.
        """
        given = prediction_scores if "prediction_scores" in self.columns else predictions
        if not len(references):
            raise ValueError(f"{self.name} of no rows; give at least one prediction")
        classes, given = class_numbers(self.name, references), self.checked(given)
        if self.columns is SCORE_FEATURES and classes.max() >= given.shape[1]:
            raise ValueError(
                f"{self.name}: reference {classes.max()}, but prediction_scores have {given.shape[1]} columns"
            )
        return {self.name: float(self.measure(classes, given, average=average, pos_label=pos_label))}

    def checked(self, given) -> np.ndarray:
        """Predictions as an array. Raises ValueError for what can't be scored."""
        return class_numbers(self.name, given)

    def measure(self, references, predictions, *, average, pos_label) -> float:
        """The value, from the class numbers of all rows. pos_label: the class of a binary average."""
        raise NotImplementedError


class _ScoreMetric(_ClassMetric):
    """Of probabilities. `measure` takes (references, scores (rows, classes))."""

    columns = SCORE_FEATURES

    def checked(self, given):
        if len({len(row) for row in given}) != 1 or len(given[0]) < 2:
            raise ValueError(
                f"{self.name}: prediction_scores need the same number of columns in each row, one per class"
            )
        scores = np.asarray(given, dtype=np.float64)
        wrong = ~((scores >= 0) & (scores <= 1)).all(axis=1) | (np.abs(scores.sum(axis=1) - 1) > SUM_TOLERANCE)
        if wrong.any():
            row = scores[wrong.argmax()].tolist()
            raise ValueError(
                f"{self.name}: prediction_scores {row} are not probabilities, 0 to 1 and 1 in sum; softmax them"
            )
        return scores


def class_numbers(name: str, values) -> np.ndarray:
    """Class numbers as integers. Raises ValueError for others; -1 is no class, but a row without a label."""
    numbers = np.asarray(values, dtype=np.float64)
    wrong = numbers[~((numbers >= 0) & (numbers % 1 == 0))]
    if len(wrong):
        raise ValueError(
            f"{name}: {wrong[0]:g} is not a class; give whole numbers from 0, and leave unlabelled rows out"
        )
    return numbers.astype(np.int64)


def averaging(references, predictions, average, pos_label) -> dict:
    """scikit-learn's settings for precision, recall and F1; what is not predicted, or not there, counts as 0."""
    if average is None:
        average = "binary" if max(references.max(), predictions.max()) <= 1 else "macro"
    return {"average": average, "pos_label": pos_label if average == "binary" else 1, "zero_division": 0}


class Accuracy(_ClassMetric):
    """Share of rows whose class is predicted."""

    name = "accuracy"

    def measure(self, references, predictions, **_):
        return metrics.accuracy_score(references, predictions)


class Precision(_ClassMetric):
    """Share of the rows predicted as a class that are of it."""

    name = "precision"

    def measure(self, references, predictions, **options):
        return metrics.precision_score(references, predictions, **averaging(references, predictions, **options))


class Recall(_ClassMetric):
    """Share of the rows of a class that are predicted as it."""

    name = "recall"

    def measure(self, references, predictions, **options):
        return metrics.recall_score(references, predictions, **averaging(references, predictions, **options))


class F1(_ClassMetric):
    """Harmonic mean of precision and recall."""

    name = "f1"

    def measure(self, references, predictions, **options):
        return metrics.f1_score(references, predictions, **averaging(references, predictions, **options))


class MatthewsCorrelation(_ClassMetric):
    """Correlation of predicted and true class, -1 to 1; 0 is guessing, also where one class is rare (Gorodkin 2004)."""

    name = "matthews_correlation"

    def measure(self, references, predictions, **_):
        return metrics.matthews_corrcoef(references, predictions)


class RocAuc(_ScoreMetric):
    """Chance that a row of a class scores higher for it than a row of another; the mean over more than two classes.

    Raises ValueError where only one class is in the references.
    """

    name = "roc_auc"

    def measure(self, references, scores, **_):
        present = np.unique(references)
        if len(present) < 2:
            raise ValueError(f"roc_auc needs rows of two classes; all {len(references)} are of class {present[0]}")
        if scores.shape[1] == 2:
            return metrics.roc_auc_score(references, scores[:, 1])
        return np.mean([metrics.roc_auc_score(references == number, scores[:, number]) for number in present])


class Brier(_ScoreMetric):
    """Mean squared error of the probabilities (Brier 1950): of two classes halved, 0 to 1; of more, 0 to 2."""

    name = "brier"

    def measure(self, references, scores, **_):
        if scores.shape[1] == 2:
            return metrics.brier_score_loss(references, scores[:, 1])
        return np.square(scores - np.eye(scores.shape[1])[references]).sum(axis=1).mean()


class ExpectedCalibrationError(_ScoreMetric):
    """Mean distance between how sure the predicted class is and how often it is right (arXiv:1706.04599)."""

    name = "expected_calibration_error"

    def measure(self, references, scores, **_):
        bins = calibration_bins(references, scores)
        return sum(bin["num_rows"] * abs(bin["accuracy"] - bin["confidence"]) for bin in bins) / len(references)


def calibration_bins(references, scores, num_bins: int = NUM_BINS) -> list[dict]:
    """Bins of equal width of the predicted class's probability that hold rows: num_rows, confidence, accuracy."""
    references, scores = np.asarray(references), np.asarray(scores)
    confidence, right = scores.max(axis=1), scores.argmax(axis=1) == references
    numbers = np.clip(np.ceil(confidence * num_bins).astype(int) - 1, 0, num_bins - 1)  # (low, high]
    return [
        {
            "num_rows": int((numbers == number).sum()),
            "confidence": float(confidence[numbers == number].mean()),
            "accuracy": float(right[numbers == number].mean()),
        }
        for number in np.unique(numbers)
    ]


METRICS = (Accuracy, Precision, Recall, F1, MatthewsCorrelation, RocAuc, Brier, ExpectedCalibrationError)


def measure(references, probabilities, *, positive: int = 1) -> dict[str, float]:
    """Every metric of `METRICS` by name. references: (rows,) class numbers. probabilities: (rows, classes).

    positive: of two classes the one that precision, recall and F1 are about. Raises ValueError for no rows and for
    rows of a single class.
    """
    references, probabilities = np.asarray(references), np.asarray(probabilities, dtype=np.float64)
    average = "binary" if probabilities.shape[1] == 2 else "macro"
    found = {}
    for metric in METRICS:  # `compute` of each would take the rows through Arrow, and hash them
        one = metric(keep_in_memory=True)
        found |= one._compute(
            references, probabilities.argmax(axis=1), probabilities, average=average, pos_label=positive
        )
    return found


def intervals(references, probabilities, *, positive: int = 1, seed: int = 0) -> dict[str, tuple[float, float]]:
    """95 % intervals of `measure`'s metrics: Wilson's for accuracy and, of two classes, precision and recall; the
    percentile bootstrap over rows for others.

    Without an interval are a measure that is the same in every draw, and the calibration error, to which resampled
    rows only ever add.
    """
    num_classes = probabilities.shape[1]
    predictions = probabilities.argmax(axis=1)
    errors = np.square(probabilities - np.eye(num_classes)[references]).sum(axis=1) / (2 if num_classes == 2 else 1)
    scored = [1] if num_classes == 2 else range(num_classes)
    ranks = {number: np.unique(probabilities[:, number], return_inverse=True)[1] for number in scored}

    def statistic(rows):
        areas = [area_under_curve(references[rows] == number, ranks[number][rows]) for number in scored]
        found = matrix_measures(confusion_matrix(references[rows], predictions[rows], num_classes), positive)
        area = np.nanmean(areas) if np.isfinite(areas).any() else np.nan
        return found | {"roc_auc": area, "brier": errors[rows].mean()}

    found = bootstrap_statistic(statistic, len(references), seed=seed, num_resamples=NUM_RESAMPLES)
    confusion = confusion_matrix(references, predictions, num_classes)
    shares = {"accuracy": (np.trace(confusion), len(references))}
    if num_classes == 2:
        shares["precision"] = confusion[positive, positive], confusion[:, positive].sum()
        shares["recall"] = confusion[positive, positive], confusion[positive].sum()
    found |= {name: wilson_interval(int(part), int(whole)) for name, (part, whole) in shares.items() if whole}
    return {name: (low, high) for name, (low, high) in found.items() if low < high}


def confusion_matrix(references, predictions, num_classes: int) -> np.ndarray:
    """(classes, classes) counts: true class by row, predicted class by column."""
    pairs = np.asarray(references) * num_classes + np.asarray(predictions)
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def matrix_measures(confusion: np.ndarray, positive: int) -> dict[str, float]:
    """Precision, recall, F1 and Matthews correlation of a confusion matrix, as scikit-learn's, in a few microseconds.

    Of two classes, of the one numbered `positive`; of more, the mean over the classes that occur.
    """
    right, found, true = np.diag(confusion).astype(float), confusion.sum(axis=0), confusion.sum(axis=1)
    shares = [share(right, found), share(right, true), share(2 * right, found + true)]
    picked = [positive] if len(confusion) == 2 else np.flatnonzero(found + true)
    total = confusion.sum()
    scale = np.sqrt(float(total**2 - found @ found)) * np.sqrt(float(total**2 - true @ true))
    correlation = (right.sum() * total - found @ true) / scale if scale else 0.0
    named = zip(("precision", "recall", "f1"), shares, strict=True)
    return {name: float(values[picked].mean()) for name, values in named} | {"matthews_correlation": float(correlation)}


def class_measures(confusion: np.ndarray, labels: list[str]) -> dict[str, dict[str, float]]:
    """Rows, precision, recall and F1 of each class; None where a share is of nothing."""
    found = {}
    for number, name in enumerate(labels):
        right, predicted, true = confusion[number, number], confusion[:, number].sum(), confusion[number].sum()
        parts = {"precision": (right, predicted), "recall": (right, true), "f1": (2 * right, predicted + true)}
        shares = {key: float(part / whole) if whole else None for key, (part, whole) in parts.items()}
        found[name] = {"num_rows": int(true)} | shares
    return found


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
