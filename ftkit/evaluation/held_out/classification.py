"""A classifier on held-out rows: measures with intervals, confusion matrix, calibration; results.json with its items.

evaluation = evaluate_classifier(references, probabilities, ["ham", "spam"])
print("\n".join(evaluation_lines(evaluation | {"split": "test"})))
"""

from collections import Counter
from pathlib import Path

import numpy as np

from ftkit.config.files import write_json
from ftkit.data.tokens.labelled import LabelledRows, some
from ftkit.evaluation.held_out.writing import write_held_out
from ftkit.evaluation.results import NO_SHARES, Item, Score, content_id, task_of
from ftkit.metrics.classification import calibration_bins, measure
from ftkit.metrics.intervals import bootstrap_statistic, wilson_interval
from ftkit.model.classifier import text_probabilities
from ftkit.training.method import HeldOut, Run
from ftkit.training.sharing import shared

EVALUATION_FILE = "evaluation.json"  # for the report and the model card
LOWER_IS_BETTER = ("brier", "expected_calibration_error")
TASK = "classification"
NUM_RESAMPLES = 2000


def evaluate_classifier(references, probabilities, labels: list[str], *, positive: int = 1, seed: int = 0) -> dict:
    """Return a JSON-able account: measures with their 95 % intervals, the commonest class as a baseline, confusion
    (true class by row, predicted by column), measures of each class, calibration, warnings.

    A measure that divides by nothing has the value None and, as "undefined", the reason. Raises ValueError as
    `measure` does.
    """
    references, probabilities = np.asarray(references), np.asarray(probabilities, dtype=np.float64)
    confusion = confusion_matrix(references, probabilities.argmax(axis=1), len(labels))
    bounds = intervals(references, probabilities, positive=positive, seed=seed)
    measures = {
        name: {"value": value} | dict(zip(("low", "high"), bounds.get(name, ()), strict=False))
        for name, value in measure(references, probabilities, positive=positive).items()
    }
    commonest, count = Counter(references.tolist()).most_common(1)[0]
    unused = [name for name, number in zip(labels, confusion.sum(axis=0), strict=True) if not number]
    warnings = [f"no row is put into {some(unused)}"] if unused else []
    if len(labels) == 2 and labels[positive] in unused:
        measures["precision"] = {"value": None, "undefined": warnings[0]}
    if len(labels) - len(unused) == 1:
        only = labels[int(confusion.sum(axis=0).argmax())]
        measures["matthews_correlation"] = {"value": None, "undefined": f"all rows are put into {only}"}
        warnings = [f"all {len(references)} rows are put into {only}: it does not tell the classes apart"]
    return {
        "num_rows": len(references),
        "labels": labels,
        "positive": labels[positive] if len(labels) == 2 else None,
        "measures": measures,
        "commonest": {"label": labels[commonest], "accuracy": count / len(references)},
        "confusion": confusion.tolist(),
        "classes": class_measures(confusion, labels),
        "calibration": calibration_bins(references, probabilities),
        "warnings": warnings,
    }


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


def item_of(row: dict, chances: np.ndarray, labels: list[str]) -> Item:
    """One held-out row with the class that was predicted."""
    label, predicted = labels[row["label"]], labels[int(chances.argmax())]
    key = content_id(row["text"], label)
    probabilities = {name: round(float(chance), 6) for name, chance in zip(labels, chances, strict=True)}
    scores = {"accuracy": float(label == predicted)}
    return Item(
        key, scores, row["text"], predicted, label, extra={"source": row["source"], "probabilities": probabilities}
    )


def evaluation_lines(evaluation: dict) -> list[str]:
    """The evaluation as a person reads it."""
    about = f", F1 of {evaluation['positive']}" if evaluation["positive"] else ", means over the classes"
    lines = [f"{evaluation['num_rows']} {evaluation['split']} rows{about} (95 % intervals)"]
    for name, found in evaluation["measures"].items():
        value, interval = measure_texts(found)
        lines.append(f"  {name.replace('_', ' '):<27}{value}{f'  ({interval})' if interval else ''}")
    commonest = evaluation["commonest"]
    lines.append(f"  always {commonest['label']}: accuracy {commonest['accuracy']:.3f}")
    width = max(len(name) for name in evaluation["labels"])
    lines.append(f"  true class, and predicted as {', '.join(evaluation['labels'])}:")
    for name, counts in zip(evaluation["labels"], evaluation["confusion"], strict=True):
        lines.append(f"    {name:<{width}}  {'  '.join(f'{count:>5}' for count in counts)}")
    return lines + [f"warning: {text}" for text in evaluation["warnings"]]


def measure_texts(found: dict) -> tuple[str, str]:
    """A measure's value, or why it is undefined, and its interval as "low to high"; "" for none."""
    if found["value"] is None:
        return f"undefined: {found['undefined']}", ""
    return f"{found['value']:.3f}", f"{found['low']:.3f} to {found['high']:.3f}" if "low" in found else ""


def held_out_rows(rows: LabelledRows) -> tuple[str, list[dict] | None]:
    """What is measured at the end, by its split: the test rows, else the validation rows."""
    return ("test", rows.test) if rows.test else ("validation", rows.validation)


def measure_held_out(run: Run, trainer) -> np.ndarray | None:
    """(rows, classes) probabilities of the held-out rows; None without any."""
    _, rows = held_out_rows(run.data.rows)
    if not rows:
        return None
    settings = {"max_length": run.decided.max_length, "batch_size": run.config.per_device_eval_batch_size}

    def classify(texts: list[str]) -> np.ndarray:
        return text_probabilities(trainer.model, run.data.tokenizer, texts, **settings).numpy()

    return np.array(shared(trainer.accelerator, [row["text"] for row in rows], classify))


def report(run: Run, before: None, after: np.ndarray) -> list[str]:
    """Write OUT/results.json, its items and OUT/evaluation.json; the evaluation for a person."""
    labels, (split, rows) = run.data.rows.labels, held_out_rows(run.data.rows)
    references = [row["label"] for row in rows]
    evaluation = {"split": split} | evaluate_classifier(references, after, labels, positive=run.data.positive)
    write_json(Path(run.output_dir) / EVALUATION_FILE, evaluation)
    scores = {
        name: Score(**measured, higher_is_better=name not in LOWER_IS_BETTER, is_share=name not in NO_SHARES)
        for name, measured in evaluation["measures"].items()
        if measured["value"] is not None
    }
    items = [item_of(row, chances, labels) for row, chances in zip(rows, after, strict=True)]
    write_held_out(run, task_of(TASK, items, scores), items, facts={"split": split, "labels": labels})
    return evaluation_lines(evaluation)


HELD_OUT = HeldOut(measure_held_out, report, before=False)
