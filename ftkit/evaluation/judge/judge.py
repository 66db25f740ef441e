"""A model as judge: scores from 0 to 100, or choices between two answers asked in both orders.

    questions = score_questions({"mine": answers}, num_repeats=2)
    judging = judge(questions, lambda questions: ask_all(endpoint, ...), Path("OUT/judgements.jsonl"))

Every judgement is written as it comes, so that a judging that was stopped goes on; a reply that is no judgement, or was
cut off, counts as a failure and never as a score.
"""

import dataclasses
import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from statistics import fmean

from ftkit.config.errors import UserError
from ftkit.config.jsonl import append_jsonl, pass_over_torn, read_jsonl
from ftkit.inference.completion import Reply
from ftkit.inference.endpoint import GivenUp
from ftkit.inference.judging import Answered, pair_prompt, parse_choice, parse_score, score_prompt

NO_JUDGEMENT = {"score": "not a whole number from 0 to 100", "pair": "not A, B or tie"}
VALUES = {"score": range(101), "pair": (0.0, 0.5, 1.0)}
NOT_WHOLE = {
    "length": "cut off at the limit of tokens; raise --max_new_tokens",
    "content_filter": "held back by the server's filter",
}
NOT_ASKED = "not asked"
SHOWN_REPLY = 200  # characters of a reply that are kept


@dataclass(frozen=True)
class Question:
    """One request to the judge. models: whose answer is scored, or whose stand as A and as B. item: number of the row.

    repeat: the same request was made before, so many times.
    """

    kind: str
    item: int
    models: tuple[str, ...]
    repeat: int
    prompt: str

    @property
    def key(self) -> str:
        """A hash of the request, so that only the same request is not made again."""
        return hashlib.sha256(json.dumps([self.kind, self.repeat, self.prompt]).encode()).hexdigest()[:24]

    @property
    def messages(self) -> list[dict]:
        """The request as a conversation."""
        return [{"role": "user", "content": self.prompt}]


Ask = Callable[[list[Question]], Iterable[tuple[int, Reply]]]


@dataclass
class Judgement:
    """What came of a question. value: the score, or what A won; None with a failure. Tokens are None where unknown."""

    key: str
    kind: str
    item: int
    models: list[str]
    repeat: int
    value: float | None
    failure: str = ""
    reply: str = ""
    input_tokens: int | None = 0
    output_tokens: int | None = 0


@dataclass
class Judging:
    """judgements: of each question, in order. replies: all that ever came, which were paid for. given_up: why asking
    ended early, or ""."""

    judgements: list[Judgement]
    replies: list[Judgement]
    given_up: str = ""

    @property
    def is_whole(self) -> bool:
        """Whether every question was asked."""
        return all(one.failure != NOT_ASKED for one in self.judgements)

    @property
    def is_empty(self) -> bool:
        """Whether there were questions and none was answered by a judgement."""
        return bool(self.judgements) and all(one.failure for one in self.judgements)


def score_questions(answers: dict[str, list[Answered]], num_repeats: int = 1) -> list[Question]:
    """A request for every answer of every model, `num_repeats` times."""
    check_same_prompts(answers)
    return [
        Question("score", item, (model,), repeat, score_prompt(row))
        for repeat in range(num_repeats)
        for model, rows in answers.items()
        for item, row in enumerate(rows)
    ]


def pair_questions(answers: dict[str, list[Answered]], num_repeats: int = 1) -> list[Question]:
    """Two requests, one in each order, for every two models' answers to every question, `num_repeats` times.

    Equal answers are left out: a tie that nobody needs to be asked about.
    """
    check_same_prompts(answers)
    return [
        Question("pair", item, models, repeat, pair_prompt(*(answers[model][item] for model in models)))
        for repeat in range(num_repeats)
        for pair in combinations(answers, 2)
        for item in range(len(answers[pair[0]]))
        if answers[pair[0]][item].answer.strip() != answers[pair[1]][item].answer.strip()
        for models in (pair, pair[::-1])
    ]


def check_same_prompts(answers: dict[str, list[Answered]]) -> None:
    """Raise UserError unless every model answered the same questions in the same order."""
    (first, rows), *others = answers.items()
    for name, other in others:
        if [row.prompt for row in other] != [row.prompt for row in rows]:
            raise UserError(
                f"{first} ({len(rows)} rows) and {name} ({len(other)}) answered different questions, or in a "
                "different order; let them answer the same"
            )


