"""One answer out of several samples: what most of them say, or what a reward model or a judge scores highest.

    chooser = Chooser("best", load_scorer(reward_model="runs/reward"))
    (choice,) = chooser.choose([messages], [["4", "5", "four"]])
    choice.place, choice.weights, choice.num_tokens

Thoughts are not looked at, and a sample without an answer is never chosen before one that has one.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ftkit.config.errors import UserError
from ftkit.data.rows.conversion import answered
from ftkit.data.rows.thoughts import without_thought
from ftkit.inference.judging import Answered, judge_of, judge_scores, prompt_text
from ftkit.inference.scoring import normalize_answer

WAYS = ("majority", "best")
TEXT, NUMBER = VOTE_ON = ("text", "number")  # what must be the same for two samples to say the same

# (conversations, an answer to each) -> scores, None where there is none, and the tokens that were read and written
Scorer = Callable[[Sequence[list[dict]], Sequence[str]], tuple[list[float | None], int]]


class Choice(NamedTuple):
    """place: of the chosen sample. weights: the votes for what each sample says, or its score, None where it has none.

    num_tokens: that the scorer read and wrote.
    """

    place: int
    weights: list[float | None]
    num_tokens: int = 0


@dataclass(frozen=True)
class Chooser:
    """way: "majority" or "best", which needs a scorer. vote_on: for a majority, the text or its last number."""

    way: str
    scorer: Scorer | None = None
    vote_on: str = TEXT

    def choose(self, conversations: Sequence[list[dict]], groups: Sequence[Sequence[str]]) -> list[Choice]:
        """The choice from each group of samples, which answer the conversation at the same place."""
        answers = [[without_thought(text) for text in texts] for texts in groups]
        if self.way == "majority":
            return [majority(texts, self.vote_on) for texts in answers]
        if self.scorer is None:
            raise ValueError("the best of several answers needs a scorer")
        return [best(turns, texts, self.scorer) for turns, texts in zip(conversations, answers, strict=True)]


def key_of(answer: str, vote_on: str) -> Hashable:
    """What an answer says: its last number, or its text as exact_match reads it; None where it says nothing."""
    from ftkit.metrics.text_match import final_number

    return final_number(answer) if vote_on == NUMBER else normalize_answer(answer) or None


def majority(answers: Sequence[str], vote_on: str = TEXT) -> Choice:
    """The first sample that says what most of them say; of several with as many votes, what was said first."""
    keys = [key_of(answer, vote_on) for answer in answers]
    votes = Counter(key for key in keys if key is not None)
    weights = [float(votes[key]) for key in keys]
    return Choice(weights.index(max(weights)), list(weights))


def best(conversation: list[dict], answers: Sequence[str], scorer: Scorer) -> Choice:
    """The sample of the highest score; equal answers are scored once. Raises UserError where none has a score."""
    different = list(dict.fromkeys(answer for answer in answers if answer.strip()))
    found, num_tokens = scorer([conversation] * len(different), different) if different else ([], 0)
    scores = dict(zip(different, found, strict=True))
    weights = [scores.get(answer) for answer in answers]
    known = [weight for weight in weights if weight is not None]
    if different and not known:
        raise UserError("the judge gave none of the samples a score; look at its replies, or choose another --judge")
    return Choice(weights.index(max(known)) if known else 0, weights, num_tokens)


def chooser_of(way: str, reward_model: str | None = None, judge: str | None = None, vote_on: str = TEXT) -> Chooser:
    """The chooser of `--choose` and its flags. Raises UserError for a scorer that can't be had."""
    return Chooser(way, load_scorer(reward_model, judge) if way == "best" else None, vote_on)


def load_scorer(reward_model: str | None = None, judge: str | None = None) -> Scorer:
    """The scorer of `--reward_model FOLDER`, `--judge MODEL@URL` or `--judge FOLDER`. Raises UserError for none."""
    if reward_model:
        return by_reward_model(reward_model)
    endpoint = judge_of(str(judge), "--judge ")

    def by_judge(conversations: Sequence[list[dict]], answers: Sequence[str]) -> tuple[list[float | None], int]:
        rows = [Answered(prompt_text(turns), text) for turns, text in zip(conversations, answers, strict=True)]
        judged = judge_scores(endpoint, rows)
        return [one.score for one in judged], sum(one.num_tokens for one in judged)

    return by_judge


def by_reward_model(folder: str) -> Scorer:
    """Scores of a reward model that is loaded once."""
    from ftkit.inference.reward_model import load_reward_model

    model = load_reward_model(folder)

    def scores(conversations: Sequence[list[dict]], answers: Sequence[str]) -> tuple[list[float | None], int]:
        talks = zip(conversations, answers, strict=True)
        ids = model.token_ids([answered(turns, text)["messages"] for turns, text in talks])
        return list(model.scores_of_ids(ids)), sum(map(len, ids))

    return scores
