"""The part of report.html about a classifier: measures, confusion matrix, calibration, worst mistakes."""

import html
import json
from pathlib import Path

from ftkit.config.jsonl import read_log
from ftkit.evaluation.held_out.classification import measure_texts
from ftkit.evaluation.pages.loss_chart import is_number

SHARES = ("accuracy", "precision", "recall", "f1", "roc_auc")  # between 0 and 1, the higher the better: drawn as bars
MAX_SHOWN_CLASSES = 20  # of a confusion matrix
NUM_MISTAKES = 8
MISTAKE_CHARACTERS = 400
SIZE, LEFT, BOTTOM, TOP = 300, 46, 40, 10  # of the calibration chart, in pixels


def classification_parts(folder: Path) -> list[tuple[str, str, str]]:
    """(title, markup, note) of each section, from OUT/evaluation.json and the items beside it; [] without them."""
    path = folder / "evaluation.json"
    if not path.is_file():
        return []
    evaluation = json.loads(path.read_text(encoding="utf-8"))
    items = read_log(folder / "items/classification.jsonl")
    about = (
        f"F1, precision and recall are of {evaluation['positive']}."
        if evaluation["positive"]
        else "Means over classes."
    )
    commonest = evaluation["commonest"]
    baseline = f"Always saying {commonest['label']} would be right in {commonest['accuracy']:.1%}."
    rows = f"{evaluation['num_rows']} held-out {evaluation['split']} rows; the line in each bar is the 95 % interval."
    warnings = "".join(f" Warning: {text}." for text in evaluation.get("warnings", []))
    note = html.escape(f"{rows} {about} {baseline}{warnings}")
    return [
        ("Measures", measures_table(evaluation["measures"]), note),
        ("Confusion", confusion_table(evaluation), "Rows: the true class. Columns: what was predicted."),
        ("Calibration", calibration_svg(evaluation["calibration"]), CALIBRATION_NOTE),
        *([("Surest mistakes", mistakes, MISTAKE_NOTE)] if (mistakes := mistakes_markup(items)) else []),
    ]


CALIBRATION_NOTE = (
    "How sure the predicted class is, against how often it is right; on the diagonal a probability means what it says. "
    "The larger a dot, the more rows."
)
MISTAKE_NOTE = "Held-out texts that were put into a wrong class with the highest probability."


def measures_table(measures: dict) -> str:
    """A line for each measure, with a bar and its interval where it is a share."""
    lines = ["<tr><th></th><th>value</th><th>95 % interval</th></tr>"]
    for name, found in measures.items():
        value, interval = measure_texts(found)
        bounds = f'<span class="figures">{interval}</span>' if interval else ""
        cell = bar(found) if name in SHARES and found["value"] is not None else ""
        lines.append(
            f'<tr><th scope="row">{name.replace("_", " ")}</th><td class="number strong">{html.escape(value)}</td>'
            f"<td>{cell}{bounds}</td></tr>"
        )
    return f'<div class="wide"><table class="results">{"".join(lines)}</table></div>'


def bar(found: dict) -> str:
    """A bar from 0 to 1 with its interval."""
    marks = ""
    if is_number(found.get("low")) and is_number(found.get("high")):
        low, high = 200 * found["low"], 200 * found["high"]
        marks = f'<line class="whisker" x1="{low:.1f}" x2="{high:.1f}" y1="8" y2="8"/>' + "".join(
            f'<line class="whisker" x1="{x:.1f}" x2="{x:.1f}" y1="4" y2="12"/>' for x in (low, high)
        )
    shape = f'<rect class="bar" x="0" y="1" width="{200 * found["value"]:.1f}" height="14" rx="2"/>'
    return f'<svg class="interval" viewBox="-1 0 202 16" width="202" height="16">{shape}{marks}</svg>'


def confusion_table(evaluation: dict) -> str:
    """Counts by true and predicted class, shaded by their share of the row, with each class's precision and recall."""
    labels, counts = evaluation["labels"][:MAX_SHOWN_CLASSES], evaluation["confusion"]
    head = "".join(f"<th>{html.escape(name)}</th>" for name in labels)
    lines = [f"<tr><th></th>{head}<th>precision</th><th>recall</th></tr>"]
    for number, name in enumerate(labels):
        total = max(1, sum(counts[number]))
        cells = "".join(
            f'<td class="{"hit" if column == number else "miss"}" style="--share:{count / total:.3f}">{count:,}</td>'
            for column, count in enumerate(counts[number][:MAX_SHOWN_CLASSES])
        )
        shares = (evaluation["classes"][name][key] for key in ("precision", "recall"))
        cells += "".join(f'<td class="number">{"-" if share is None else f"{share:.3f}"}</td>' for share in shares)
        lines.append(f'<tr><th scope="row">{html.escape(name)}</th>{cells}</tr>')
    left_out = len(evaluation["labels"]) - len(labels)
    more = f'<p class="note">{left_out} more classes are in evaluation.json.</p>' if left_out else ""
    return f'<div class="wide"><table class="confusion">{"".join(lines)}</table></div>{more}'


def calibration_svg(bins: list[dict]) -> str:
    """A dot for each bin: confidence across, accuracy up, its area by its rows; the diagonal is where they agree."""
    plot = SIZE - LEFT - TOP

    def place(across: float, up: float) -> tuple[float, float]:
        return LEFT + across * plot, TOP + (1 - up) * plot

    parts = [
        f'<svg class="calibration" viewBox="0 0 {SIZE} {SIZE - LEFT + BOTTOM}" width="{SIZE}" role="img" '
        'aria-label="Accuracy by confidence">'
    ]
    for tick in (0, 0.25, 0.5, 0.75, 1):
        (x, base), (_, y) = place(tick, 0), place(0, tick)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{LEFT + plot}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
        parts.append(f'<text class="tick" x="{x:.1f}" y="{base + 16:.1f}" text-anchor="middle">{tick:g}</text>')
    (x1, y1), (x2, y2) = place(0, 0), place(1, 1)
    parts.append(f'<line class="grid diagonal" x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"/>')
    most = max(found["num_rows"] for found in bins)
    points = [place(found["confidence"], found["accuracy"]) for found in bins]
    parts.append(f'<polyline class="line train" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}"/>')
    for found, (x, y) in zip(bins, points, strict=True):
        radius = 3 + 8 * (found["num_rows"] / most) ** 0.5
        title = f"{found['num_rows']} rows: {found['confidence']:.1%} sure, {found['accuracy']:.1%} right"
        parts.append(
            f'<circle class="dot eval" cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}"><title>{title}</title></circle>'
        )
    middle, low = LEFT + plot / 2, TOP + plot + 34
    parts.append(
        f'<text class="tick" x="{middle}" y="{low}" text-anchor="middle">probability of the predicted class</text>'
    )
    return "\n".join([*parts, "</svg>"])


def mistakes_markup(items: list[dict]) -> str:
    """The wrongly classified texts of which the model was surest."""
    wrong = [item for item in items if item["prediction"] != item["reference"]]
    wrong.sort(key=lambda item: -item["extra"]["probabilities"][item["prediction"]])
    cards = []
    for item in wrong[:NUM_MISTAKES]:
        text = item["prompt"]
        text = text if len(text) <= MISTAKE_CHARACTERS else text[:MISTAKE_CHARACTERS] + " …"
        chance = item["extra"]["probabilities"][item["prediction"]]
        told = f"{item['prediction']} ({chance:.1%}), is {item['reference']}; {item['extra']['source']}"
        cards.append(f'<div class="card"><pre>{html.escape(text)}</pre><p class="note">{html.escape(told)}</p></div>')
    return "".join(cards)
