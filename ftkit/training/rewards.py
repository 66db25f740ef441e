"""Rewards of sampled answers, by name: functions of texts, a person's own function, a reward model, a judge.

    rewards = load_rewards(["exact_answer", "length:-40", "my_rewards.py:polite"], weights=[1, 0.2, 0.5])
    scores = score(rewards, prompts, completions, columns)       # (B, K) float64; NaN is a missing reward

A person's own function is called as TRL calls one: `f(prompts=, completions=, answer=, ...)` with lists, and gives a
number for each answer, or None. prompts are conversations, completions texts, all others columns of the rows. Its file
is run because its name was given, and never otherwise.

A missing reward is missing, not zero: `with_missing_filled` leaves it out of its group's mean.
"""

import importlib.util
import inspect
import math
import numbers
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ftkit.config.errors import UserError, did_you_mean
from ftkit.config.foreign import foreign
from ftkit.data.rows.conversion import answered
from ftkit.data.rows.thoughts import without_thought
from ftkit.inference.judging import Answered, judge_of, judge_scores, prompt_text
from ftkit.inference.reward_model import load_reward_model
from ftkit.metrics.rewards import ANSWER, TextReward, named_reward

MODEL, JUDGE = "reward_model", "judge"
Conversation = list[dict]

# B answers, K rewards, G answers of a prompt


@dataclass(frozen=True)
class Reward:
    """name: as it was given. of(prompts, completions, columns): a number for each answer, None where it is missing.

    columns: name -> a value for each answer. column: of the rows that it needs, or None; check(value) raises ValueError
    where it can't use one.
    """

    name: str
    of: Callable[[Sequence[Conversation], Sequence[str], dict[str, list]], Sequence]
    weight: float = 1.0
    column: str | None = None
    check: Callable[[object], object] | None = None

    def __call__(self, prompts: Sequence[Conversation], completions: Sequence[str], columns: dict) -> list[float]:
        """The rewards, NaN for a missing one. Raises UserError for a wrong number of them, and for what is none."""
        found = self.of(prompts, completions, columns)
        if not isinstance(found, Sequence | torch.Tensor) and not hasattr(found, "__len__"):
            raise UserError(f"reward {self.name}: gave {type(found).__name__}; give a list with one number per answer")
        if len(found) != len(completions):
            raise UserError(
                f"reward {self.name}: gave {len(found)} rewards for {len(completions)} answers; give one for each"
            )
        return [self.number(value, place) for place, value in enumerate(found, 1)]

    def number(self, value, place: int) -> float:
        """A reward as a float. Raises UserError for what is not a finite number."""
        if value is None:
            return math.nan
        value = value.item() if hasattr(value, "item") else value
        if not isinstance(value, numbers.Real) or not math.isfinite(value):
            raise UserError(
                f"reward {self.name}: reward {place} is {value!r}; give a finite number, or None where there is none"
            )
        return float(value)


def load_rewards(names: Sequence[str], weights: Sequence[float] | None = None) -> list[Reward]:
    """The rewards of `--rewards`, weighted by `--reward_weights`.

    A name is one of `ftkit.metrics.rewards`, FILE.py:FUNCTION, reward_model:FOLDER, judge:MODEL@URL or judge:FOLDER.
    Raises UserError for one that is not known or can't be loaded, for none, two of a name, and weights that don't fit.
    """
    if not names:
        raise UserError("--rewards is missing; name what an answer is rewarded for, such as --rewards exact_answer")
    twice = next((name for place, name in enumerate(names) if name in names[:place]), None)
    if twice:
        raise UserError(f"--rewards names {twice} twice; give it once, and a weight")
    weights = [1.0] * len(names) if weights is None else list(weights)
    if len(weights) != len(names):
        raise UserError(f"--reward_weights has {len(weights)} weights for {len(names)} rewards; give one for each")
    if not any(weights):
        raise UserError("--reward_weights are all 0, so that nothing is rewarded; give one that is not")
    return [load_reward(name, weight) for name, weight in zip(names, weights, strict=True)]


def load_reward(name: str, weight: float = 1.0) -> Reward:
    """One reward; see `load_rewards`."""
    kind, _, given = name.partition(":")
    if kind.endswith(".py"):
        return Reward(name, own_function(kind, given, name), weight)
    if kind in (MODEL, JUDGE) and not given:
        example = f"{MODEL}:runs/reward" if kind == MODEL else f"{JUDGE}:llama3.2@http://127.0.0.1:11434/v1"
        raise UserError(f"--rewards {name} names no {'model' if kind == MODEL else 'judge'}; write {example}")
    if kind == MODEL:
        return Reward(name, by_model(given), weight)
    if kind == JUDGE:
        return Reward(name, by_judge(given), weight)
    return by_text(name, named_reward(name), weight)


def by_text(name: str, reward: TextReward, weight: float) -> Reward:
    """A reward that is a function of one text and what the row says."""

    def scores(prompts, completions, columns: dict[str, list]) -> list:
        if reward.column is None:
            return [reward.score(text, None) for text in completions]
        known = columns.get(reward.column) or [None] * len(completions)
        return [
            None if said is None else reward.score(text, said) for text, said in zip(completions, known, strict=True)
        ]

    return Reward(name, scores, weight, reward.column, reward.check)


