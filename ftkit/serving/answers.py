"""Answers of the engine's thread as an asynchronous stream: of several at once, cancelled when nobody listens any more.

async for index, event in answers(batcher, requests): ...
"""

import asyncio
from collections.abc import AsyncIterator, Sequence

from ftkit.inference.batching.request import Event, Request


async def answers(batcher, requests: Sequence[Request]) -> AsyncIterator[tuple[int, Event]]:
    """(place of the request, event), as they come, until all have ended. Raises QueueFull where too many wait."""
    loop, events, tickets = asyncio.get_running_loop(), asyncio.Queue(), []

    def listener(index: int):
        return lambda event: loop.call_soon_threadsafe(events.put_nowait, (index, event))

    try:
        for index, request in enumerate(requests):
            tickets.append(batcher.submit(request, listener(index)))
        num_open = len(tickets)
        while num_open:
            index, event = await events.get()
            num_open -= event.finish_reason is not None
            yield index, event
    finally:
        for ticket in tickets:
            ticket.cancel()
