"""What a judge found, in the forms that others read: results.json for `ftkit compare`, votes for `ftkit arena`."""

import dataclasses
import hashlib
import json
from itertools import combinations
from pathlib import Path
from statistics import fmean

from ftkit.config.jsonl import write_jsonl
from ftkit.evaluation.bench.results import Item, Results, Score, TaskResult, write_results
from ftkit.evaluation.judge.folder import model_folder
from ftkit.evaluation.judge.judge import Judgement, Outcome, pair_winners, shared_scores
from ftkit.evaluation.judge.prompts import SCORE_PROMPT, Answered
from ftkit.evaluation.judge.votes import Vote
from ftkit.metrics.intervals import bootstrap_interval

METRIC = "judge_score"  # from 0 to 1
TASK = "judge"
WINNER = {1.0: "a", 0.0: "b", 0.5: "tie"}


def write_scores(
    folder: Path, judgements: list[Judgement], answers: dict[str, list[Answered]], settings: dict
) -> list[Path]:
    """Write FOLDER/MODEL/results.json for each model; return their paths, none where no item has a score of each.

    settings: of the judge, as they are noted in its folder.
    """
    scores = shared_scores(judgements, answers)
    paths = []
    for model, rows in answers.items():
        items = [item_of(rows[item], fmean(values) / 100) for item, values in scores[model].items()]
        if not items:
            continue
        path = folder / model_folder(model) / "results.json"
        write_jsonl(path.parent / f"{TASK}.jsonl", map(dataclasses.asdict, items))
        write_results(path, Results({"name": model}, {TASK: task_of(items, settings)}, settings))
        paths.append(path)
    return paths


def item_of(row: Answered, score: float) -> Item:
    key = json.dumps([row.prompt, row.reference], ensure_ascii=False)
    item_id = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return Item(item_id, {METRIC: score}, row.prompt, row.answer, row.reference)


def task_of(items: list[Item], settings: dict) -> TaskResult:
    """The judging as a task: another judge, request or set of questions is another task; where it runs is not."""
    values = [item.scores[METRIC] for item in items]
    interval = bootstrap_interval(values) if len(values) > 1 else (None, None)
    judge = {name: value for name, value in settings.items() if name != "endpoint"}
    identity = json.dumps([judge, SCORE_PROMPT, sorted(item.item_id for item in items)], sort_keys=True)
    return TaskResult(
        TASK, 1, hashlib.sha256(identity.encode()).hexdigest(), len(items), 0, METRIC,
        {METRIC: Score(fmean(values), *interval)}, f"{TASK}.jsonl",
    )  # fmt: skip


def pair_votes(outcomes: list[Outcome], answers: dict[str, list[Answered]], voter: str) -> list[Vote]:
    """A vote for each pair of answers, from all its repeats; equal answers are a tie that nobody was asked about."""
    won = pair_winners(outcomes)
    for first, second in combinations(answers, 2):
        for item, (row, other) in enumerate(zip(answers[first], answers[second], strict=True)):
            if row.answer.strip() == other.answer.strip():
                won[item, (first, second)] = 0.5
    return [
        Vote(
            answers[a][item].prompt, a, answers[a][item].answer, b, answers[b][item].answer, WINNER[share], voter,
        )
        for (item, (a, b)), share in sorted(won.items())
    ]  # fmt: skip
