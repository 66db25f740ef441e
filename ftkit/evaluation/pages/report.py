"""OUT/report.html: what a run did and what came of it, on one page that needs no network; and OUT/loss.png.

Everything is read from the run folder; what a run did not write is left out.
"""

from pathlib import Path

from ftkit.config.errors import UserError
from ftkit.config.json_object import read_object
from ftkit.config.jsonl import read_log
from ftkit.config.run_folder import RunRecord, read_record, read_run_yaml
from ftkit.data.tokens.receipt_text import receipt_lines, row_title
from ftkit.evaluation.held_out.classification import classifier_parts
from ftkit.evaluation.pages.charts import Chart, loss_chart, loss_points, save_loss_png
from ftkit.evaluation.pages.page import day_of, fact_lines, is_number, number_text, write_page
from ftkit.evaluation.results import FILE, befores_of, compared_scores, measured_runs
from ftkit.evaluation.verdict.pairing import read_run_and_befores
from ftkit.evaluation.verdict.verdict import compare_runs

# What a setting names: what is said of it in the subtitle.
HEADLINE_SETTINGS = {"model_name_or_path": "model", "dataset_name": "data", "template": "template"}
TILES = {"useful_tokens_per_second": "tokens per second", "peak_memory_gib": "peak memory"}


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

    Read: run.yaml, receipt.json, metrics.jsonl, samples.jsonl (step, prompt, reference, answer), results.json and those
    before it, evaluation.json, and the benchmark of --benchmark_tasks. Raises UserError for results that are damaged.
    """
    folder = Path(output_dir)
    settings, receipt = read_run_yaml(str(folder)), receipt_of(folder)
    runs = measured_runs(folder)
    metrics, evaluation = read_log(folder / "metrics.jsonl"), classifier_parts(folder)
    parts = {
        "verdicts": verdicts(folder),
        "runs": {} if evaluation else runs,
        "scores": compared_scores(runs),
        "evaluation": evaluation,
        "charts": charts(metrics),
        "samples": samples(read_log(folder / "samples.jsonl")),
        "typical_rows": [(row_title(row), row["tokens"]) for row in receipt.get("typical_rows", [])],
        "receipt": receipt_lines(receipt),
        "settings": settings_lines(read_record(folder)),
    }
    return write_page(
        folder / "report.html",
        "report.html",
        title=title_of(settings, folder),
        subtitles=[" · ".join([folder.resolve().name, *headline(settings)])],
        date=date_of(folder),
        tiles=tiles(metrics),
        is_empty=not any(parts.values()),
        **parts,
    )


def receipt_of(folder: Path) -> dict:
    """What receipt.json holds; {} where there is none."""
    path = folder / "receipt.json"
    return read_object(path, "restore it, or delete it") if path.is_file() else {}


def settings_lines(record: RunRecord | None) -> list[tuple[str, list[tuple[str, str]]]]:
    """(title, names and values) of what was asked, of what was decided with its reason, and of the hardware."""
    if record is None:
        return []
    reasons = record.decided.get("reasons", {})
    decided = fact_lines({name: value for name, value in record.decided.items() if name != "reasons"})
    decided = [(name, f"{text} ({reasons[name]})" if name in reasons else text) for name, text in decided]
    parts = {"Asked": fact_lines(record.asked), "Decided": decided, "Hardware": fact_lines(record.hardware)}
    return [(title, lines) for title, lines in parts.items() if lines]


def short_name(name) -> str:
    """A path without its folders; a Hub id or the name of something bundled as it is."""
    path = Path(str(name))
    return path.name if path.is_absolute() else str(name)


def title_of(settings: dict, folder: Path) -> str:
    """The model and the data of a run; the folder's name where run.yaml names neither."""
    model, data = (settings.get(key) for key in ("model_name_or_path", "dataset_name"))
    if not data:
        return short_name(model) if model else folder.resolve().name
    return f"{Path(str(model)).name if model else 'A new model'}, trained on {Path(str(data)).name}"


def headline(settings: dict) -> list[str]:
    """Model, data and template, as far as run.yaml names them."""
    return [f"{said} {short_name(settings[key])}" for key, said in HEADLINE_SETTINGS.items() if settings.get(key)]


def date_of(folder: Path) -> str:
    """The day on which the run ended; "" where the folder does not show it."""
    logs = [path for path in (folder / "metrics.jsonl", folder / "run.yaml") if path.is_file()]
    return day_of(logs[0]) if logs else ""


def tiles(metrics: list[dict]) -> list[tuple[str, str]]:
    """(value, name) of the few numbers one looks for first."""
    train, evaluation = loss_points(metrics)
    found = []
    if len(evaluation) > 1:
        found.append((f"{evaluation[0][1]:.3f} → {evaluation[-1][1]:.3f}", "evaluation loss"))
    elif train:
        found.append((f"{train[0][1]:.3f} → {train[-1][1]:.3f}", "training loss"))
    if train:
        found.append((number_text(max(step for step, _ in train + evaluation)), "updates"))
    if seen := [line["tokens"] for line in metrics if is_number(line.get("tokens"))]:
        found.append((number_text(max(seen)), "tokens seen"))
    for key, name in TILES.items():
        values = sorted(line[key] for line in metrics if is_number(line.get(key)))
        if values and key == "peak_memory_gib":
            found.append((f"{values[-1]:.2f} GiB", name))
        elif values:
            found.append((number_text(round(values[len(values) // 2])), name))
    return found


def verdicts(folder: Path) -> list[tuple[str, str]]:
    """(outcome, reason) of the held-out rows and of the benchmark, where they were measured before training too."""
    found = []
    for name, place in (("", folder), ("benchmark: ", folder / "benchmark")):
        if befores_of(place) and any((place / end / FILE).is_file() for end in ("", "after")):
            try:
                verdict = compare_runs(*read_run_and_befores(place), num_examples=0)
            except UserError as error:
                found.append(("", f"{name}not compared: {str(error).removeprefix(f'{folder}/')}"))
            else:
                found.append((verdict.outcome, name + verdict.sentence))
    return found


def charts(metrics: list[dict]) -> list[tuple[str, str, Chart]]:
    """(title, note, chart) of the loss, and of bits per byte in a pretraining run."""
    note = "Nats per trained token, by update."
    if any("rewards/margins" in line for line in metrics):
        note = "Of a pair, in nats: 0.693 is a coin's."
    if any("eval_f1" in line for line in metrics):
        note = "Cross-entropy of a row, in nats, by update."
    bits = "What coding a byte of text takes, end tokens included: comparable between tokenizers."
    drawn = [
        ("Loss", note, loss_chart(*loss_points(metrics))),
        ("Bits per byte", bits, loss_chart(*loss_points(metrics, "bits_per_byte"), measure="bits per byte")),
    ]
    return [part for part in drawn if part[2]]


def samples(records: list[dict]) -> list[tuple[str, list[tuple]]]:
    """For each held-out question (when, answer, whether it is right) at every evaluation, and the reference."""
    from ftkit.inference.scoring import exact_match  # imports torch, which the other pages do without

    questions = {}
    for record in records:
        key = str(record.get("prompt", "")), str(record.get("reference", ""))
        questions.setdefault(key, []).append((record.get("step", "?"), str(record.get("answer", ""))))
    cards = []
    for (prompt, reference), answers in questions.items():
        lines = [
            (f"update {step}", answer.strip() or "(nothing)", bool(reference and exact_match([answer], [reference])[0]))
            for step, answer in answers
        ]
        cards.append((prompt, lines + ([("reference", reference, False)] if reference else [])))
    return cards
