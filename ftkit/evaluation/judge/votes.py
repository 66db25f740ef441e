"""Votes on pairs of answers, from people or judges, as a .jsonl file; as preference rows; and how far voters agree.

    {"prompt": "...", "model_a": "base", "answer_a": "...", "model_b": "mine", "answer_b": "...", "winner": "b",
     "voter": "person"}

winner: "a", "b", "tie" or "both_bad". voter may be missing; prompt may be a list of messages. "again": true says that
the vote replaces the one that its voter cast on this pair before.
"""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ftkit.config.errors import UserError
from ftkit.config.jsonl import write_jsonl
from ftkit.data.reading.reader import read_records
from ftkit.data.rows.columns import nearest_key
from ftkit.data.rows.formats import checked_text, from_messages, message
from ftkit.inference.judging import prompt_text
from ftkit.metrics.intervals import wilson_interval

WINNERS = {"a": 1.0, "b": 0.0, "tie": 0.5, "both_bad": 0.5}
AGAIN = "again"
TEXTS = ("model_a", "answer_a", "model_b", "answer_b", "winner")


@dataclass
class Vote:
    """One voter's choice between two answers to one question."""

    prompt: Any
    model_a: str
    answer_a: str
    model_b: str
    answer_b: str
    winner: str
    voter: str = ""

    @property
    def question(self) -> str:
        """The prompt as one text, to tell questions apart."""
        return prompt_text(self.prompt).strip()

    @property
    def pair(self) -> tuple[str, str, str]:
        """The question and the two answers, whoever gave them and whichever stood first."""
        return self.question, *sorted([self.answer_a.strip(), self.answer_b.strip()])

    @property
    def about(self) -> tuple:
        """Voter, question, and the two models with their answers, whichever stood first."""
        sides = [(self.answer_a.strip(), self.model_a), (self.answer_b.strip(), self.model_b)]
        return self.voter, self.question, *sorted(sides)

    @property
    def share(self) -> float:
        """What the answer that comes first in `pair` won: 1, 0.5 or 0."""
        first, second = self.answer_a.strip(), self.answer_b.strip()
        won = WINNERS[self.winner]
        return 0.5 if first == second else won if first < second else 1 - won


def read_votes(path: str | Path) -> list[Vote]:
    """Read a file of votes. Raises UserError, `file:line: reason; fix`, for what is not a vote."""
    votes = []
    for record in read_records(path):
        where = f"{path}:{record.line}"
        values = dict(record.values)
        for name in ("prompt", *TEXTS):
            if name not in values:
                misspelt = [key for key in values if nearest_key(key, ("prompt", *TEXTS), values) == name]
                raise UserError(f'{where}: "{name}" is missing; {f"rename {misspelt[0]}" if misspelt else "add it"}')
        for name in TEXTS:
            if not isinstance(values[name], str):
                raise UserError(
                    f'{where}: "{name}" must be a string, got {type(values[name]).__name__}; put it in quotes'
                )
        if values["winner"] not in WINNERS:
            raise UserError(f'{where}: winner is "{values["winner"]}"; give "a", "b", "tie" or "both_bad"')
        if values["model_a"] == values["model_b"]:
            raise UserError(f"{where}: both answers are by {values['model_a']}; compare two models")
        for name in ("model_a", "model_b"):
            checked_text(values[name], name, where)
        check_prompt(values["prompt"], where)
        vote = Vote(*(values[name] for name in ("prompt", *TEXTS)), str(values.get("voter") or ""))
        if values.get(AGAIN) is True:
            take_back(votes, vote)
        votes.append(vote)
    return votes


def take_back(votes: list[Vote], vote: Vote) -> None:
    """Remove the last of the votes by the same voter on the same answers of the same models."""
    for place in reversed(range(len(votes))):
        if votes[place].about == vote.about:
            del votes[place]
            return


def check_prompt(prompt, where: str) -> None:
    """Raise UserError unless a prompt is text, or messages that an answer may follow."""
    if isinstance(prompt, list):
        from_messages({"messages": [*prompt, message("assistant", "an answer")]}, f"{where}: prompt")
    else:
        checked_text(prompt, "prompt", where)


def write_votes(path: Path, votes: Iterable[Vote]) -> None:
    """Write a file that `read_votes` reads."""
    write_jsonl(path, map(asdict, votes))


def as_triples(votes: list[Vote]) -> list[tuple[str, str, float]]:
    """Votes as `ranking.rank` takes them."""
    return [(vote.model_a, vote.model_b, WINNERS[vote.winner]) for vote in votes]


