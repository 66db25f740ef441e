"""A benchmark run as report.md and report.html beside its results.json; self-contained, with plots.

write_bench_report("runs/mine-bench/results.json")
"""

from math import log2
from pathlib import Path

from ftkit.config.amounts import counted
from ftkit.config.files import write_text
from ftkit.data.rows.thoughts import THOUGHT
from ftkit.evaluation.pages.charts import Axis, Chart, Line, bounds, tick_text
from ftkit.evaluation.pages.page import day_of, fact_lines, words_of, write_page
from ftkit.evaluation.results import (
    Item,
    Results,
    Score,
    TaskResult,
    grouped_scores,
    interval_text,
    metric_text,
    read_items,
    read_results,
    score_text,
    thoughts_text,
)
from ftkit.evaluation.verdict.text import column_lines, escape, markdown_table, shortened

WAYS = {"any": "the best of them", "majority": "what most say", "best": "scored highest"}  # of a curve
NUM_EXAMPLES = 3  # items shown of each task, best and worst
TEXT_LENGTH = 400
NUM_BINS = 24


def write_bench_report(results_path: str | Path) -> Path:
    """Write report.html and report.md beside results.json; return the path of the page.

    Raises UserError for results that can't be read.
    """
    path = Path(results_path)
    results = read_results(path)
    write_text(path.with_name("report.md"), bench_markdown(results))
    num = sum(task.num_items for task in results.tasks.values())
    facts = {**results.model, **results.settings, "seed": results.seed}
    lines = [(words_of(name), text) for name, text in fact_lines(facts)]
    versions = ", ".join(f"{name} {version}" for name, version in results.versions.items())
    return write_page(
        path.with_name("report.html"),
        "bench.html",
        title=f"Benchmark of {model_name(results)}",
        subtitles=["ftkit bench", f"{counted(len(results.tasks), 'task')}, {counted(num, 'item')}"],
        date=day_of(path),
        scores=score_rows(results),
        tasks=[task_parts(task, read_items(path, task)) for task in results.tasks.values()],
        facts=[*lines, ("versions", versions)],
    )


def model_name(results: Results) -> str:
    """The model, with its adapter."""
    named = [results.model.get(key) for key in ("name", "adapter")]
    return " + ".join(Path(str(name)).name for name in named if name) or "a model"


def notes(task: TaskResult) -> list[str]:
    """How many items the context was too short for, and how many answers thought first."""
    cut = f"{task.num_cut:,} of {task.num_items:,} items are longer than the model's context" if task.num_cut else ""
    return [note for note in (cut, thoughts_text(task)) if note]


def bench_markdown(results: Results) -> str:
    """A table of the scores, groups included, and what was measured with which settings."""
    rows = [("task", "metric", "score", "95 % interval", "items", "examples")]
    for task in results.tasks.values():
        whole, groups = grouped_scores(task)
        counts = (f"{task.num_items:,}", str(task.num_fewshot))
        rows += [
            (task.name, metric, score_text(score), interval_text(score), *counts) for metric, score in whole.items()
        ]
        for group, score in groups.items():
            rows.append((f"{task.name}: {group}", task.main_metric, score_text(score), interval_text(score), "", ""))
    parts = [f"# Benchmark of {escape(model_name(results))}", "", *markdown_table(rows), ""]
    for task in results.tasks.values():
        parts += (
            [f"{escape(task.name)} by samples:", "", *markdown_table(curve_rows(task.samples)), ""]
            if task.samples
            else []
        )
    parts += [f"- {escape(task.name)}: {note}" for task in results.tasks.values() for note in notes(task)]
    facts = {**results.model, **results.settings, "seed": results.seed, **results.versions}
    parts += [f"- {escape(str(name))}: {escape(str(value))}" for name, value in facts.items() if value is not None]
    return "\n".join(parts) + "\n"


def curve_rows(curve) -> list[tuple[str, ...]]:
    """What k samples of an answer are worth, a row per k after one of names. curve: of `TaskResult.samples`."""
    rows = [("samples", *(WAYS[name] for name in curve.ways), "tokens per item")]
    for place, size in enumerate(curve.sizes):
        scores = (of_k[place] for of_k in curve.ways.values())
        shown = (f"{score_text(one)} ({interval_text(one) or 'all alike'})" for one in scores)
        rows.append((str(size), *shown, f"{curve.tokens[place]:,.1f}" if curve.tokens else "unknown"))
    return rows


def curve_lines(task: TaskResult) -> list[str]:
    """The same for a terminal."""
    title = f"{task.name}: {metric_text(task.main_metric)} of one in so many samples"
    return [title, *column_lines(curve_rows(task.samples))]


