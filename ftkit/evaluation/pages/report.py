"""OUT/report.html: what a run did and what came of it, on one page that needs no network; and OUT/loss.png.

Everything is read from the run folder; what a run did not write is left out.
"""

import html
import json
from pathlib import Path

from ftkit.config.files import write_text
from ftkit.config.jsonl import read_log
from ftkit.config.run_folder import read_run_yaml
from ftkit.evaluation.pages.classification import classification_parts
from ftkit.evaluation.pages.loss_chart import is_number, loss_points, loss_svg, save_loss_png
from ftkit.evaluation.pages.style import PAGE, STYLE
from ftkit.evaluation.results import measured_runs

# Columns of results.json that have a form of their own; other keys become columns as they are.
KNOWN_RESULT_KEYS = ("name", "share", "exact_match", "low", "high", "answer_loss")
HEADLINE_SETTINGS = ("model_name_or_path", "dataset_name", "template", "tokenizer")


def write_loss_plot(output_dir: str | Path) -> Path | None:
    """Write OUT/loss.png from metrics.jsonl and return its path; None where no loss was logged."""
    folder = Path(output_dir)
    train, evaluation = loss_points(read_log(folder / "metrics.jsonl"))
    if not train and not evaluation:
        return None
    path = folder / "loss.png"
    save_loss_png(train, evaluation, path)
    return path


def write_report(output_dir: str | Path) -> Path:
    """Write OUT/report.html and return its path.

    Read: run.yaml, receipt.json, metrics.jsonl, samples.jsonl (step, prompt, reference, answer) and results.json
    ({"measure", "rows": [{"name", "share" or "exact_match", "low", "high", "answer_loss", ...}]}, shares from 0 to 1).
    Text from data and models is escaped, and the page forbids scripts and any load from elsewhere.
    """
    folder = Path(output_dir)
    settings, receipt = read_run_yaml(str(folder)), read_object(folder / "receipt.json")
    metrics = read_log(folder / "metrics.jsonl")
    sections = [
        results_section(before_and_after(folder)),
        *(section(*part) for part in classification_parts(folder)),
        loss_section(metrics),
        bits_section(metrics),
        samples_section(read_log(folder / "samples.jsonl")),
        receipt_section(receipt),
        settings_section(settings),
    ]
    name = folder.resolve().name
    page = PAGE.format(
        title=escape(name), style=STYLE, subtitle=subtitle(settings), tiles=tiles(metrics, receipt),
        sections="\n".join(filter(None, sections)) or "<p>This folder holds no run.</p>",
    )  # fmt: skip
    path = folder / "report.html"
    write_text(path, page)
    return path


def escape(value) -> str:
    return html.escape(str(value), quote=True)