def own_function(path: str, function: str, name: str) -> Callable:
    """A person's own function, called with those of the columns that it takes.

    Raises UserError for a file or a function that is not there, and one line for whatever the file raises.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise UserError(f"--rewards {name}: there is no file {path}; give FILE.py:FUNCTION")
    spec = importlib.util.spec_from_file_location(f"ftkit_reward_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise UserError(f"--rewards {name}: {path} is not a Python file; give FILE.py:FUNCTION")
    module = importlib.util.module_from_spec(spec)
    with foreign(f"--rewards {name}", "the file can't be run"):
        spec.loader.exec_module(module)
    own = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
    if function not in own:
        hint = did_you_mean(function, own) or f"; it has: {', '.join(own) or 'none'}"
        raise UserError(f'--rewards {name}: {path} has no function "{function}"{hint}')
    called = getattr(module, function)
    parameters = inspect.signature(called).parameters
    takes_all = any(one.kind is one.VAR_KEYWORD for one in parameters.values())

    def scores(prompts, completions, columns: dict[str, list]):
        given = {**columns, "prompts": list(prompts), "completions": list(completions)}
        with foreign(f"reward {name}", "the function failed"):
            return called(**{key: value for key, value in given.items() if takes_all or key in parameters})

    return scores


def by_model(folder: str) -> Callable:
    """Scores of a reward model; see `ftkit.inference.reward_model`."""
    model = load_reward_model(folder)

    def scores(prompts, completions, columns) -> list[float]:
        talks = zip(prompts, completions, strict=True)
        return model.scores([answered(prompt, text)["messages"] for prompt, text in talks])

    return scores


def by_judge(given: str) -> Callable:
    """Scores of a judge from 0 to 1, asked once per answer; None where its reply is no score.

    given: MODEL@URL or a model's folder. Raises UserError where the server is gone.
    """
    endpoint = judge_of(given, f"--rewards {JUDGE}:")

    def scores(prompts, completions, columns: dict[str, list]) -> list[float | None]:
        known = columns.get(ANSWER) or [None] * len(completions)
        rows = [
            Answered(prompt_text(prompt), without_thought(text), said or "")
            for prompt, text, said in zip(prompts, completions, known, strict=True)
        ]
        return [one.score for one in judge_scores(endpoint, rows)]

    return scores


def check_columns(rewards: Sequence[Reward], rows: Sequence[dict]) -> None:
    """Raise UserError, naming the row, where a reward can't use what the rows say, or none of them says it.

    rows: {"columns": {name: value}, "source": "file:line"}. Rows of which only some lack it have no such reward.
    """
    for reward in rewards:
        if reward.column is None:
            continue
        said = [(row, row["columns"].get(reward.column)) for row in rows]
        if rows and all(value is None for _, value in said):
            raise UserError(
                f'{rows[0]["source"]}: reward {reward.name} needs the column "{reward.column}", which no row has; add '
                "it, or choose another reward"
            )
        for row, value in said:
            if value is not None and reward.check:
                try:
                    reward.check(value)
                except ValueError as error:
                    raise UserError(f"{row['source']}: reward {reward.name}: {error}") from error


def columns_of(rows: Sequence[dict]) -> dict[str, list]:
    """What rows of `ftkit.data.rows.prompts` say, by column; None where a row lacks one."""
    names = dict.fromkeys(name for row in rows for name in row["columns"])
    return {name: [row["columns"].get(name) for row in rows] for name in names}


def score(
    rewards: Sequence[Reward], prompts: Sequence[Conversation], completions: Sequence[str], columns: dict[str, list]
) -> torch.Tensor:
    """The rewards of each answer, (B, K) float64, NaN where one is missing; not weighted."""
    found = [reward(prompts, completions, columns) for reward in rewards]
    return torch.tensor(found, dtype=torch.float64).reshape(len(rewards), len(completions)).T


def weights_of(rewards: Sequence[Reward]) -> torch.Tensor:
    """(K,) float64."""
    return torch.tensor([reward.weight for reward in rewards], dtype=torch.float64)


def with_missing_filled(rewards_BK: torch.Tensor, num_generations: int) -> torch.Tensor:
    """The rewards with each missing one set to the mean of its group's, so that it moves nothing.

    Where the whole group has none, and for an answer that has no reward at all, NaN stays.
    """
    groups_NGK = rewards_BK.view(-1, num_generations, rewards_BK.shape[1])
    means_NGK = groups_NGK.nanmean(dim=1, keepdim=True).expand_as(groups_NGK)
    has_some = ~groups_NGK.isnan().all(dim=2, keepdim=True)
    return torch.where(groups_NGK.isnan() & has_some, means_NGK, groups_NGK).view_as(rewards_BK)


def total(rewards_BK: torch.Tensor, weights_K: torch.Tensor) -> torch.Tensor:
    """The weighted sum of each answer's rewards, (B,); NaN where it has none."""
    summed = (rewards_BK * weights_K).nansum(dim=1)
    return summed.masked_fill(rewards_BK.isnan().all(dim=1), math.nan)
