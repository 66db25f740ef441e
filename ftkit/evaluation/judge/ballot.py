"""A person's votes on pairs of answers whose models are hidden: which pairs there are, in which order and on which
side, and a file to which each vote is added as it comes.

    ballot = Ballot(pairs_of(answers, prompts, seed=0), Path("votes.jsonl"), voter="ann")
    ballot.shown(ballot.next_place()), ballot.vote(pair_id, "left")

A file that was there is gone on with: its voter is not asked again about a pair.
"""

import hashlib
import json
import random
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from ftkit.config.errors import UserError
from ftkit.config.jsonl import append_jsonl, end_last_line
from ftkit.evaluation.judge.judge import check_same_prompts
from ftkit.evaluation.judge.votes import AGAIN, Vote, check_prompt, read_votes
from ftkit.inference.judging import Answered

CHOICES = {"left": "a", "right": "b", "tie": "tie", "both_bad": "both_bad"}
SIDES = {winner: side for side, winner in CHOICES.items()}


@dataclass(frozen=True)
class Pair:
    """A question with two answers; `a` stands on the left."""

    prompt: Any
    model_a: str
    answer_a: str
    model_b: str
    answer_b: str

    @property
    def id(self) -> str:
        """What it is known by, whichever answer stands on the left, and which says nothing of the models."""
        return id_of(self.voted("tie", ""))

    def voted(self, winner: str, voter: str) -> Vote:
        """A vote on it."""
        return Vote(self.prompt, self.model_a, self.answer_a, self.model_b, self.answer_b, winner, voter)


def id_of(vote: Vote) -> str:
    """The id of the pair that a vote is about."""
    return hashlib.sha256(json.dumps(vote.about[1:]).encode()).hexdigest()[:24]


def pairs_of(answers: dict[str, list[Answered]], seed: int = 0) -> list[Pair]:
    """Every two models' answers to every question, in an order and on sides drawn by `seed`; equal answers left out.

    Raises UserError for models that answered different questions, a conversation that no answer may follow, and where
    no two answers differ.
    """
    check_same_prompts(answers)
    draw = random.Random(seed)
    pairs: dict[str, Pair] = {}
    for first, second in combinations(answers, 2):
        for number, (one, other) in enumerate(zip(answers[first], answers[second], strict=True), start=1):
            if one.answer.strip() != other.answer.strip():
                sides = [(first, one.answer), (second, other.answer)]
                draw.shuffle(sides)
                check_prompt(one.asked, f"{first}: question {number}")
                pair = Pair(one.asked, *sides[0], *sides[1])
                pairs.setdefault(pair.id, pair)
    if not pairs:
        raise UserError("all answers are equal, so there is nothing to vote on; ask other questions or models")
    order = list(pairs.values())
    draw.shuffle(order)
    return order


class Ballot:
    """The pairs that a voter is asked about, and the file of votes."""

    def __init__(self, pairs: Sequence[Pair], path: Path, voter: str):
        """Raises UserError for a file that holds what is no vote."""
        self.pairs, self.path, self.voter = list(pairs), path, voter
        self.places = {pair.id: place for place, pair in enumerate(self.pairs)}
        self.lock = threading.Lock()  # requests come in several threads
        end_last_line(path)
        known = read_votes(path) if path.is_file() and path.stat().st_size else []
        self.cast = {id_of(vote): vote for vote in known if vote.voter == voter}
        self.num_before = self.num_cast

    @property
    def num_cast(self) -> int:
        """How many of the pairs have a vote."""
        return len(self.places.keys() & self.cast.keys())

    def next_place(self) -> int | None:
        """The place of the first pair without a vote; None where all have one."""
        return next((place for place, pair in enumerate(self.pairs) if pair.id not in self.cast), None)

    def shown(self, place: int | None) -> dict:
        """What a person may see: the pair at a place, or that there is none left, and how far the voting is."""
        counts = {"num_votes": self.num_cast, "num_pairs": len(self.pairs)}
        if place is None:
            return {**counts, "pair": None}
        pair = self.pairs[place]
        vote = self.cast.get(pair.id)
        return {
            **counts, "pair": pair.id, "number": place + 1, "question": turns_of(pair.prompt), "left": pair.answer_a,
            "right": pair.answer_b, "vote": self.side_of(pair, vote) if vote else None,
        }  # fmt: skip

    @staticmethod
    def side_of(pair: Pair, vote: Vote) -> str:
        """What was voted, as seen on the sides where the pair stands now."""
        is_turned = (vote.model_a, vote.model_b) != (pair.model_a, pair.model_b)
        winner = {"a": "b", "b": "a"}.get(vote.winner, vote.winner) if is_turned else vote.winner
        return SIDES[winner]

    def vote(self, id: str, choice: str, *, again: bool = False) -> None:
        """Add a vote to the file. A pair that has one keeps it, as at a double click, unless it is voted on `again`.

        Raises KeyError for a pair that is not asked about.
        """
        with self.lock:
            pair = self.pairs[self.places[id]]
            if id in self.cast and not again:
                return
            vote = pair.voted(CHOICES[choice], self.voter)
            append_jsonl(self.path, [asdict(vote) | ({AGAIN: True} if id in self.cast else {})])
            self.cast[id] = vote


def turns_of(prompt: Any) -> list[dict]:
    """What was asked, as {"role", "text"} of each turn."""
    if isinstance(prompt, str):
        return [{"role": "user", "text": prompt}]
    return [{"role": turn["role"], "text": turn["content"]} for turn in prompt]
