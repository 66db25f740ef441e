"""What a judge found, in the forms that others read: results.json for `ftkit compare`, votes for `ftkit arena`."""

import dataclasses
import hashlib
import json
from collections import defaultdict
from pathlib import Path
from statistics import fmean

from ftkit.evaluation.judge import Judgement, Outcome
from ftkit.evaluation.judge_prompts import SCORE_PROMPT, Answered
from ftkit.evaluation.results import Item, Results, Score, TaskResult, write_results
from ftkit.evaluation.statistics import bootstrap_interval
from ftkit.evaluation.votes import Vote

METRIC = "judge_score"  # from 0 to 1
TASK = "judge"


def write_scores(
    folder: Path, judgements: list[Judgement], answers: dict[str, list[Answered]], judge_name: str
) -> list[Path]:
    """Write FOLDER/MODEL/results.json for each model; return their paths.

    An item that could not be scored for one model is left out for all, so that all are measured on the same items.
    """
    found: dict[str, dict[int, list[float]]] = {model: defaultdict(list) for model in answers}
    for one in judgements:
        if one.value is not None:
            found[one.models[0]][one.item].append(one.value / 100)
    kept = sorted(set.intersection(*(set(scores) for scores in found.values())))
    paths = []
    for model, rows in answers.items():
        if not kept:
            continue
        items = [item_of(rows[item], fmean(found[model][item])) for item in kept]
        path = folder / model.replace("/", "-") / "results.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [json.dumps(dataclasses.asdict(item), ensure_ascii=False) + "\n" for item in items]
        (path.parent / f"{TASK}.jsonl").write_text("".join(lines), encoding="utf-8")
        write_results(path, Results({"name": model}, {TASK: task_of(items, judge_name)}, {"judge": judge_name}))
        paths.append(path)
    return paths


def item_of(row: Answered, score: float) -> Item:
    key = json.dumps([row.prompt, row.reference], ensure_ascii=False)
    item_id = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return Item(item_id, {METRIC: score}, row.prompt, row.answer, row.reference)


def task_of(items: list[Item], judge_name: str) -> TaskResult:
    """The judging as a task: another judge, request or set of questions is another task."""
    values = [item.scores[METRIC] for item in items]
    interval = bootstrap_interval(values) if len(values) > 1 else (None, None)
    identity = json.dumps([judge_name, SCORE_PROMPT, sorted(item.item_id for item in items)])
    return TaskResult(
        TASK, 1, hashlib.sha256(identity.encode()).hexdigest(), len(items), 0, METRIC,
        {METRIC: Score(fmean(values), *interval)}, f"{TASK}.jsonl",
    )  # fmt: skip


def pair_votes(outcomes: list[Outcome], answers: dict[str, list[Answered]], voter: str) -> list[Vote]:
    """A vote for each pair of answers, from all its repeats; equal answers are a tie that nobody was asked about."""
    won: dict[tuple[int, tuple[str, str]], list[float]] = defaultdict(list)
    for one in outcomes:
        won[one.item, one.models].append(one.won)
    models = list(answers)
    for number, first in enumerate(models):
        for second in models[number + 1 :]:
            for item, (row, other) in enumerate(zip(answers[first], answers[second], strict=True)):
                if row.answer.strip() == other.answer.strip():
                    won[item, (first, second)].append(0.5)
    return [
        Vote(
            answers[a][item].prompt, a, answers[a][item].answer, b, answers[b][item].answer,
            "a" if fmean(shares) > 0.5 else "b" if fmean(shares) < 0.5 else "tie", voter,
        )
        for (item, (a, b)), shares in sorted(won.items())
    ]  # fmt: skip
