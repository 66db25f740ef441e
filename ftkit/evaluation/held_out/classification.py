"""A classifier on held-out rows: measured with intervals, written as results.json with its items, and its page's part.

evaluation = evaluate_classifier(references, probabilities, ["ham", "spam"])
print("\n".join(evaluation_lines(evaluation | {"split": "test"})))
"""

from collections import Counter
from pathlib import Path

import numpy as np

from ftkit.config.files import write_json
from ftkit.config.json_object import read_object
from ftkit.config.jsonl import read_log
from ftkit.data.tokens.labelled import LabelledRows, some
from ftkit.data.tokens.receipt_text import short_source
from ftkit.evaluation.held_out.writing import write_held_out
from ftkit.evaluation.pages.charts import Chart, Line
from ftkit.evaluation.results import (
    BEFORE,
    NO_SHARES,
    Item,
    Score,
    content_id,
    items_file,
    mean_score,
    metric_text,
    task_of,
)
from ftkit.evaluation.verdict.text import run_lines
from ftkit.metrics.classification import calibration_bins, class_measures, confusion_matrix, intervals, measure
from ftkit.model.classifier import text_probabilities
from ftkit.training.method import HeldOut, Run
from ftkit.training.sharing import shared

EVALUATION_FILE = "evaluation.json"  # for the report and the model card
LOWER_IS_BETTER = ("brier", "expected_calibration_error")
TASK = "classification"
MAX_SHOWN_CLASSES = 20  # of a confusion matrix
NUM_MISTAKES = 8
MISTAKE_CHARACTERS = 400
MAX_BASELINE_ROWS = 50_000  # of training; some seconds


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
    warnings = [f"no text was called {some(unused)}"] if unused else []
    if len(labels) == 2 and labels[positive] in unused:
        measures["precision"] = {"value": None, "undefined": warnings[0]}
    if len(labels) - len(unused) == 1:
        only = labels[int(confusion.sum(axis=0).argmax())]
        measures["matthews_correlation"] = {"value": None, "undefined": f"every text was called {only}"}
        warnings = [f"it called all {len(references)} texts {only}: it does not tell the classes apart"]
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


def measured(run: Run, trainer, rows: list[dict]) -> np.ndarray:
    """(rows, classes) probabilities of the held-out rows; in all processes."""
    settings = {"max_length": run.decided.max_length, "batch_size": run.config.per_device_eval_batch_size}

    def classify(texts: list[str]) -> np.ndarray:
        return text_probabilities(trainer.model, run.data.tokenizer, texts, **settings).numpy()

    return np.array(shared(trainer.accelerator, [row["text"] for row in rows], classify))


def after(run: Run, trainer) -> list[str]:
    """Write OUT/results.json, its items and OUT/evaluation.json, and as OUT/before-* what needs no language model; the
    evaluation for a person, with the verdict."""
    labels, (split, rows) = run.data.rows.labels, held_out_rows(run.data.rows)
    if not rows:
        return []
    probabilities = measured(run, trainer, rows)
    if not trainer.is_world_process_zero():
        return []
    references = [row["label"] for row in rows]
    evaluation = {"split": split} | evaluate_classifier(references, probabilities, labels, positive=run.data.positive)
    write_json(Path(run.output_dir) / EVALUATION_FILE, evaluation)
    scores = {
        name: Score(**found, higher_is_better=name not in LOWER_IS_BETTER, is_share=name not in NO_SHARES)
        for name, found in evaluation["measures"].items()
        if found["value"] is not None
    }
    facts = {"split": split, "labels": labels}
    items = [item_of(row, chances, labels) for row, chances in zip(rows, probabilities, strict=True)]
    write_held_out(run, task_of(TASK, items, scores), items, facts=facts)
    for name, predicted in baselines(run.data.rows.train, rows).items():
        plain = [baseline_item(row, number, labels) for row, number in zip(rows, predicted, strict=True)]
        task = task_of(TASK, plain, {"accuracy": mean_score([item.scores["accuracy"] for item in plain])})
        where = {"folder": f"{BEFORE}-{name.replace(' ', '-')}", "name": name}
        write_held_out(run, task, plain, is_trained=False, facts=facts, **where)
    return [*evaluation_lines(evaluation), *run_lines(run.output_dir, "text")]


def baselines(train: list[dict], rows: list[dict]) -> dict[str, list[int]]:
    """Class numbers that need no language model, by name: the commonest of the training rows for all; and a logistic
    regression on words and pairs of words, weighted by TF-IDF, left out where training rows are very many."""
    labels = [row["label"] for row in train]
    found = {"majority class": [Counter(labels).most_common(1)[0][0]] * len(rows)}
    if len(train) <= MAX_BASELINE_ROWS and len(set(labels)) > 1:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline

        words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\b\w+\b|[^\w\s]")
        model = make_pipeline(words, LogisticRegression(C=10.0, max_iter=1000))
        model.fit([row["text"] for row in train], labels)
        found["bag of words"] = model.predict([row["text"] for row in rows]).tolist()
    return found


