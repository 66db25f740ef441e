"""What a judge found, in the forms that others read: results.json for `ftkit compare`, votes for `ftkit arena`."""

from itertools import combinations
from pathlib import Path
from statistics import fmean

from ftkit.evaluation.judge.folder import model_folder
from ftkit.evaluation.judge.judge import Judgement, Outcome, pair_winners, shared_scores
from ftkit.evaluation.judge.votes import Vote
from ftkit.evaluation.results import Item, Results, content_id, mean_score, task_of, write_run
from ftkit.inference.judging import SCORE_PROMPT, Answered

METRIC = "judge_score"  # from 0 to 1
TASK = "judge"
WINNER = {1.0: "a", 0.0: "b", 0.5: "tie"}


def write_scores(
    folder: Path, judgements: list[Judgement], answers: dict[str, list[Answered]], settings: dict
) -> list[Path]:
    """Write FOLDER/MODEL/results.json for each model; return their paths, none where no item has a score of each.

    settings: of the judge, as they are noted in its folder; another judge, request or set of questions makes another
    task, and where the judge runs does not.
    """
    judge = {name: value for name, value in settings.items() if name != "endpoint"}
    scores = shared_scores(judgements, answers)
    paths = []
    for model, rows in answers.items():
        items = [item_of(rows[item], fmean(values) / 100) for item, values in scores[model].items()]
        if items:
            measured = {METRIC: mean_score([item.scores[METRIC] for item in items])}
            task = task_of(TASK, items, measured, settings=[judge, SCORE_PROMPT])
            paths.append(
                write_run(folder / model_folder(model), Results({"name": model}, {TASK: task}, settings), {TASK: items})
            )
    return paths


def item_of(row: Answered, score: float) -> Item:
    """A judged answer as an item, whose id depends on the question and its reference."""
    return Item(content_id(row.prompt, row.reference), {METRIC: score}, row.prompt, row.answer, row.reference)


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
