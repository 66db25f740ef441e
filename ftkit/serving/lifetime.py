"""Ends a request whose client has gone, or whose time is up: its task is cancelled, and with it what it asked for.

app.add_middleware(Lifetime, seconds=600)
"""

import asyncio
import contextlib
import json

from ftkit.serving.refusals import Message, Receive, Refused, Send, answer, error_body

STREAM = b"text/event-stream"


class Lifetime:
    """An ASGI app around another one, each of whose requests is a task. seconds: for a whole answer."""

    def __init__(self, app, *, seconds: float):
        self.app, self.seconds = app, seconds

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request, or end it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        messages = [await receive()]
        while messages[-1].get("more_body", False):
            messages.append(await receive())
        sent: list[Message] = []  # the start of the answer, and its end
        gone = asyncio.Event()

        async def send_noted(message: Message) -> None:
            if message["type"] == "http.response.start" or not message.get("more_body", False):
                sent.append(message)
            await send(message)

        async def receive_body() -> Message:
            if messages:
                return messages.pop(0)
            await gone.wait()
            return {"type": "http.disconnect"}

        async def watch() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            gone.set()

        work, watcher = (asyncio.ensure_future(one) for one in (self.app(scope, receive_body, send_noted), watch()))
        try:
            await asyncio.wait({work, watcher}, timeout=self.seconds, return_when=asyncio.FIRST_COMPLETED)
            if len(sent) > 1:  # all is said; what is left to do may be done
                await work
        finally:
            is_late = not work.done() and not gone.is_set()
            await cancelled(watcher)
            await cancelled(work)
        if is_late:
            await self.say_late(send, sent)

    async def say_late(self, send: Send, sent: list[Message]) -> None:
        """Tell the client that its time is up, in the form that the answer has by now."""
        late = f"the answer took more than {self.seconds:g} seconds; ask for fewer tokens"
        if not sent:
            await answer(send, Refused(408, late, "timeout", {"x-should-retry": "false"}))
            return
        is_stream = any(STREAM in value for name, value in sent[0].get("headers", ()) if name == b"content-type")
        body = (
            f"data: {json.dumps(error_body(late, 'server_error', code='timeout'))}\n\n".encode() if is_stream else b""
        )
        await send({"type": "http.response.body", "body": body})


async def cancelled(task: asyncio.Future) -> None:
    """Cancel a task, and wait until it has ended. Raises what it failed with."""
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
