"""What a server asks of the engine that answers many at once, and what it gets back.

    with batcher.registry.pinned("first") as version:
        request = Request(version, version.voice.render(messages), Drawing(max_new_tokens=64, seed=1))
        ticket = batcher.submit(request, on_event)

Nothing here holds a model: the values are frozen, and may be passed between threads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from ftkit.inference.batching.version import Version


class QueueFull(Exception):
    """As many requests wait as may wait. The client should try again in a moment."""


class UnknownModel(KeyError):
    """No base or adapter has this name."""


class Constraint(Protocol):
    """What an answer must look like, followed token by token; one object for each answer."""

    def mask(self, logits_V: Tensor) -> None:
        """Set the logits of all tokens that may not come next to minus infinity, in place."""

    def accept(self, token: int) -> None:
        """Go on by a token that was drawn."""

    def is_complete(self) -> bool:
        """Whether the answer may end here, and nothing else may follow."""


@dataclass(frozen=True)
class Drawing:
    """How one answer is drawn; greedily at temperature 0.

    top_k: 0 draws from all. min_p: least probability of a token, as a share of the likeliest one's. repetition_penalty:
    of tokens in prompt and answer (Keskar et al. 2019, arXiv:1909.05858). presence_penalty, frequency_penalty: taken
    from the logit of each token that the answer holds, once, and for each time (OpenAI's definition). logit_bias: added
    to logits, by token. seed: of this answer alone; None draws anew each time. stop: texts that end an answer and are
    not part of it. stop_token_ids: tokens that do, beside the model's own. ignore_eos: go on after the model's own.
    min_tokens: before which nothing ends it. num_top: log-probabilities, of each token and of so many of the likeliest
    beside it; None for none. They are of the model's distribution, before any of these settings. constraint: made anew
    for each answer.
    """

    max_new_tokens: int = 256
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    seed: int | None = None
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    min_tokens: int = 0
    num_top: int | None = None
    constraint: Constraint | None = None


@dataclass(frozen=True)
class Request:
    """One answer that is asked for: of a version, after a prompt of token ids. is_plain: not rendered by the template,
    so that the template's end of turn does not end it. is_continued: the prompt ends within a message, so that white
    space around the answer belongs to it."""

    version: Version
    prompt_ids: Sequence[int]
    drawing: Drawing = field(default_factory=Drawing)
    is_plain: bool = False
    is_continued: bool = False


@dataclass(frozen=True)
class Drawn:
    """A token of an answer. log_prob: in nats. top: (token, log-probability) of the likeliest in its place."""

    id: int
    log_prob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Event:
    """What came since the event before.

    text: safe to be sent: no half of a character, no beginning of a stop string; it may lag behind the tokens. tokens:
    the end token is among them. finish_reason: of the last event alone: "stop", "length", "cancelled" or "error", the
    last with its `error`. stop: the text or the id of the token that ended it, None for the model's own end token.
    """

    text: str = ""
    tokens: tuple[Drawn, ...] = ()
    finish_reason: str | None = None
    stop: str | int | None = None
    error: str | None = None
    num_cached: int = 0  # tokens of the prompt that were not computed again; of the last event


class Ticket(Protocol):
    """A request that was taken."""

    def cancel(self) -> None:
        """End it, if it has not ended; its last event says "cancelled"."""


@dataclass(frozen=True)
class Limits:
    """What a server gives at most.

    num_slots: answers at once. max_waiting: beside them, before QueueFull. max_length: tokens of prompt and answer,
    None for the model's context. prefix_gib: of keys and values kept for prompts that begin alike. adapter_gib: of
    adapters in memory; the one that was not asked for longest makes room, and is read again when it is asked for.
    """

    num_slots: int = 16
    max_waiting: int = 64
    max_length: int | None = None
    prefix_gib: float = 0.5
    adapter_gib: float = 4.0
