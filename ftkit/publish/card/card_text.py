"""The tables of a model card, and what it is made for."""

from pathlib import Path

from ftkit.config.json_object import read_object
from ftkit.config.jsonl import read_log
from ftkit.evaluation.results import AFTER, Results, cell_text, compared_scores, measured_runs

LIMITS = {
    "sft": "Made to answer requests like those it was trained on, in the same language and form.",
    "classify": "Made to put texts like those it was trained on into the classes named above, and no others.",
    "embed": "Made to bring texts that belong together near each other, as those of its data do, and nothing else.",
    "dpo": "Made to prefer answers like those that were chosen in its data.",
    "ppo": "Made to give answers that its rewards score highly; it may have learned to please them, and no more.",
    "grpo": "Made to give answers that its rewards score highly; it may have learned to please them, and no more.",
    "kto": "Made to give answers like those that were marked as wanted in its data.",
    "reward": "Made to tell which of two answers to one request was preferred, for requests like those of its data.",
    "distill": "Made to answer as its teacher does, on requests like those of its data.",
    "pretrain": "A base model: it continues text like that it has read, and answers nothing until it is fine-tuned.",
}
UNMEASURED = "No rows were held out, so nothing was measured."

# Settings of one machine, of the printing and of the saving; a reader of the card has no use for them.
OMITTED_SETTINGS = {
    "output_dir", "dataset_name", "model_name_or_path", "adapter", "resume_from_checkpoint", "run_name", "disable_tqdm",
    "report_to", "debug", "use_cpu", "push_to_hub", "ddp_backend", "num_samples", "sample_max_new_tokens", "project",
}  # fmt: skip
OMITTED_PREFIXES = ("hub_", "logging_", "log_", "save_", "dataloader_", "trackio_")
LORA_SETTINGS = {"r": "lora_r", "lora_alpha": "lora_alpha", "lora_dropout": "lora_dropout"}

# What a log line calls it: what a reader calls it.
MEASURES = {
    "eval_loss": "loss, nats per trained token",
    "eval_perplexity": "perplexity of a token",
    "eval_bits_per_byte": "bits per byte",
    "eval_rewards/accuracies": "pairs whose chosen answer gains more",
    "eval_rewards/margins": "margin of the implicit rewards",
    "eval_logps/chosen": "log-probability of the chosen answer, nats",
    "eval_logps/rejected": "log-probability of the rejected answer, nats",
    "eval_accuracy": "accuracy",
    "eval_divergence": "divergence from the teacher, nats per token",
    "eval_answer_loss": "loss of the answers, nats per token",
    "eval_margin": "chosen score - rejected score",
    "eval_f1": "F1",
    "eval_matthews_correlation": "Matthews correlation",
    "eval_roc_auc": "ROC AUC",
}


def measures_of(record: dict) -> dict[str, str]:
    """MEASURES, with the loss called what it is in a line of the log: DPO's is of a pair, a classifier's of a row."""
    is_pair = "eval_rewards/margins" in record or "eval_margin" in record
    kind = "a pair" if is_pair else "a row" if "eval_f1" in record else None
    kind = "a question among the passages of a batch" if "eval_candidates" in record else kind
    if "eval_rewards/margins" in record and "eval_rewards/accuracies" not in record:  # of labelled answers
        wanted = {"eval_logps/chosen": "log-probability of a wanted answer, nats"}
        unwanted = {"eval_logps/rejected": "log-probability of an unwanted answer, nats"}
        return MEASURES | wanted | unwanted | {"eval_loss": "loss of an answer, from 0 to its weight"}
    return MEASURES | ({"eval_loss": f"loss of {kind}, nats"} if kind else {})


def table(rows: list[tuple], head: tuple = ("", "")) -> str:
    """A Markdown table."""
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def number_table(values: dict) -> str:
    """A table of named values."""
    return table([(name, format_number(value)) for name, value in values.items()])


def list_settings(settings: dict, folder: Path, public_name) -> list[tuple]:
    """Hyperparameters, by name; those of an adapter also where they are defaults. public_name: cuts paths."""
    shown = {
        name: public_name(value) if isinstance(value, str) else value
        for name, value in settings.items()
        if name not in OMITTED_SETTINGS and not name.startswith(OMITTED_PREFIXES)
    }
    config = folder / "adapter_config.json"
    if config.is_file():
        lora = read_object(config)
        shown |= {ours: lora[name] for name, ours in LORA_SETTINGS.items() if lora.get(name) is not None}
        if isinstance(lora.get("target_modules"), list):
            shown["lora_target_modules"] = ", ".join(sorted(lora["target_modules"]))
    return [(name, format_number(value)) for name, value in shown.items()]


def format_number(value) -> str:
    """Four significant digits of a fraction; anything else as it is."""
    if isinstance(value, float) and not value.is_integer():
        return f"{value:.4g}"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def results_text(folder: Path) -> str:
    """Held-out measures at the first and the last evaluation, and the scores of results.json; "" for no results."""
    evaluations = [record for record in read_log(folder / "metrics.jsonl") if "eval_loss" in record]
    runs, parts = measured_runs(folder), []
    if evaluations:
        shown = evaluations[:1] + evaluations[1:][-1:]
        measures = {name: text for name, text in measures_of(shown[-1]).items() if name in shown[-1]}
        rows = [(text, *(value_at(one, name) for one in shown)) for name, text in measures.items()]
        parts.append(table(rows, ("on held-out rows", *(f"step {one['step']}" for one in shown))))
    elif not runs and (folder / "metrics.jsonl").is_file():
        parts.append(UNMEASURED)
    parts += score_tables(runs)
    records = {"evaluation.json": classification_text, "merge.json": change_text, "export.json": change_text}
    for name, describe in records.items():
        if (folder / name).is_file():
            parts.append(describe(read_object(folder / name)))
    if (folder / "loss.png").is_file():
        parts.append("![loss against updates](loss.png)")
    return "\n\n".join(filter(None, parts))


def value_at(record: dict, name: str) -> str:
    """A measure of a log line, or a dash where that line has none."""
    return f"{record[name]:.4f}" if name in record else "-"


def score_tables(runs: dict[str, Results]) -> list[str]:
    """A table for each task of what was measured: its metrics before and after, with their 95 % intervals."""
    tables = []
    for name, scores in compared_scores(runs).items():
        head = (f"{name}, {runs[AFTER].tasks[name].num_items:,} items (95 % interval)", *runs)
        rows = [(label, *(cell_text(found.get(when)) for when in runs)) for label, found in scores.items()]
        tables.append(table(rows, head))
    return tables


def classification_text(evaluation: dict) -> str:
    """How a classifier's measures are meant, and its confusion matrix."""
    commonest, about = evaluation["commonest"], evaluation["positive"] or "the classes, averaged"
    note = f"Of {evaluation['num_rows']} {evaluation['split']} rows. Precision, recall and F1 are of {about}. "
    note += f"Always saying {commonest['label']} has an accuracy of {commonest['accuracy']:.3f}."
    note += "".join(f" Warning: {text}." for text in evaluation.get("warnings", []))
    counts = [(name, *row) for name, row in zip(evaluation["labels"], evaluation["confusion"], strict=True)]
    return f"{note}\n\n{table(counts, ('true class, predicted as', *evaluation['labels']))}"


def change_text(record: dict) -> str:
    """What a merge or an export measured of the change of its weights."""
    measured = {name: value for name, value in record.items() if isinstance(value, int | float | bool)}
    return number_table(measured) if measured else ""
