"""OUT/report.html: what a run did and what came of it, on one page that needs no network; and OUT/loss.png.

Everything is read from the run folder; what a run did not write is left out.
"""

import json
from pathlib import Path

from ftkit.config.errors import UserError
from ftkit.config.json_object import read_object
from ftkit.config.jsonl import read_log
from ftkit.config.paste import command
from ftkit.config.run_folder import RunRecord, read_record, read_run_yaml
from ftkit.data.tokens.receipt_text import receipt_lines, row_title
from ftkit.evaluation.held_out.classification import classifier_parts
from ftkit.evaluation.held_out.reward import pair_calibration
from ftkit.evaluation.pages.charts import Chart, loss_chart, loss_points, save_loss_png
from ftkit.evaluation.pages.naming import run_title
from ftkit.evaluation.pages.page import day_of, fact_lines, is_number, number_text, words_of, write_page
from ftkit.evaluation.results import FILE, befores_of, compared_scores, measured_runs
from ftkit.evaluation.verdict.pairing import read_run_and_befores
from ftkit.evaluation.verdict.text import change_text
from ftkit.evaluation.verdict.verdict import compare_runs

TILES = {"useful_tokens_per_second": "tokens per second", "peak_memory_gib": "peak memory"}


def write_loss_plot(output_dir: str | Path) -> Path | None:
    """Write OUT/loss.png from metrics.jsonl and return its path; None where no loss was logged."""
    folder = Path(output_dir)
    train, evaluation = loss_points(read_log(folder / "metrics.jsonl"))
    if not train and not evaluation:
        return None
    path = folder / "loss.png"
    save_loss_png(train, evaluation, path, title_of(folder))
    return path


def write_report(output_dir: str | Path) -> Path:
    """Write OUT/report.html and return its path.

    Read: run.yaml, receipt.json, metrics.jsonl, samples.jsonl (step, prompt, reference, answer), results.json and those
    before it, evaluation.json, and the benchmark of --benchmark_tasks. Raises UserError for results that are damaged.
    """
    folder = Path(output_dir)
    receipt, record = receipt_of(folder), read_record(folder)
    runs = measured_runs(folder)
    metrics, evaluation = read_log(folder / "metrics.jsonl"), classifier_parts(folder)
    parts = {
        "verdicts": verdicts(folder),
        "runs": {} if evaluation else runs,
        "scores": compared_scores(runs),
        "evaluation": evaluation,
        "charts": charts(metrics),
        "calibration": pair_calibration(folder),
        "samples": samples(read_log(folder / "samples.jsonl")),
        "typical_rows": [(row_title(row), row["tokens"]) for row in receipt.get("typical_rows", [])],
        "receipt": receipt_lines(receipt),
        "is_scored": bool(receipt.get("is_scored")),
        "command": command_of(record),
        "machine": machine_lines(record),
        "decided": decided_lines(record),
    }
    return write_page(
        folder / "report.html",
        "report.html",
        title=title_of(folder) or folder.resolve().name,
        subtitles=[f"ftkit {record.command}" if record and record.command else "", f"folder {folder.resolve().name}"],
        date=date_of(folder),
        tiles=tiles(metrics, receipt),
        is_empty=not any(parts.values()),
        **parts,
    )


def receipt_of(folder: Path) -> dict:
    """What receipt.json holds; {} where there is none."""
    path = folder / "receipt.json"
    return read_object(path, "restore it, or delete it") if path.is_file() else {}


def title_of(folder: Path) -> str:
    """What the run of a folder did; "" where its run.yaml names neither model nor data."""
    record = read_record(folder)
    return run_title(read_run_yaml(str(folder)), record.command if record else None)


