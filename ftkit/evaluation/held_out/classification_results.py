"""What a classifier's run writes of its held-out rows: results.json with its items, for `ftkit compare`, and
evaluation.json, for the report and the model card."""

import hashlib
import json
from pathlib import Path

import numpy as np

from ftkit.config.files import write_json, write_text
from ftkit.data.tokens.classification import LabelledRows
from ftkit.evaluation.bench.results import Item, Results, Score, TaskResult, write_results
from ftkit.evaluation.held_out.classification import evaluate_classifier

EVALUATION_FILE = "evaluation.json"
LOWER_IS_BETTER = ("brier", "expected_calibration_error")
TASK = "classification"
HASH_DIGITS = 16


def write_evaluation(
    settings, held_out: list[dict], probabilities: np.ndarray, rows: LabelledRows, split: str, positive: int
) -> dict:
    """Measure the held-out rows, write OUT/results.json, items and OUT/evaluation.json, and return the last.

    probabilities: (rows, classes). split: what the rows are, "test" or "validation".
    """
    output_dir = Path(settings.training.output_dir)
    references = [row["label"] for row in held_out]
    evaluation = {"split": split} | evaluate_classifier(references, probabilities, rows.labels, positive=positive)
    write_json(output_dir / EVALUATION_FILE, evaluation)
    items = [item_of(row, chances, rows.labels) for row, chances in zip(held_out, probabilities, strict=True)]
    scores = {
        name: Score(**measured, higher_is_better=name not in LOWER_IS_BETTER)
        for name, measured in evaluation["measures"].items()
    }
    digest = hashlib.sha256("".join(item.item_id for item in items).encode()).hexdigest()[:HASH_DIGITS]
    task = TaskResult(TASK, 1, digest, len(items), 0, "accuracy", scores, f"items/{TASK}.jsonl")
    lines = [json.dumps(vars(item), ensure_ascii=False) + "\n" for item in items]
    write_text(output_dir / task.items_file, "".join(lines))
    model = {"name": settings.model.model_name_or_path, "dtype": settings.model.dtype}
    told = {"dataset_name": settings.data.dataset_name, "split": split, "labels": rows.labels}
    write_results(output_dir / "results.json", Results(model, {TASK: task}, told, seed=settings.training.seed))
    return evaluation


def item_of(row: dict, chances: np.ndarray, labels: list[str]) -> Item:
    """One held-out row with the class that was predicted."""
    label, predicted = labels[row["label"]], labels[int(chances.argmax())]
    key = hashlib.sha256(json.dumps([row["text"], label]).encode()).hexdigest()[:HASH_DIGITS]
    probabilities = {name: round(float(chance), 6) for name, chance in zip(labels, chances, strict=True)}
    scores = {"accuracy": float(label == predicted)}
    return Item(
        key, scores, row["text"], predicted, label, extra={"source": row["source"], "probabilities": probabilities}
    )


def evaluation_lines(evaluation: dict) -> list[str]:
    """The evaluation as a person reads it."""
    about = f", F1 of {evaluation['positive']}" if evaluation["positive"] else ", means over the classes"
    lines = [f"{evaluation['num_rows']} {evaluation['split']} rows{about} (95 % intervals)"]
    for name, measured in evaluation["measures"].items():
        bounds = f"  ({measured['low']:.3f} to {measured['high']:.3f})" if "low" in measured else ""
        lines.append(f"  {name.replace('_', ' '):<27}{measured['value']:.3f}{bounds}")
    commonest = evaluation["commonest"]
    lines.append(f"  always {commonest['label']}: accuracy {commonest['accuracy']:.3f}")
    width = max(len(name) for name in evaluation["labels"])
    lines.append(f"  true class, and predicted as {', '.join(evaluation['labels'])}:")
    for name, counts in zip(evaluation["labels"], evaluation["confusion"], strict=True):
        lines.append(f"    {name:<{width}}  {'  '.join(f'{count:>5}' for count in counts)}")
    return lines
