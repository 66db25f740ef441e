"""A batcher asked as a server asks it: answers with their log-probabilities, and one answer held against another."""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field

from ftkit.inference.batching.request import Drawing, Drawn, Event, Request

SECONDS = 120  # that an answer may take
LOGITS = 5e-5  # that float32 moves by with the shape of a batch
NEAR = 1e-4  # log-probabilities that rounding may turn round
NUM_TOP = 5


@dataclass
class Answered:
    """An answer. digest: of the version that it was asked of."""

    digest: str
    text: str = ""
    tokens: list[Drawn] = field(default_factory=list)
    reason: str | None = None
    num_cached: int = 0

    @property
    def ids(self) -> list[int]:
        """Of its tokens."""
        return [token.id for token in self.tokens]


def ask(batcher, version, messages: list[dict], **drawing) -> Future:
    """A Future of 12 tokens of an answer to a conversation, greedily unless `drawing` says otherwise."""
    found, future = Answered(version.digest), Future()

    def on_event(event: Event) -> None:
        found.text += event.text
        found.tokens += event.tokens
        if event.finish_reason is not None:
            found.reason, found.num_cached = event.finish_reason, event.num_cached
            future.set_result(found)

    asked = Drawing(**{"max_new_tokens": 12, "ignore_eos": True, "num_top": NUM_TOP, **drawing})
    batcher.submit(Request(version, version.voice.render(messages), asked), on_event)
    return future


def answer(batcher, name: str, messages: list[dict], **drawing) -> Answered:
    """The answer under a name."""
    with batcher.registry.pinned(name) as version:
        return ask(batcher, version, messages, **drawing).result(SECONDS)


@contextmanager
def held(batcher) -> Iterator[None]:
    """Inside, the engine waits, so that what is asked meanwhile begins together."""
    go_on = threading.Event()
    batcher.do(lambda: go_on.wait(SECONDS))
    try:
        yield
    finally:
        go_on.set()


def is_near_tie(alone: Answered, found: Answered) -> bool:
    """Whether two answers part where the first one's two likeliest tokens lie within NEAR.

    Raises AssertionError for answers that part elsewhere, or whose log-probabilities differ before.
    """
    for one, other in zip(alone.tokens, found.tokens, strict=False):
        if one.id != other.id:
            (_, first), (_, second), *_ = one.top
            assert first - second <= NEAR, f"{alone.text!r} is answered as {found.text!r}"
            return True
        assert abs(one.log_prob - other.log_prob) <= LOGITS
        for (_, first), (_, second) in zip(one.top, other.top, strict=True):
            assert abs(first - second) <= LOGITS
    assert (alone.ids, alone.text, alone.reason) == (found.ids, found.text, found.reason)
    return False


def num_near_ties(alone: Sequence[Answered], found: Sequence[Answered]) -> int:
    """How many of the answers differ from those alone, for no reason but rounding."""
    return sum(is_near_tie(*pair) for pair in zip(alone, found, strict=True))
