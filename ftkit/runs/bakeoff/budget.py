"""What each contestant of a bake-off may train for, as passes over its rows: so many tokens, or as many as go through
in so many minutes, which a few updates show."""

import logging
import shutil
import statistics
from pathlib import Path

from ftkit.config.jsonl import read_log
from ftkit.runs.bakeoff.asked import TOKENS, Asked

logger = logging.getLogger(__name__)

TRIAL_UPDATES = 5  # of which the first is slower


def epochs_within(asked: Asked, recipe, argv: list[str], trial: Path) -> float:
    """Passes over the rows of an `ftkit sft` command line that the budget allows, at most --max_epochs.

    trial: a folder for a few updates, where the budget is in minutes; it is removed.
    """
    settings = recipe.parse([*argv, "--output_dir", str(trial)])
    budget = asked.budget.amount
    if asked.budget.unit != TOKENS:
        budget *= 60 * tokens_per_second(recipe, [*argv, "--output_dir", str(trial)], trial)
    found = budget / tokens_of_pass(settings)
    if found > asked.max_epochs:
        logger.warning(
            "%s would be %.3g passes over the rows; --max_epochs makes it %g", asked.budget, found, asked.max_epochs
        )
    return min(found, asked.max_epochs)


def tokens_of_pass(settings) -> int:
    """Tokens of all rows of a run, its template included."""
    from ftkit.training.preparation import prepare_data

    return sum(prepare_data(settings).train.lengths)


def tokens_per_second(recipe, argv: list[str], trial: Path) -> float:
    """How many tokens go through training, in a run of a few updates."""
    more = ["--max_steps", str(TRIAL_UPDATES), "--logging_steps", "1"]
    shutil.rmtree(trial, ignore_errors=True)
    recipe.train(recipe.parse([*argv, *more]))
    rates = [line["useful_tokens_per_second"] for line in read_log(trial / "metrics.jsonl")]
    shutil.rmtree(trial)
    return statistics.median(rates[1:] or rates)