def command_of(record: RunRecord | None) -> str:
    """The command line that asks for the same; "" without a record."""
    if record is None or not record.asked:
        return ""
    words = [record.command or "sft"]
    for name, value in record.asked.items():
        if value is True or value is None:
            words += [f"--{name}"] if value else []
        else:
            values = value if isinstance(value, list) else [json.dumps(value) if isinstance(value, dict) else value]
            words += [f"--{name}", *(str(one).lower() if isinstance(one, bool) else one for one in values)]
    return command(*words)


def machine_lines(record: RunRecord | None) -> list[tuple[str, str]]:
    """The machine of the run, in a line."""
    facts = fact_lines(record.hardware) if record else []
    return [("machine", ", ".join(f"{words_of(name)} {text}" for name, text in facts))] if facts else []


def decided_lines(record: RunRecord | None) -> list[tuple[str, str]]:
    """What was decided, in words, with its reason."""
    if record is None:
        return []
    reasons = record.decided.get("reasons", {})
    lines = fact_lines(
        {name: value for name, value in record.values_decided().items() if name not in ("reasons", "facts")}
    )
    return [(words_of(name), f"{text} ({reasons[name]})" if name in reasons else text) for name, text in lines]


def date_of(folder: Path) -> str:
    """The day on which the run ended; "" where the folder does not show it."""
    logs = [path for path in (folder / "metrics.jsonl", folder / "run.yaml") if path.is_file()]
    return day_of(logs[0]) if logs else ""


def tiles(metrics: list[dict], receipt: dict) -> list[tuple[str, str]]:
    """(value, name) of the few numbers one looks for first."""
    train, evaluation = loss_points(metrics)
    found = []
    if len(evaluation) > 1:
        found.append((f"{evaluation[0][1]:.3f} → {evaluation[-1][1]:.3f}", "evaluation loss"))
    elif train:
        found.append((f"{train[0][1]:.3f} → {train[-1][1]:.3f}", "training loss"))
    if train:
        found.append((number_text(max(step for step, _ in train + evaluation)), "updates"))
    seen = [line["tokens"] for line in metrics if is_number(line.get("tokens"))]
    if run := receipt.get("run"):
        done = "scored" if receipt.get("is_scored") else "trained"
        found.append((f"{run['num_trained_tokens']:,}", f"tokens {done}, of {run['num_tokens']:,} read"))
    elif seen:
        found.append((number_text(max(seen)), "tokens trained"))
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
                changes = [change_text(row) for row in verdict.targets] if len(verdict.targets) == 1 else []
                found.append((verdict.outcome, name + "; ".join([verdict.sentence, *changes])))
    return found


def charts(metrics: list[dict]) -> list[tuple[str, str, Chart]]:
    """(title, note, chart) of the loss, and of bits per byte in a pretraining run."""
    note = "Nats per trained token, by update."
    if any("rewards/margins" in line for line in metrics):
        note = "Of a pair, in nats: 0.693 is a coin's."
        if any("nll_loss" in line for line in metrics):
            note = "Of a pair, with the loss of its chosen answer, in nats."
        elif not any("rewards/accuracies" in line for line in metrics):
            note = "Of an answer, from 0 to its weight: half of that is a coin's."
    if any("margin" in line for line in metrics):
        note = "Of a pair, -log sigmoid(chosen - rejected) with what centres the scores, in nats: 0.693 is a coin's."
    if any("eval_f1" in line for line in metrics):
        note = "Cross-entropy of a row, in nats, by update."
    if any("candidates" in line for line in metrics):
        note = "Of a question among the passages of its batch, by update."
    bits = "What coding a byte of text takes, end tokens included: comparable between tokenizers."
    sampled = [line for line in metrics if "reward" in line]
    drawn = [
        ("Loss", note, loss_chart(*loss_points(metrics))),
        (
            "Reward",
            "Of sampled answers: in training, and to held-out prompts.",
            loss_chart(*loss_points(metrics, "reward"), measure="reward"),
        ),
        (
            "Distance to the start",
            "KL divergence of sampled answers, in nats per token.",
            loss_chart(*loss_points(sampled, "kl"), measure="KL"),
        ),
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
