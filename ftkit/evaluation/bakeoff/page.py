"""OUT/report.html of a bake-off: the recommendation, quality with intervals, costs, what was forgotten, answers."""

import dataclasses
from pathlib import Path

from ftkit.config.amounts import counted
from ftkit.evaluation.bakeoff.contest import ANSWERS, Entry
from ftkit.evaluation.bakeoff.recommendation import NONE, TAKE, Recommendation
from ftkit.evaluation.bakeoff.standing import Standing
from ftkit.evaluation.bakeoff.text import COST_COLUMNS, cost_cells, notes
from ftkit.evaluation.pages.charts import Axis, bounds, tick_text
from ftkit.evaluation.pages.page import fact_lines, words_of, write_page
from ftkit.evaluation.results import Item, Score, metric_text, read_items, score_text
from ftkit.evaluation.verdict.page import effects
from ftkit.evaluation.verdict.text import difference_text, p_text, shortened
from ftkit.evaluation.verdict.verdict import BETTER, TOO_FEW, UNSEEN, TaskVerdict

NUM_EXAMPLES, TEXT_LENGTH = 6, 300
OUTCOMES = {TAKE: BETTER, NONE: ""}  # of a recommendation: of a callout


def write_bakeoff_page(
    path: Path, standing: Standing, recommendation: Recommendation, settings: dict, price_per_hour: float | None = None
) -> Path:
    """Write the page; return its path. settings: as the bake-off was asked for."""
    first, ran = standing.entries[0], counted(len(standing.entries), "contestant")
    differences = [named(standing.between(first, entry), entry) for entry in standing.entries[1:]]
    forgotten = [
        named(row, entry) for entry in standing.entries if (row := standing.forgetting.get(entry.contestant.name))
    ]
    return write_page(
        path,
        "bakeoff.html",
        title=f"Bake-off on {Path(str(settings['rows'])).name}",
        subtitles=["ftkit bakeoff", f"{ran}, {counted(first.task.num_items, 'held-out row')}", str(settings["model"])],
        sentence=recommendation.sentence,
        outcome=OUTCOMES.get(recommendation.outcome, TOO_FEW),
        metric=metric_text(standing.best.task.main_metric),
        scores=[([entry.title], entry.score) for entry in standing.entries],
        charts=[
            *strips(f"What each changes, beside {first.title}", differences),
            *strips("Forgetting: the probe, beside the base", forgotten),
        ],
        pairs=pair_rows(standing),
        cost_columns=list(COST_COLUMNS),
        costs=[cost_cells(entry, price_per_hour) for entry in standing.entries],
        scatters=[
            scatter(standing, "seconds", "seconds an answer takes here"),
            scatter(standing, "minutes", "minutes to make"),
        ],
        notes=notes(standing),
        examples=examples(standing),
        facts=[(words_of(name), text) for name, text in fact_lines(settings)],
    )


def strips(title: str, rows: list[TaskVerdict]) -> list[tuple]:
    """The chart of some differences, as `pieces.effects` takes it; none of no rows."""
    if not rows:
        return []
    unit = "points" if rows[0].is_share else metric_text(rows[0].metric)
    return [(title, *effects(unit, rows, "Differences")[1:])]


def named(row: TaskVerdict, entry: Entry) -> TaskVerdict:
    """What a contestant changes, under its name."""
    return dataclasses.replace(row, task=entry.title)


def pair_rows(standing: Standing) -> list[tuple[str, str, str, str]]:
    """Each pair: its names, the difference, p and outcome."""
    titles = {entry.contestant.name: entry.title for entry in standing.entries}
    return [
        (f"{titles[b]} beside {titles[a]}", difference_text(row), p_text(row.p_adjusted), row.outcome)
        for (a, b), row in standing.pairs.items()
        if row.outcome != UNSEEN or row.difference
    ]


def scatter(standing: Standing, cost: str, unit: str) -> dict:
    """Quality by a cost: places in percent, and the ticks of both axes."""
    values = [getattr(entry.costs, cost) for entry in standing.entries]
    scores = [entry.score.value for entry in standing.entries]
    factor = 100 if standing.best.score.is_share else 1
    across, up = Axis(0.0, max(values) or 1.0), Axis(*bounds([factor * value for value in scores]))
    return {
        "unit": unit,
        "label": f"{metric_text(standing.best.task.main_metric)} by {unit}",
        "across": [(across.place(tick), tick_text(tick)) for tick in across.ticks],
        "up": [(100 - up.place(tick), tick_text(tick) + (" %" if factor == 100 else "")) for tick in up.ticks],
        "points": [
            (across.place(value), 100 - up.place(factor * score), entry.title, point_text(entry.score, value, unit),
             "eval" if entry is standing.best else "train")
            for entry, value, score in zip(standing.entries, values, scores, strict=True)
        ],
    }  # fmt: skip


def point_text(score: Score, value: float, unit: str) -> str:
    """What a point stands for."""
    return f"{score_text(score)}, {value:.3g} {unit}"


def examples(standing: Standing) -> list[tuple[str, list[tuple[str, str, bool]]]]:
    """Held-out questions that contestants answer differently well, with all of their answers."""
    metric = standing.best.task.main_metric
    by_entry = {entry.title: by_id(entry) for entry in standing.entries}
    first = next(iter(by_entry.values()))
    spreads = {
        key: max(items[key].scores[metric] for items in by_entry.values())
        - min(items[key].scores[metric] for items in by_entry.values())
        for key in first
    }
    chosen = sorted(first, key=lambda key: -spreads[key])[:NUM_EXAMPLES]
    return [card(key, by_entry, metric) for key in chosen]


def card(key: str, by_entry: dict[str, dict[str, Item]], metric: str) -> tuple[str, list[tuple[str, str, bool]]]:
    """A question with what each says to it."""
    asked = next(iter(by_entry.values()))[key]  # of the prompt alone
    lines = [
        (title, shortened(items[key].prediction, TEXT_LENGTH), items[key].scores[metric] == 1)
        for title, items in by_entry.items()
    ]
    return shortened(asked.prompt, TEXT_LENGTH, keep_end=True), [*lines, ("wanted", asked.reference, False)]


def by_id(entry: Entry) -> dict[str, Item]:
    """The answered items of a contestant."""
    return {item.item_id: item for item in read_items(entry.run.path, entry.run.results.tasks[ANSWERS])}
