"""Two answers shown blind, and the votes on them.

GET  /api/pair     the next pair without a vote; ?number=N: the one at that place, to vote again
POST /api/votes    {"pair": id, "vote": "left" | "right" | "tie" | "both_bad"[, "again": true]}; answers the next
"""

from typing import Literal

from fastapi import APIRouter, HTTPException
from pydantic import BaseModel, ConfigDict

from ftkit.evaluation.judge.ballot import Ballot


class Cast(BaseModel):
    """A vote as the page sends it. again: in place of the one that the pair has."""

    model_config = ConfigDict(extra="forbid", strict=True)

    pair: str
    vote: Literal["left", "right", "tie", "both_bad"]
    again: bool = False


def voting_routes(ballot: Ballot) -> APIRouter:
    """The routes of one ballot."""
    router = APIRouter()

    @router.get("/api/pair")
    def pair(number: int | None = None) -> dict:
        if number is not None and not 1 <= number <= len(ballot.pairs):
            raise HTTPException(404, f"there are pairs 1 to {len(ballot.pairs)}")
        return ballot.shown(ballot.next_place() if number is None else number - 1)

    @router.post("/api/votes")
    def vote(cast: Cast) -> dict:
        try:
            ballot.vote(cast.pair, cast.vote, again=cast.again)
        except KeyError as error:
            raise HTTPException(404, "there is no such pair; load the page again") from error
        return ballot.shown(ballot.next_place())

    return router
