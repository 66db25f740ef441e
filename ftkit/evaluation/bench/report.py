"""A benchmark run as report.md and report.html beside its results.json; self-contained, with plots.

write_bench_report("runs/mine-bench/results.json")
"""

from collections import defaultdict
from pathlib import Path

from ftkit.config.files import write_text
from ftkit.evaluation.pages.report import escape, facts_table, section
from ftkit.evaluation.pages.style import PAGE, STYLE
from ftkit.evaluation.results import (
    Item,
    Results,
    Score,
    TaskResult,
    interval_text,
    read_items,
    read_results,
    score_text,
)
from ftkit.evaluation.verdict.text import escape as escape_markdown
from ftkit.evaluation.verdict.text import markdown_table, shortened

NUM_EXAMPLES = 3  # items shown of each task, best and worst
TEXT_LENGTH = 400
BAR_WIDTH = 240

BENCH_STYLE = """
.groups { margin-bottom: 1rem; }
.groups td, .groups th { vertical-align: middle; white-space: nowrap; }
.histogram rect { fill: var(--blue); opacity: .55; }
"""


def write_bench_report(results_path: str | Path) -> Path:
    """Write report.html and report.md beside results.json; return the path of the page.

    Text of models and data is escaped, and the page forbids scripts and any load from elsewhere. Raises UserError for
    results that can't be read.
    """
    path = Path(results_path)
    results = read_results(path)
    items = {name: read_items(path, task) for name, task in results.tasks.items()}
    write_text(path.with_name("report.md"), bench_markdown(results))
    page = path.with_name("report.html")
    write_text(page, bench_page(results, items))
    return page


def model_name(results: Results) -> str:
    """The model, with its adapter."""
    named = [results.model.get(key) for key in ("name", "adapter")]
    return " + ".join(Path(str(name)).name for name in named if name) or "a model"


def cut_text(task: TaskResult) -> str:
    """How many items the context was too short for."""
    return f"{task.num_cut:,} of {task.num_items:,} items do not fit the model's context whole"


def grouped_scores(task: TaskResult) -> tuple[dict[str, Score], dict[str, dict[str, Score]]]:
    """The scores of the whole task, the main one first, and those of its groups, which are called METRIC/GROUP."""
    whole = {name: score for name, score in task.scores.items() if "/" not in name}
    whole = {task.main_metric: whole[task.main_metric], **whole} if task.main_metric in whole else whole
    groups: dict[str, dict[str, Score]] = defaultdict(dict)
    for name, score in task.scores.items():
        metric, slash, group = name.partition("/")
        if slash:
            groups[group][metric] = score
    return whole, groups


def bench_markdown(results: Results) -> str:
    """A table of the scores, groups included, and what was measured with which settings."""
    rows = [("task", "metric", "score", "95 % interval", "items", "examples")]
    for task in results.tasks.values():
        whole, groups = grouped_scores(task)
        for metric, score in whole.items():
            rows.append(
                (
                    task.name,
                    metric,
                    score_text(score),
                    interval_text(score),
                    f"{task.num_items:,}",
                    str(task.num_fewshot),
                )
            )
        for group, scores in groups.items():
            if task.main_metric in scores:
                metric, score = task.main_metric, scores[task.main_metric]
                figures = (score_text(score), interval_text(score))
                rows.append((f"{task.name}: {group}", metric, *figures, "", ""))
    parts = [f"# Benchmark of {escape_markdown(model_name(results))}", "", *markdown_table(rows), ""]
    parts += [f"- {escape_markdown(task.name)}: {cut_text(task)}" for task in results.tasks.values() if task.num_cut]
    facts = {**results.model, **results.settings, "seed": results.seed, **results.versions}
    parts += [
        f"- {escape_markdown(str(name))}: {escape_markdown(str(value))}"
        for name, value in facts.items()
        if value is not None
    ]
    return "\n".join(parts) + "\n"


def bench_page(results: Results, items: dict[str, list[Item]]) -> str:
    """The page: scores with their intervals, a section a task, model and settings."""
    sections = [scores_section(results)]
    sections += [task_section(task, items[name]) for name, task in results.tasks.items()]
    facts = {"model": results.model, "settings": results.settings, "seed": results.seed, "versions": results.versions}
    sections.append(section("Model and settings", facts_table(facts)))
    num = sum(task.num_items for task in results.tasks.values())
    return PAGE.format(
        title=f"Benchmark of {escape(model_name(results))}",
        style=STYLE + BENCH_STYLE,
        subtitle=f"{len(results.tasks)} tasks, {num:,} items",
        tiles="",
        sections="\n".join(sections),
    )


