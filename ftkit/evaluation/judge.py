"""A model as judge: scores from 0 to 100, or choices between two answers asked in both orders.

    questions = score_questions({"mine": answers}, num_repeats=2)
    judgements = judge(questions, lambda conversations: ask_all(endpoint, conversations), Path("OUT/judgements.jsonl"))

Every judgement is written as it comes, so that a judging that was stopped goes on; a reply that is no judgement counts
as a failure and never as a score.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from ftkit.config.errors import UserError
from ftkit.evaluation.endpoint import Reply
from ftkit.evaluation.judge_prompts import Answered, pair_prompt, parse_choice, parse_score, score_prompt

NO_JUDGEMENT = {"score": "not a whole number from 0 to 100", "pair": "not A, B or tie"}
SHOWN_REPLY = 200  # characters of a reply that are kept

Ask = Callable[[list[list[dict]]], Iterable[tuple[int, Reply]]]


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


@dataclass
class Judgement:
    """What came of a question. value: the score, or what A won; None with a failure."""

    key: str
    kind: str
    item: int
    models: list[str]
    repeat: int
    value: float | None
    failure: str = ""
    reply: str = ""
    input_tokens: int = 0
    output_tokens: int = 0


def score_questions(answers: dict[str, list[Answered]], num_repeats: int = 1) -> list[Question]:
    """A request for every answer of every model, `num_repeats` times."""
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
                f"{first} ({len(rows)} rows) and {name} ({len(other)}) answered other questions, or in another order; "
                "let them answer the same"
            )


def judge(questions: list[Question], ask: Ask, path: Path) -> list[Judgement]:
    """Ask what `path` does not hold yet, add it there as it comes, and return all judgements in the questions' order.

    The folder of `path` must be there.

    Equal requests are made once. Failures are asked again in the next run. Raises UserError as `ask` does.
    """
    found = {one.key: one for one in read_judgements(path) if not one.failure}
    missing = list({question.key: question for question in questions if question.key not in found}.values())
    conversations = [[{"role": "user", "content": question.prompt}] for question in missing]
    drop_cut_line(path)
    with open(path, "a", encoding="utf-8") as file:
        for index, reply in ask(conversations) if conversations else ():
            one = judgement_of(missing[index], reply)
            found[one.key] = one
            file.write(json.dumps(dataclasses.asdict(one), ensure_ascii=False) + "\n")
            file.flush()
    return [
        dataclasses.replace(found[question.key], item=question.item, models=list(question.models))
        for question in questions
    ]


def judgement_of(question: Question, reply: Reply) -> Judgement:
    """What a reply says, by its whole text."""
    parse = parse_score if question.kind == "score" else parse_choice
    value = None if reply.failure else parse(reply.text)
    failure = reply.failure or ("" if value is not None else NO_JUDGEMENT[question.kind])
    return Judgement(
        question.key, question.kind, question.item, list(question.models), question.repeat, value, failure,
        reply.text[:SHOWN_REPLY], reply.input_tokens, reply.output_tokens,
    )  # fmt: skip


def read_judgements(path: Path) -> Iterator[Judgement]:
    """What was judged before. Raises UserError for a file of another kind."""
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    for number, line in enumerate(text.split("\n")[:-1], start=1):
        try:
            yield Judgement(**json.loads(line))
        except (json.JSONDecodeError, TypeError) as error:
            raise UserError(f"{path}:{number}: no judgement ({error}); choose another --output_dir") from error


def drop_cut_line(path: Path) -> None:
    """Cut off what stands behind the last whole line, as a kill leaves it."""
    if path.is_file():
        content = path.read_bytes()
        if not content.endswith(b"\n"):
            os.truncate(path, content.rfind(b"\n") + 1)


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
