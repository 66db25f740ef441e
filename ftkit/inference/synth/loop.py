"""The loop of synthesis: items are asked for together, their drafts filtered, and what is left becomes rows.

    made = synthesize(item, material, askers, filters, number=100, batch_size=8, keep=write)

All of it follows from the material, the seed and the replies: a run that was killed is played again from its journal,
and goes on where the journal ends.
"""

import dataclasses
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ftkit.inference.completion import Reply
from ftkit.inference.judging import Answered, parse_score, score_prompt
from ftkit.inference.synth.asker import Asker, Request
from ftkit.inference.synth.filters import Sieve
from ftkit.inference.synth.held_out import HeldOut
from ftkit.inference.synth.items import JUDGE, Ask, Draft, Dropped, Item, Material, stable_seed, user
from ftkit.inference.synth.kinds import MakeItem

MAX_BARREN = 200  # items in a row without a row: no more will come
NOT_WHOLE = {"length": "cut off at the limit of tokens", "content_filter": "held back by the server's filter"}
HELD_OUT = "a paraphrase of a held-out question"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Filters:
    """sieve: rules and duplicates. judge_minimum: score from 0 to 100 that the judge must give; None asks no judge."""

    sieve: Sieve
    held_out: HeldOut
    judge_minimum: int | None = None


@dataclass
class Made:
    """What came of it. dropped: items without a row, by reason. is_barren: it ended since no more rows came."""

    num_items: int = 0
    drafts: list[Draft] = field(default_factory=list)
    dropped: Counter = field(default_factory=Counter)
    is_barren: bool = False


@dataclass(frozen=True)
class Kept:
    """A row that is kept, with its item's number and origin, and the judge's score."""

    draft: Draft
    number: int
    origin: dict[str, Any]
    score: int | None = None


@dataclass(frozen=True)
class Lost:
    """An item that gave no row: why, and the text that shows it."""

    number: int
    reason: str
    text: str = ""


def synthesize(
    make_item: MakeItem,
    material: Material,
    askers: Mapping[str, Asker],
    filters: Filters,
    *,
    number: int,
    batch_size: int,
    write: Callable[[Kept | Lost], None],
) -> Made:
    """Make rows until there are `number`, or MAX_BARREN items in a row gave none. write: takes each outcome, in order.

    Raises GivenUp where a server can't be used any more; the same call with the same journal goes on.
    """
    made, barren = Made(), 0
    while len(made.drafts) < number and not made.is_barren:
        numbers = range(made.num_items, made.num_items + batch_size)
        items = [make_item(one, material, made.drafts) for one in numbers]
        found = outcomes(items, made.num_items, askers, material.seed)
        judged = judge_those_left(sifted(found, filters), items, askers, filters.judge_minimum)
        for one in judged:
            if isinstance(one, Kept) and len(made.drafts) == number:
                break
            made.num_items += 1
            write(one)
            if isinstance(one, Kept):
                made.drafts.append(one.draft)
                filters.sieve.add(one.draft)
                barren = 0
            else:
                made.dropped[one.reason] += 1
                barren += 1
        made.is_barren = barren >= MAX_BARREN
    return made


def outcomes(items: Sequence[Item], start: int, askers: Mapping[str, Asker], seed: int) -> list[Kept | Lost]:
    """What each item comes to. In each turn all that the items ask is asked together."""
    found: dict[int, Kept | Lost] = {}
    waiting: dict[int, Ask] = {}

    def move(place: int, replies: list[str] | None) -> None:
        """Let an item take its replies and ask further, or end."""
        steps = items[place].steps
        try:
            waiting[place] = next(steps) if replies is None else steps.send(replies)
        except StopIteration as end:
            found[place] = Kept(end.value, start + place, items[place].origin)
        except Dropped as dropped:
            found[place] = Lost(start + place, dropped.reason, dropped.text)

    for place in range(len(items)):
        move(place, None)
    turn = 0
    while waiting:
        asked, turn = dict(waiting), turn + 1
        waiting.clear()
        for place, replies in asked_together(asked, start, askers, seed, turn).items():
            texts, failure = usable(replies, asked[place])
            if texts:
                move(place, texts)
            else:
                found[place] = Lost(start + place, failure, replies[0].text)
    return [found[place] for place in range(len(items))]