def scores_section(results: Results) -> str:
    """Main metrics of all tasks as bars with intervals."""
    lines = []
    for task in results.tasks.values():
        whole, _ = grouped_scores(task)
        for number, (metric, score) in enumerate(whole.items()):
            name = f'<th scope="row">{escape(task.name)}</th>' if number == 0 else '<th scope="row"></th>'
            num = f'<td class="number">{task.num_items:,}</td>'
            lines.append(f"<tr>{name}<td>{escape(metric)}</td>{score_cells(score)}{num}</tr>")
    head = "".join(f"<th>{name}</th>" for name in ("", "metric", "score", "", "items"))
    table = f'<div class="wide"><table class="results"><tr>{head}</tr>{"".join(lines)}</table></div>'
    return section("Scores", table, "The line in each bar is the 95 % confidence interval.")


def score_cells(score: Score) -> str:
    """The score in figures, and a bar from 0 to 100 % where it is a share."""
    figures = interval_text(score)
    told = f'<span class="figures">{figures}</span>' if figures else ""
    bar = ""
    if score.is_share:
        whisker = ""
        if figures:
            low, high = (BAR_WIDTH * bound for bound in (score.low, score.high))
            whisker = f'<line class="whisker" x1="{low:.1f}" x2="{high:.1f}" y1="8" y2="8"/>' + "".join(
                f'<line class="whisker" x1="{x:.1f}" x2="{x:.1f}" y1="4" y2="12"/>' for x in (low, high)
            )
        bar = (
            f'<svg class="interval" viewBox="-1 0 {BAR_WIDTH + 2} 16" width="{BAR_WIDTH + 2}" height="16">'
            f'<rect class="bar" x="0" y="1" width="{BAR_WIDTH * score.value:.1f}" height="14" rx="2"/>{whisker}</svg>'
        )
    return f'<td class="number strong">{escape(score_text(score))}</td><td>{bar}{told}</td>'


def task_section(task: TaskResult, items: list[Item]) -> str:
    """Scores of its groups, how the items' scores spread, and some items."""
    _, groups = grouped_scores(task)
    lines = "".join(
        f'<tr><th scope="row">{escape(group)}</th>{score_cells(scores[task.main_metric])}</tr>'
        for group, scores in groups.items()
        if task.main_metric in scores
    )
    table = f'<div class="wide"><table class="groups">{lines}</table></div>' if lines else ""
    values = [item.scores[task.main_metric] for item in items if task.main_metric in item.scores]
    spread = "" if not values or set(values) <= {0.0, 1.0} else histogram_svg(values, task.main_metric)
    shown = examples(task, items)
    note = f"{task.num_items:,} items, {task.num_fewshot} examples in the prompt, version {task.version}"
    if task.num_cut:
        note += f"; {cut_text(task)}"
    return section(task.name, table + spread + "".join(map(item_card, shown)), escape(note))


def examples(task: TaskResult, items: list[Item]) -> list[Item]:
    """The first items with the best and with the worst score, so that both can be looked at."""
    scored = [item for item in items if task.main_metric in item.scores]
    higher = task.scores[task.main_metric].higher_is_better if task.main_metric in task.scores else True
    order = sorted(scored, key=lambda item: item.scores[task.main_metric], reverse=higher)
    chosen = order[:NUM_EXAMPLES] + order[NUM_EXAMPLES:][-NUM_EXAMPLES:]
    return chosen or items[:NUM_EXAMPLES]


def item_card(item: Item) -> str:
    """What was asked, answered and wanted, and the scores."""
    scores = ", ".join(f"{name} {value:.4g}" for name, value in item.scores.items())
    rows = [("answer", item.prediction), ("wanted", item.reference), ("scores", scores)]
    lines = "".join(
        f'<tr><td class="step">{name}</td><td><pre>{escape(shortened(text, TEXT_LENGTH))}</pre></td></tr>'
        for name, text in rows
        if text
    )
    prompt = escape(shortened(item.prompt, TEXT_LENGTH, keep_end=True))
    return f'<div class="card"><pre class="prompt">{prompt}</pre><table>{lines}</table></div>'


def histogram_svg(values: list[float], name: str, num_bins: int = 24) -> str:
    """How the items' scores spread, as bars of equal width."""
    low, high = min(values), max(values)
    width = (high - low) / num_bins or 1.0
    counts = [0] * num_bins
    for value in values:
        counts[min(num_bins - 1, int((value - low) / width))] += 1
    tallest, step = max(counts), 720 / num_bins
    bars = "".join(
        f'<rect x="{step * number + 1:.1f}" y="{80 - 76 * count / tallest:.1f}" width="{step - 2:.1f}" '
        f'height="{76 * count / tallest:.1f}"><title>{low + width * number:.3g} to {low + width * (number + 1):.3g}: '
        f"{count} items</title></rect>"
        for number, count in enumerate(counts)
    )
    ends = (
        f'<text class="tick" x="0" y="96">{low:.3g}</text>'
        f'<text class="tick" x="360" y="96" text-anchor="middle">{escape(name)} of the items</text>'
        f'<text class="tick" x="720" y="96" text-anchor="end">{high:.3g}</text>'
    )
    label = f"{escape(name)} of the items"
    return f'<svg class="chart histogram" viewBox="0 0 720 100" role="img" aria-label="{label}">{bars}{ends}</svg>'