def dpo_rows(votes: list[Vote]) -> list[dict]:
    """A row prompt/chosen/rejected for each pair of answers that most of its voters decided the same way.

    Ties, and pairs whose votes cancel, teach nothing and are left out; so are equal and blank answers.
    """
    rows = []
    for (_, first, second), cast in by_pair(votes).items():
        lead = sum(2 * vote.share - 1 for vote in cast)
        if lead and first and second:
            written = {text.strip(): text for text in (cast[0].answer_a, cast[0].answer_b)}
            chosen, rejected = (written[first], written[second]) if lead > 0 else (written[second], written[first])
            rows.append({"prompt": cast[0].prompt, **answers_as(cast[0], chosen=chosen, rejected=rejected)})
    return rows


def kto_rows(votes: list[Vote]) -> list[dict]:
    """A row prompt/completion/label for each answer that won more often than it lost (true), or less often (false).

    Where both are bad, both lost.
    """
    lead: Counter = Counter()
    first_seen: dict[tuple[str, str], tuple[Vote, str]] = {}
    for vote in votes:
        won = WINNERS[vote.winner]
        sides = (0.0, 0.0) if vote.winner == "both_bad" else (won, 1 - won)
        for answer, won in zip((vote.answer_a, vote.answer_b), sides, strict=True):
            key = vote.question, answer.strip()
            lead[key] += 2 * won - 1
            first_seen.setdefault(key, (vote, answer))
    return [
        {"prompt": vote.prompt, **answers_as(vote, completion=answer), "label": lead[key] > 0}
        for key, (vote, answer) in first_seen.items()
        if lead[key] and answer.strip()
    ]


def answers_as(vote: Vote, **answers: str) -> dict:
    """Answers in the form of the prompt: text for text, an assistant's turn for messages."""
    if isinstance(vote.prompt, str):
        return answers
    return {name: [{"role": "assistant", "content": text}] for name, text in answers.items()}


def by_pair(votes: list[Vote]) -> dict[tuple, list[Vote]]:
    """Votes on the same pair of answers together, in order."""
    pairs: dict[tuple, list[Vote]] = {}
    for vote in votes:
        pairs.setdefault(vote.pair, []).append(vote)
    return pairs


class Agreement(NamedTuple):
    """How often two voters chose the same winner of a pair that both saw.

    kappa: beyond chance, 1 is perfect; None where both always chose the same one thing.
    """

    first: str
    second: str
    num_equal: int
    num_pairs: int
    kappa: float | None

    def __str__(self) -> str:
        low, high = wilson_interval(self.num_equal, self.num_pairs)
        kappa = "not defined (one choice alone)" if self.kappa is None else f"{self.kappa:.2f}"
        return (
            f"{self.first} and {self.second} agree on {self.num_equal} of {self.num_pairs} pairs, "
            f"{self.num_equal / self.num_pairs:.0%} ({low:.0%} to {high:.0%}), Cohen's kappa {kappa}"
        )


def agreements(votes: list[Vote]) -> list[Agreement]:
    """Each two voters that saw the same pairs. A voter who saw a pair twice counts with the last vote."""
    names = list(dict.fromkeys(vote.voter for vote in votes))
    choices = {name: {vote.pair: vote.share for vote in votes if vote.voter == name} for name in names}
    found = []
    for number, first in enumerate(names):
        for second in names[number + 1 :]:
            both = [(choices[first][pair], choices[second][pair]) for pair in choices[first] if pair in choices[second]]
            if both:
                equal = sum(one == other for one, other in both)
                found.append(Agreement(first or "(no name)", second or "(no name)", equal, len(both), kappa(both)))
    return found


def agreement_lines(people: list[Vote], judged: list[Vote]) -> list[str]:
    """How far people agree with the judge's votes; where they voted on other pairs, how these differ."""
    judges = {vote.voter for vote in judged}
    others = [vote for vote in people if vote.voter not in judges]
    pairs, questions = {vote.pair for vote in judged}, {vote.question for vote in judged}
    apart = [vote for vote in others if vote.pair not in pairs]
    lines = [str(one) for one in agreements([*others, *judged]) if one.second in judges]
    if apart:
        what = "the answers are different for" if apart[0].question in questions else "nobody was asked"
        lines.append(
            f"{len(others) - len(apart):,} of {len(others):,} people's votes are on pairs judged here; "
            f"{what} {json.dumps(apart[0].question[:60], ensure_ascii=False)}"
        )
    if len(others) < len(people):
        lines.append(f"{len(people) - len(others):,} votes are by {', '.join(sorted(judges))} and are not by people")
    return lines


def kappa(both: list[tuple]) -> float | None:
    """Cohen's kappa of pairs of choices; None where both voters always chose the same one thing.

    Source: Cohen 1960, doi:10.1177/001316446002000104.
    """
    n = len(both)
    observed = sum(one == other for one, other in both) / n
    first, second = Counter(one for one, _ in both), Counter(other for _, other in both)
    expected = sum(first[choice] * second[choice] for choice in first) / n**2
    return (observed - expected) / (1 - expected) if expected < 1 else None
