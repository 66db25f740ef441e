"""Answers of the engine's thread as an asynchronous stream: of several at once, cancelled when nobody listens any more.

version = await pinned(batcher.registry, "first", pins)
answers = Answers(batcher, requests, pins)             # QueueFull where too many wait
async for index, event in answers: ...
answers.close()
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack

from ftkit.inference.batching.registry import Registry
from ftkit.inference.batching.request import Event, Request
from ftkit.inference.batching.version import Version


async def pinned(registry: Registry, name: str, pins: ExitStack) -> Version:
    """The version that a name points to, in memory until `pins` are closed. It may have to be read, which takes a
    thread; that goes on where the request ends meanwhile, and then lets go of the version at once."""

    def let_go(done: asyncio.Future) -> None:
        if not done.cancelled() and done.exception() is None:
            pins.close()

    entering = asyncio.ensure_future(asyncio.to_thread(pins.enter_context, registry.pinned(name)))
    try:
        return await asyncio.shield(entering)
    except asyncio.CancelledError:
        entering.add_done_callback(let_go)
        raise


class Answers:
    """Answers that are on their way. pins: what keeps their versions in memory, closed with them."""

    def __init__(self, batcher, requests: Sequence[Request], pins: ExitStack):
        self.pins, self.num_open, self.tickets = pins, len(requests), []
        self.events: asyncio.Queue[tuple[int, Event]] = asyncio.Queue()
        self.loop = asyncio.get_running_loop()
        try:
            for index, request in enumerate(requests):
                self.tickets.append(batcher.submit(request, self.listener(index)))
        except BaseException:
            self.close()
            raise

    def listener(self, index: int) -> Callable[[Event], None]:
        """What the engine calls from its thread; nobody may listen by then."""

        def listen(event: Event) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self.loop.call_soon_threadsafe(self.events.put_nowait, (index, event))

        return listen

    async def __aiter__(self) -> AsyncIterator[tuple[int, Event]]:
        """(place of the request, event), as they come, until all have ended."""
        while self.num_open:
            index, event = await self.events.get()
            self.num_open -= event.finish_reason is not None
            yield index, event

    def close(self) -> None:
        """Cancel what has not ended, and let go of the versions."""
        for ticket in self.tickets:
            ticket.cancel()
        self.pins.close()