def asked_together(
    asked: Mapping[int, Ask], start: int, askers: Mapping[str, Asker], seed: int, turn: int
) -> dict[int, list[Reply]]:
    """The replies to what items ask, those of one model and drawn in one way in one batch."""
    found: dict[int, list[Reply]] = {}
    for who, way in dict.fromkeys((ask.who, ask.way) for ask in asked.values()):
        places = [place for place, ask in asked.items() if (ask.who, ask.way) == (who, way)]
        requests = [
            Request(turns, 0 if who == JUDGE else stable_seed(seed, start + place, turn, sample))
            for place in places
            for sample, turns in enumerate(asked[place].conversations)
        ]
        replies = iter(askers[who].ask(requests, way))
        for place in places:
            found[place] = [next(replies) for _ in asked[place].conversations]
    return dict(sorted(found.items()))


def usable(replies: Sequence[Reply], ask: Ask) -> tuple[list[str], str]:
    """The texts that an item may use, and why there is none where there is none."""
    texts, failures = [], []
    for reply in replies:
        failure = reply.failure or ("" if ask.may_be_cut else NOT_WHOLE.get(reply.finish_reason, ""))
        if failure:
            failures.append(failure)
        else:
            texts.append(reply.text)
    return texts, failures[0] if failures else ""


def sifted(found: Sequence[Kept | Lost], filters: Filters) -> list[Kept | Lost]:
    """The outcomes, with drafts that the filters refuse as lost. Of two that are alike in a batch the first is kept."""
    left: list[Kept | Lost] = []
    for one in found:
        beside = [other.draft for other in left if isinstance(other, Kept)]
        left.append(refused(one, beside, filters) or one if isinstance(one, Kept) else one)
    return left


def refused(one: Kept, beside: Sequence[Draft], filters: Filters) -> Lost | None:
    """A draft as lost, where a filter refuses it. beside: drafts of the same batch that come before it."""
    draft = one.draft
    if reason := filters.sieve.reason(draft, beside):
        return Lost(one.number, reason, shown(draft))
    source = filters.held_out.found(draft.question, draft.answer, is_new=draft.is_new)
    return Lost(one.number, HELD_OUT, f"{draft.question} ({source})") if source else None


def judge_those_left(
    found: Sequence[Kept | Lost], items: Sequence[Item], askers: Mapping[str, Asker], minimum: int | None
) -> list[Kept | Lost]:
    """The outcomes, with drafts whose answer the judge finds too bad as lost."""
    left = [one for one in found if isinstance(one, Kept)]
    if minimum is None or not left:
        return list(found)
    answered = [Answered(one.draft.question, one.draft.answer, one.draft.reference) for one in left]
    asked = [user(score_prompt(one)) for one in answered]
    replies = iter(askers[JUDGE].ask([Request(turns, 0) for turns in asked]))
    return [judged(one, next(replies), minimum) if isinstance(one, Kept) else one for one in found]


def judged(one: Kept, reply: Reply, minimum: int) -> Kept | Lost:
    """A draft with its score, or lost."""
    score = None if reply.failure else parse_score(reply.text)
    if score is None:
        return Lost(one.number, reply.failure or "the judge's reply is no score", reply.text)
    if score < minimum:
        return Lost(one.number, f"the judge gave less than {minimum} points", shown(one.draft))
    return dataclasses.replace(one, score=score)


def shown(draft: Draft) -> str:
    """A draft as text."""
    return f"{draft.question}\n{draft.answer}"
