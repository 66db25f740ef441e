"""The part of report.html about a classifier: measures, confusion matrix, calibration, most confident mistakes."""

import json
from pathlib import Path

from ftkit.config.jsonl import read_log
from ftkit.evaluation.held_out.classification import measure_texts
from ftkit.evaluation.pages.charts import Chart, Line
from ftkit.evaluation.results import NO_SHARES, Score, metric_text

MAX_SHOWN_CLASSES = 20  # of a confusion matrix
NUM_MISTAKES = 8
MISTAKE_CHARACTERS = 400


def classifier_parts(folder: Path) -> dict:
    """What classification.html shows of OUT/evaluation.json and the items beside it; {} without them."""
    path = folder / "evaluation.json"
    if not path.is_file():
        return {}
    evaluation = json.loads(path.read_text(encoding="utf-8"))
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
        "mistakes": mistakes(read_log(folder / "items/classification.jsonl")),
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


def calibration_chart(bins: list[dict]) -> Chart:
    """A dot for each bin: confidence across, accuracy up, its area by its rows; the diagonal is where they agree."""
    most = max(found["num_rows"] for found in bins)
    points = [(100 * found["confidence"], 100 - 100 * found["accuracy"]) for found in bins]
    dots = [
        (x, y, 3 + 8 * (found["num_rows"] / most) ** 0.5,
         f"{found['num_rows']} rows: {found['confidence']:.1%} sure, {found['accuracy']:.1%} right")
        for found, (x, y) in zip(bins, points, strict=True)
    ]  # fmt: skip
    marks = [(25.0 * number, f"{number / 4:g}") for number in range(5)]
    lines = [Line("", "diagonal", [(0, 100), (100, 0)]), Line("", "train", points), Line("", "eval", [], dots)]
    up = [(100 - place, text) for place, text in marks]
    return Chart("Accuracy by confidence", "probability of the predicted class", marks, up, lines)


def mistakes(items: list[dict]) -> list[tuple[str, str]]:
    """Text and note of the wrongly classified rows of which the model was most confident."""
    wrong = [item for item in items if item["prediction"] != item["reference"]]
    wrong.sort(key=lambda item: -item["extra"]["probabilities"][item["prediction"]])
    shown = []
    for item in wrong[:NUM_MISTAKES]:
        text, chance = item["prompt"].strip(), item["extra"]["probabilities"][item["prediction"]]
        text = text if len(text) <= MISTAKE_CHARACTERS else text[:MISTAKE_CHARACTERS] + " …"
        shown.append((text, f"{item['prediction']} ({chance:.1%}), is {item['reference']}; {item['extra']['source']}"))
    return shown