def curve_chart(task: TaskResult) -> Chart | None:
    """The main metric by the number of samples, on a scale of doublings."""
    curve = task.samples
    if not curve:
        return None
    is_share = next(iter(curve.ways.values()))[0].is_share
    values = [one.value for of_k in curve.ways.values() for one in of_k]
    across, up = Axis(0, log2(curve.sizes[-1]), tight=True), Axis(*bounds(values))
    lines = []
    for (name, scores), kind in zip(curve.ways.items(), ("diagonal", "train", "eval"), strict=False):
        placed = [
            (across.place(log2(size)), 100 - up.place(one.value)) for size, one in zip(curve.sizes, scores, strict=True)
        ]
        titles = [
            f"{WAYS[name]}, {size} samples: {score_text(one)}" for size, one in zip(curve.sizes, scores, strict=True)
        ]
        dots = [(x, y, 4, title) for (x, y), title in zip(placed, titles, strict=True)]
        lines.append(Line(WAYS[name], kind, placed, dots))
    return Chart(
        f"{metric_text(task.main_metric)} by number of samples",
        "samples",
        [(across.place(log2(size)), str(size)) for size in curve.sizes],
        [(100 - up.place(tick), f"{100 * tick:.3g} %" if is_share else tick_text(tick)) for tick in up.ticks],
        lines,
    )


def score_rows(results: Results) -> list[tuple[list[str], Score]]:
    """(task, metric, items) and score of each metric of each task."""
    rows = []
    for task in results.tasks.values():
        for metric, score in grouped_scores(task)[0].items():
            rows.append(([task.name, metric_text(metric), f"{task.num_items:,}"], score))
    return rows


def task_parts(task: TaskResult, items: list[Item]) -> dict:
    """A task's section: scores of its groups, how the items' scores spread, and some items."""
    values = [item.scores[task.main_metric] for item in items if task.main_metric in item.scores]
    items_text, examples_text = counted(task.num_items, "item"), counted(task.num_fewshot, "example")
    note = f"{items_text}, {examples_text} in the prompt, version {task.version}"
    return {
        "name": task.name,
        "note": "; ".join([note, *notes(task)]),
        "metric": metric_text(task.main_metric),
        "groups": [([group], score) for group, score in grouped_scores(task)[1].items()],
        "curve": curve_chart(task),
        "samples": curve_rows(task.samples) if task.samples else [],
        "histogram": None if set(values) <= {0.0, 1.0} else histogram(values),
        "examples": [item_card(item) for item in examples(task, items)],
    }


def examples(task: TaskResult, items: list[Item]) -> list[Item]:
    """The first items with the best and with the worst score, so that both can be looked at."""
    scored = [item for item in items if task.main_metric in item.scores]
    higher = task.scores[task.main_metric].higher_is_better if task.main_metric in task.scores else True
    order = sorted(scored, key=lambda item: item.scores[task.main_metric], reverse=higher)
    chosen = order[:NUM_EXAMPLES] + order[NUM_EXAMPLES:][-NUM_EXAMPLES:]
    return chosen or items[:NUM_EXAMPLES]


def item_card(item: Item) -> tuple[str, list[tuple[str, str]]]:
    """What was asked, and what was answered and wanted, with the scores."""
    scores = ", ".join(f"{metric_text(name)} {value:.4g}" for name, value in item.scores.items())
    lines = [
        ("thought", item.extra.get(THOUGHT, "")),
        ("answer", item.prediction),
        ("wanted", item.reference),
        ("scores", scores),
    ]
    shown = [(name, shortened(text, TEXT_LENGTH)) for name, text in lines if text]
    return shortened(item.prompt, TEXT_LENGTH, keep_end=True), shown


def histogram(values: list[float]) -> dict:
    """How values spread: (x, width, height, title) of bars of equal width, in percent, and both ends of the axis."""
    low, high = min(values), max(values)
    width = (high - low) / NUM_BINS or 1.0
    counts = [0] * NUM_BINS
    for value in values:
        counts[min(NUM_BINS - 1, int((value - low) / width))] += 1
    step = 100 / NUM_BINS
    bars = [
        (round(step * number + 0.15, 2), round(step - 0.3, 2), round(96 * count / max(counts), 2),
         f"{low + width * number:.3g} to {low + width * (number + 1):.3g}: {count} items")
        for number, count in enumerate(counts)
    ]  # fmt: skip
    return {"bars": bars, "low": f"{low:.3g}", "high": f"{high:.3g}"}
