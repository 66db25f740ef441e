"""Held-out rows of several tasks: examples of a row's own task, what answers without a model, scores by task.

    held_out = with_examples_of_groups(train, test)     # in place of a run's own, before it begins
    add_baselines("runs/mine", train, test)             # after it

A row is {"messages": [...]}, whose last message is the answer; "group" names the task it belongs to, where there are
several.
"""

import dataclasses
from collections import defaultdict
from functools import partial
from pathlib import Path

from ftkit.data.rows.formats import alpaca_row
from ftkit.data.rows.thoughts import without_thought
from ftkit.evaluation.bench.scores import task_scores
from ftkit.evaluation.bench.task_items import TaskItem
from ftkit.evaluation.bench.units import answer_scores
from ftkit.evaluation.held_out.before_after import TASK, after, before
from ftkit.evaluation.held_out.likelihoods import ANSWERS, Part
from ftkit.evaluation.results import (
    BEFORE,
    FILE,
    Item,
    Results,
    TaskResult,
    befores_of,
    content_id,
    read_items,
    read_results,
    write_run,
)
from ftkit.evaluation.verdict.pairing import content_key
from ftkit.inference.scoring import copy_input, most_frequent_answer
from ftkit.training.answering import NUM_EXAMPLES
from ftkit.training.method import HeldOut, Run


def with_examples_of_groups(train: list[dict], test: list[dict]) -> HeldOut:
    """As every run measures held-out rows, but with training rows of a row's own group in the prompt of the base."""
    of_group, groups = by_group(train), {content_id(row["messages"]): row.get("group", "") for row in test}

    def examples(run: Run, parts: list[Part]) -> list[list[dict]]:
        return [of_group[groups[content_id(part.content)]][:NUM_EXAMPLES] for part in parts]

    return HeldOut(after, partial(before, examples=examples))


def by_group(rows: list[dict]) -> dict[str, list[dict]]:
    """The rows of each group."""
    found = defaultdict(list)
    for row in rows:
        found[row.get("group", "")].append(row)
    return found


def add_baselines(folder: str | Path, train: list[dict], test: list[dict]) -> None:
    """Write FOLDER/before-most-frequent-answer and FOLDER/before-copying-the-input, and into all that the run measured
    the scores of each group of rows. train, test: the rows of the run."""
    rows = {content_id(row["messages"]): row for row in test}
    for path in (*befores_of(folder), Path(folder) / FILE):
        results = read_results(path)
        task, items = results.tasks[ANSWERS], read_items(path, results.tasks[ANSWERS])
        for item in items:
            item.extra |= {"group": group} if (group := rows[content_key(item)].get("group")) else {}
        task.scores |= scores_by(task, items)
        write_run(path.parent, results, {ANSWERS: items})
    for name, texts in answers_without_model([rows[content_key(item)] for item in items], train).items():
        plain = [answered(item, text) for item, text in zip(items, texts, strict=True)]
        measured = Results(
            {"name": name}, {ANSWERS: dataclasses.replace(task, scores=scores_by(task, plain))}, seed=results.seed
        )
        write_run(Path(folder) / f"{BEFORE}-{name.replace(' ', '-')}", measured, {ANSWERS: plain})


def scores_by(task: TaskResult, items: list[Item]) -> dict:
    """The scores of answers, the task's main one first, those of groups last."""
    main_first = sorted(TASK.metrics, key=lambda name: name != task.main_metric)
    return task_scores(dataclasses.replace(TASK, metrics=main_first), items)


def answers_without_model(test: list[dict], train: list[dict]) -> dict[str, list[str]]:
    """By name: the most frequent answer of a row's group in `train`, and a copy of what the row asks about."""
    frequent = {
        group: most_frequent_answer([without_thought(row["messages"][-1]["content"]) for row in rows])
        for group, rows in by_group(train).items()
    }
    return {
        "most frequent answer": [frequent[row.get("group", "")] for row in test],
        "copying the input": copy_input([alpaca_row(row["messages"][-2:]) for row in test]),
    }


def answered(item: Item, text: str) -> Item:
    """A held-out row with another answer, scored."""
    asked = TaskItem(item.item_id, [item.prompt], target=item.reference)
    scores = answer_scores(TASK.metrics, text, asked)
    extra = {name: value for name, value in item.extra.items() if name == "group"}
    return dataclasses.replace(item, scores=scores, prediction=text, extra=extra)
