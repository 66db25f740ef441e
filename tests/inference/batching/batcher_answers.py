"""One way to ask a batcher, and to wait for what it says."""

import queue

from ftkit.inference.batching.request import Drawing, Event, Request

SECONDS = 60  # that an answer may take


def events_of(batcher, name: str, prompt, **drawing) -> queue.SimpleQueue:
    """The events of one answer, as they come. prompt: text of a user, or token ids."""
    events = queue.SimpleQueue()
    with batcher.registry.pinned(name) as version:
        ids = version.voice.render([{"role": "user", "content": prompt}]) if isinstance(prompt, str) else prompt
        batcher.submit(Request(version, ids, Drawing(**drawing)), events.put)
    return events


def whole(events: queue.SimpleQueue) -> tuple[str, list[int], Event]:
    """(text, token ids, last event) of an answer."""
    text, ids = "", []
    while True:
        event = events.get(timeout=SECONDS)
        text, ids = text + event.text, ids + [drawn.id for drawn in event.tokens]
        if event.finish_reason is not None:
            return text, ids, event


def ask(batcher, name: str, prompt, **drawing) -> tuple[str, list[int], Event]:
    """One answer, waited for."""
    return whole(events_of(batcher, name, prompt, **drawing))