def baseline_item(row: dict, predicted: int, labels: list[str]) -> Item:
    """One held-out row with the class that a baseline gives it."""
    label, scores = labels[row["label"]], {"accuracy": float(predicted == row["label"])}
    return Item(content_id(row["text"], label), scores, row["text"], labels[predicted], label)


def classifier_parts(folder: Path) -> dict:
    """What classification.html shows of OUT/evaluation.json and the items beside it; {} without them."""
    path = folder / EVALUATION_FILE
    if not path.is_file():
        return {}
    evaluation = read_object(path, "train again")
    positive, commonest = evaluation["positive"], evaluation["commonest"]
    rows = f"{evaluation['num_rows']} held-out {evaluation['split']} rows"
    baseline = f"Always saying {commonest['label']} would be right in {commonest['accuracy']:.1%}."
    about = f"F1, precision and recall are of {positive}." if positive else "Means over classes."
    labels = evaluation["labels"][:MAX_SHOWN_CLASSES]
    return {
        "note": f"{rows}; the line in each bar is the 95 % interval. {about} {baseline}",
        "warnings": evaluation.get("warnings", []),
        "measures": [measure_line(name, found) for name, found in evaluation["measures"].items()],
        "labels": labels,
        "confusion": [confusion_line(evaluation, number) for number in range(len(labels))],
        "num_left_out": len(evaluation["labels"]) - len(labels),
        "calibration": calibration_chart(evaluation["calibration"]),
        "mistakes": mistakes(read_log(folder / items_file(TASK))),
    }


def measure_line(name: str, found: dict) -> tuple[str, str, str, Score | None]:
    """Name, value, interval, and what is drawn as a bar."""
    is_bar = found["value"] is not None and name not in NO_SHARES
    return (
        metric_text(name),
        *measure_texts(found),
        Score(found["value"], found.get("low"), found.get("high")) if is_bar else None,
    )


def confusion_line(evaluation: dict, number: int) -> tuple[str, list[tuple], list[str]]:
    """A class, (shade, share of the row, count) of each prediction, and its precision and recall."""
    name, counts = evaluation["labels"][number], evaluation["confusion"][number]
    cells = [
        ("hit" if column == number else "miss", f"{count / max(1, sum(counts)):.3f}", f"{count:,}")
        for column, count in enumerate(counts[:MAX_SHOWN_CLASSES])
    ]
    shares = (evaluation["classes"][name][key] for key in ("precision", "recall"))
    return name, cells, ["-" if share is None else f"{share:.3f}" for share in shares]


def calibration_chart(bins: list[dict], unit: str = "probability of the predicted class", what: str = "rows") -> Chart:
    """A dot for each bin: confidence across, accuracy up, its area by its rows; the diagonal is where they agree.

    unit: of the axis across. what: the rows are called.
    """
    most = max(found["num_rows"] for found in bins)
    points = [(100 * found["confidence"], 100 - 100 * found["accuracy"]) for found in bins]
    dots = [
        (x, y, 3 + 8 * (found["num_rows"] / most) ** 0.5,
         f"{found['num_rows']} {what}: {found['confidence']:.1%} sure, {found['accuracy']:.1%} right")
        for found, (x, y) in zip(bins, points, strict=True)
    ]  # fmt: skip
    marks = [(25.0 * number, f"{number / 4:g}") for number in range(5)]
    lines = [Line("", "diagonal", [(0, 100), (100, 0)]), Line("", "train", points), Line("", "eval", [], dots)]
    up = [(100 - place, text) for place, text in marks]
    return Chart("Accuracy by confidence", unit, marks, up, lines)


def mistakes(items: list[dict]) -> list[tuple[str, str]]:
    """Text and note of the wrongly classified rows of which the model was most confident."""
    wrong = [item for item in items if item["prediction"] != item["reference"]]
    wrong.sort(key=lambda item: -item["extra"]["probabilities"][item["prediction"]])
    shown = []
    for item in wrong[:NUM_MISTAKES]:
        text, chance = item["prompt"].strip(), item["extra"]["probabilities"][item["prediction"]]
        source = short_source(item["extra"].get("source", ""))
        text = text if len(text) <= MISTAKE_CHARACTERS else text[:MISTAKE_CHARACTERS] + " …"
        shown.append((text, f"{item['prediction']} ({chance:.1%}), is {item['reference']}; {source}"))
    return shown


HELD_OUT = HeldOut(after)
