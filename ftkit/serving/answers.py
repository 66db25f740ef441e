"""Answers of the engine's thread as an asynchronous stream: of several at once, cancelled when nobody listens any more.

answers = Answers(batcher, requests)
async for index, event in answers: ...      # answers.cancel() in the end
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

from ftkit.inference.batching.request import Event, Request


class Answers:
    """Answers on their way. Raises QueueFull, before anything is sent, where too many wait."""

    def __init__(self, batcher: Any, requests: Sequence[Request]):
        self.loop, self.events, self.tickets = asyncio.get_running_loop(), asyncio.Queue(), []
        try:
            for index, request in enumerate(requests):
                self.tickets.append(batcher.submit(request, self.listener(index)))
        except BaseException:
            self.cancel()
            raise

    def listener(self, index: int):
        """What takes the events of one answer, on the engine's thread."""
        return lambda event: self.loop.call_soon_threadsafe(self.events.put_nowait, (index, event))

    def cancel(self) -> None:
        """End what has not ended."""
        for ticket in self.tickets:
            ticket.cancel()

    async def __aiter__(self) -> AsyncIterator[tuple[int, Event]]:
        """(place of the request, event), as they come, until all have ended."""
        num_open = len(self.tickets)
        while num_open:
            index, event = await self.events.get()
            num_open -= event.finish_reason is not None
            yield index, event