def read_object(path: Path) -> dict:
    """A JSON file's object, or {} where there is none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def section(title: str, body: str, note: str = "") -> str:
    note = f'<p class="note">{note}</p>' if note else ""
    return f"<section><h2>{escape(title)}</h2>{note}{body}</section>"


def subtitle(settings: dict) -> str:
    """Model, data and template, as far as run.yaml names them."""
    shown = [Path(str(settings[key])) for key in HEADLINE_SETTINGS if settings.get(key)]
    return " · ".join(escape(path.name if path.is_absolute() else path) for path in shown)


def number_text(value) -> str:
    """A number as people read it: 12,345, 0.0002, 1.235; None is empty."""
    if value is None:
        return ""
    if isinstance(value, bool) or not is_number(value):
        return str(value)
    if isinstance(value, int) or value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.1f}" if abs(value) >= 100 else f"{value:.4g}"


def tiles(metrics: list[dict], receipt: dict) -> str:
    """The few numbers one looks for first."""
    train, evaluation = loss_points(metrics)
    found = []
    if len(evaluation) > 1:
        found.append(("evaluation loss", f"{evaluation[0][1]:.3f} → {evaluation[-1][1]:.3f}"))
    elif train:
        found.append(("training loss", f"{train[0][1]:.3f} → {train[-1][1]:.3f}"))
    if train:
        found.append(("updates", number_text(max(step for step, _ in train + evaluation))))
    if is_number(receipt.get("num_trained_tokens")):
        found.append(("trained tokens", number_text(receipt["num_trained_tokens"])))
    for key, label, unit in (
        ("useful_tokens_per_second", "tokens per second", ""),
        ("peak_memory_gib", "peak memory", " GiB"),
    ):
        values = [line[key] for line in metrics if is_number(line.get(key))]
        if values:
            value = max(values) if key == "peak_memory_gib" else sorted(values)[len(values) // 2]
            found.append((label, f"{value:,.0f}" if value >= 100 else f"{value:.2f}{unit}"))
    cells = "".join(f"<div><b>{escape(value)}</b><span>{escape(label)}</span></div>" for label, value in found)
    return f'<div class="tiles">{cells}</div>' if cells else ""


def before_and_after(folder: Path) -> dict:
    """The scores of the runs before and of the run itself as rows, where there are both."""
    runs = measured_runs(folder)
    if not runs:
        return read_object(folder / "results.json")
    rows = [
        {"name": label, **({"share": score.value, "low": score.low, "high": score.high} if score.is_share else {})}
        | {metric: other.value for metric, other in task.scores.items() if metric != task.main_metric}
        for label, run in runs.items()
        for task in run.tasks.values()
        for score in (task.scores[task.main_metric],)
    ]
    return {"measure": "accuracy", "rows": rows} if len(runs) > 1 else {}


def results_section(results: dict) -> str:
    """The measure (exact match unless named) with its interval as a bar, answer loss, and what else the rows hold."""
    rows = results.get("rows", [])
    if not rows:
        return ""
    others = list(dict.fromkeys(key for row in rows for key in row if key not in KNOWN_RESULT_KEYS))
    columns = [results.get("measure", "exact match"), "", "answer loss", *others]
    has_loss = any(is_number(row.get("answer_loss")) for row in rows)
    if not has_loss:
        columns.remove("answer loss")
    lines = []
    for row in rows:
        cells = [f'<th scope="row">{escape(row.get("name", ""))}</th>', share_cell(row), interval_cell(row)]
        if has_loss:
            loss = row.get("answer_loss")
            cells.append(f'<td class="number">{f"{loss:.3f}" if is_number(loss) else ""}</td>')
        cells += [f'<td class="number">{escape(number_text(row.get(key, "")))}</td>' for key in others]
        lines.append(f"<tr>{''.join(cells)}</tr>")
    head = "".join(f"<th>{escape(column)}</th>" for column in ["", *columns])
    table = f'<div class="wide"><table class="results"><tr>{head}</tr>{"".join(lines)}</table></div>'
    return section("Before and after", table, "Held-out rows. The line in each bar is the 95 % confidence interval.")


def share_cell(row: dict) -> str:
    share = row.get("share", row.get("exact_match"))
    return f'<td class="number strong">{share:.1%}</td>' if is_number(share) else "<td></td>"


def interval_cell(row: dict) -> str:
    """A bar from 0 to 100 % with its interval, and the interval in figures."""
    share, low, high = row.get("share", row.get("exact_match")), row.get("low"), row.get("high")
    if not is_number(share):
        return "<td></td>"
    whisker, figures = "", ""
    if is_number(low) and is_number(high):
        whisker = f'<line class="whisker" x1="{200 * low:.1f}" x2="{200 * high:.1f}" y1="8" y2="8"/>' + "".join(
            f'<line class="whisker" x1="{200 * x:.1f}" x2="{200 * x:.1f}" y1="4" y2="12"/>' for x in (low, high)
        )
        figures = f'<span class="figures">{low:.1%} to {high:.1%}</span>'
    bar = f'<rect class="bar" x="0" y="1" width="{200 * share:.1f}" height="14" rx="2"/>'
    return f'<td><svg class="interval" viewBox="-1 0 202 16" width="202" height="16">{bar}{whisker}</svg>{figures}</td>'


def loss_section(metrics: list[dict]) -> str:
    train, evaluation = loss_points(metrics)
    chart = curves(train, evaluation)
    if not chart:
        return ""
    is_preference = any("rewards/margins" in line for line in metrics)
    note = "Of a pair, in nats: 0.693 is a coin's." if is_preference else "Nats per trained token, by update."
    if any("eval_f1" in line for line in metrics):
        note = "Cross-entropy of a row, in nats, by update."
    return section("Loss", chart, note)


def bits_section(metrics: list[dict]) -> str:
    """Bits per byte of a pretraining run, as a curve."""
    chart = curves(*loss_points(metrics, "bits_per_byte"))
    note = "What coding a byte of text takes, end tokens included: comparable between tokenizers."
    return section("Bits per byte", chart, note) if chart else ""


def curves(train, evaluation) -> str:
    """Both curves with their legend; "" where there is nothing to draw."""
    chart = loss_svg(train, evaluation)
    kinds = [("train", "training", train), ("eval", "evaluation", evaluation)]
    legend = "".join(f'<span class="key {name}">{label}</span>' for name, label, points in kinds if points)
    return f'<div class="legend">{legend}</div>{chart}' if chart else ""


def samples_section(samples: list[dict]) -> str:
    """For each held-out question its reference and the answer at every evaluation."""
    from ftkit.inference.scoring import exact_match  # imports torch, which the other pages do without

    questions = {}
    for sample in samples:
        questions.setdefault((str(sample.get("prompt", "")), str(sample.get("reference", ""))), []).append(sample)
    cards = []
    for (prompt, reference), answers in questions.items():
        lines = []
        for sample in answers:
            answer = str(sample.get("answer", ""))
            mark = "right" if reference and exact_match([answer], [reference])[0] else "other"
            lines.append(
                f'<tr><td class="step">update {escape(sample.get("step", "?"))}</td>'
                f'<td class="{mark}"><pre>{escape(answer) or "<i>(nothing)</i>"}</pre></td></tr>'
            )
        wanted = f'<tr><td class="step">reference</td><td><pre>{escape(reference)}</pre></td></tr>' if reference else ""
        cards.append(
            f'<div class="card"><pre class="prompt">{escape(prompt)}</pre><table>{"".join(lines)}{wanted}</table></div>'
        )
    return section("Samples", "".join(cards), "Held-out questions, answered at each evaluation.") if cards else ""


def receipt_section(receipt: dict) -> str:
    """What was trained on: counts, and the first rows with their trained tokens marked."""
    if not receipt:
        return ""
    first = "".join(f'<pre class="card row">{row_markup(row)}</pre>' for row in receipt.get("first_rows", []))
    table = facts_table({key: value for key, value in receipt.items() if key != "first_rows"})
    note = (
        "What went into the model after template and truncation, token by token. <mark>Marked</mark> ones are trained."
    )
    return section("Batch receipt", first + table, note)


def row_markup(row: list) -> str:
    """[text, trained] pairs as text, a border between tokens, the trained ones marked."""
    tagged = [("mark" if trained else "span", escape(text)) for text, trained in row]
    return "".join(f"<{tag}>{text}</{tag}>" for tag, text in tagged)


def settings_section(settings: dict) -> str:
    if not settings:
        return ""
    return section("Settings", facts_table(settings), "From run.yaml, which repeats the run.")


def facts_table(facts: dict) -> str:
    """Two columns; an object's entries get a line each, a list is joined."""
    lines = []
    for key, value in facts.items():
        if isinstance(value, dict):
            lines += [(f"{key}.{name}", inner) for name, inner in value.items()]
        elif value is not None:
            lines.append((key, value))
    cells = "".join(
        f'<tr><th scope="row">{escape(key)}</th><td>{escape(fact_text(value))}</td></tr>' for key, value in lines
    )
    return f'<table class="facts">{cells}</table>'


def fact_text(value) -> str:
    if isinstance(value, list):
        return ", ".join(
            " ".join(f"{name} {number_text(inner)}" for name, inner in item.items())
            if isinstance(item, dict)
            else str(item)
            for item in value
        )
    return number_text(value)