def judge(questions: list[Question], ask: Ask, path: Path) -> Judging:
    """Ask what `path` does not hold yet, and add it there as it comes. The folder of `path` must be there.

    Equal requests are made once. What failed before is asked again, after all that is new: what can't be answered does
    not keep a judging from its end. Raises UserError for a file of another kind.
    """
    replies = read_judgements(path)
    found = {one.key: one for one in sorted(replies, key=lambda one: not one.failure)}  # judgements over failures
    open_questions = {one.key: one for one in questions if one.key not in found or found[one.key].failure}
    missing = sorted(open_questions.values(), key=lambda question: question.key in found)
    given_up = ""
    try:
        for index, reply in ask(missing) if missing else ():
            one = judgement_of(missing[index], reply)
            found[one.key] = one
            replies.append(one)
            append_jsonl(path, [dataclasses.asdict(one)])
    except GivenUp as error:
        given_up = str(error)
    return Judging([outcome(question, found) for question in questions], replies, given_up)


def outcome(question: Question, found: dict[str, Judgement]) -> Judgement:
    """The judgement of a question, which an equal request may have brought."""
    models = list(question.models)
    if question.key not in found:
        return Judgement(question.key, question.kind, question.item, models, question.repeat, None, NOT_ASKED)
    return dataclasses.replace(found[question.key], item=question.item, models=models)


def judgement_of(question: Question, reply: Reply) -> Judgement:
    """What a reply says, by its whole text."""
    parse = parse_score if question.kind == "score" else parse_choice
    failure = reply.failure or NOT_WHOLE.get(reply.finish_reason, "")
    value = None if failure else parse(reply.text)
    failure = failure or ("" if value is not None else NO_JUDGEMENT[question.kind])
    return Judgement(
        question.key, question.kind, question.item, list(question.models), question.repeat, value, failure,
        reply.text[:SHOWN_REPLY], reply.input_tokens, reply.output_tokens,
    )  # fmt: skip


def read_judgements(path: Path) -> list[Judgement]:
    """What was judged before, without a torn last line. Raises UserError for a file of another kind."""
    return read_jsonl(
        path,
        lambda values: checked(Judgement(**values)),
        what="judgement",
        fix="choose another --output_dir",
        report=pass_over_torn,
    )


def checked(one: Judgement) -> Judgement:
    """Raises ValueError for what no judging writes."""
    if one.kind not in VALUES or not isinstance(one.key, str) or not isinstance(one.failure, str):
        raise ValueError("its kind, key or failure is none")
    if (one.value is None) != bool(one.failure) or one.value is not None and one.value not in VALUES[one.kind]:
        raise ValueError(f"value {one.value!r}, failure {one.failure!r}")
    if any(not isinstance(num, int | None) for num in (one.input_tokens, one.output_tokens)):
        raise ValueError("its tokens are not numbers")
    return one


def shared_scores(judgements: list[Judgement], models: Iterable[str]) -> dict[str, dict[int, list[float]]]:
    """Scores by model and item, one a repeat; an item without a score for one model is left out for all.

    So all are measured on the same items.
    """
    found: dict[str, dict[int, list[float]]] = {model: defaultdict(list) for model in models}
    for one in judgements:
        if one.value is not None:
            found[one.models[0]][one.item].append(one.value)
    kept = sorted(set.intersection(*(set(scores) for scores in found.values())))
    return {model: {item: scores[item] for item in kept} for model, scores in found.items()}


@dataclass(frozen=True)
class Outcome:
    """A pair of answers after both orders. won: by the first model, 1, 0.5 or 0. agreed: both orders said the same."""

    item: int
    models: tuple[str, str]
    repeat: int
    won: float
    agreed: bool


def pair_outcomes(judgements: list[Judgement]) -> list[Outcome]:
    """Both orders together: what they agree on, else a tie. A pair of which one order failed is left out."""
    found: dict[tuple, dict[tuple, Judgement]] = {}
    for one in judgements:
        key = one.item, tuple(sorted(one.models)), one.repeat
        found.setdefault(key, {})[tuple(one.models)] = one
    outcomes = []
    for (item, _, repeat), orders in found.items():
        models = next(iter(orders))
        there, back = orders[models], orders[models[::-1]]
        if there.value is None or back.value is None:
            continue
        agreed = there.value == 1 - back.value
        outcomes.append(Outcome(item, models, repeat, there.value if agreed else 0.5, agreed))
    return outcomes


def majority(shares: Sequence[float]) -> float:
    """What most of the repeats say: 1, 0, or 0.5 where they cancel."""
    mean = fmean(shares)
    return 1.0 if mean > 0.5 else 0.0 if mean < 0.5 else 0.5


def pair_winners(outcomes: list[Outcome]) -> dict[tuple[int, tuple[str, str]], float]:
    """What the first model won by (item, models): repeats are no new pairs, so each pair counts once."""
    found = defaultdict(list)
    for one in outcomes:
        found[one.item, one.models].append(one.won)
    return {pair: majority(shares) for pair, shares in found.items()}
