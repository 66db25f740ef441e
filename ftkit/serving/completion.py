"""A request for answers in OpenAI's form: asked of the engine, and written whole or as a stream.

`Chat` and `Text` (routes/chat.py, routes/completions.py) say what is their own.
"""

import json
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack
from typing import Any

from fastapi.responses import JSONResponse, StreamingResponse

from ftkit.config.errors import UserError
from ftkit.inference.batching.request import Drawn, Event, Request
from ftkit.inference.batching.version import Version
from ftkit.serving.answers import Answers
from ftkit.serving.refusals import Refused, error_body
from ftkit.serving.schema import Body

VERSION_HEADER = "x-ftkit-version"  # the digest of what has answered
SHOWN_DIGITS = 16
FAILURES = ("error", "cancelled")  # the second where the server ends
FAILED = "the engine could not go on with this answer; the server's log says why"


class EventStream(StreamingResponse):
    """A stream of server-sent events that lets go of its answers however it ends, even before it has begun."""

    def __init__(self, chunks: AsyncIterator[str], answers: Answers, headers: dict[str, str]):
        super().__init__(chunks, media_type="text/event-stream", headers=headers)
        self.answers = answers

    async def __call__(self, scope, receive, send) -> None:
        """Send it."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.answers.close()


class Completion(ABC):
    """One request. id_prefix, kind: of the object that clients get."""

    id_prefix = kind = chunk_kind = ""

    def __init__(self, batcher: Any, body: Body, version: Version):
        self.batcher, self.body, self.version = batcher, body, version
        self.id, self.created = f"{self.id_prefix}-{uuid.uuid4().hex}", int(time.time())
        self.num_cached = 0
        body.check_tokens(len(version.voice.tokenizer))

    @abstractmethod
    def requests(self) -> list[Request]:
        """What the engine is asked, in the order of the choices."""

    @abstractmethod
    def choice(self, index: int, text: str, tokens: Sequence[Drawn], last: Event) -> dict:
        """A whole answer."""

    @abstractmethod
    def opening(self, index: int) -> dict | None:
        """The first part of an answer that streams, before the model has written anything."""

    @abstractmethod
    def part(self, index: int, event: Event) -> dict | None:
        """A further part; None where nothing can be shown yet."""

    @abstractmethod
    def prompts(self) -> Sequence[Sequence[int]]:
        """Token ids of each prompt."""

    async def response(self, pins: ExitStack):
        """The answers, whole or as a stream. pins: see Answers, which takes them over."""
        headers = {VERSION_HEADER: self.version.digest, "x-request-id": self.id}
        requests, limits = self.requests(), self.batcher.limits
        if len(requests) > limits.num_slots + limits.max_waiting:
            raise UserError(f"n: {len(requests)} answers are more than this server takes at once; ask for fewer")
        answers = Answers(self.batcher, requests, pins.pop_all())
        if self.body.stream:
            return EventStream(self.chunks(answers), answers, headers)
        try:
            return await self.whole(answers, headers)
        finally:
            answers.close()

    async def whole(self, answers: Answers, headers: dict[str, str]) -> JSONResponse:
        """All answers at once."""
        num = len(answers.tickets)
        texts, tokens, lasts = [""] * num, [[] for _ in range(num)], [Event()] * num
        async for index, event in answers:
            texts[index] += event.text
            tokens[index] += event.tokens
            if event.finish_reason is not None:
                lasts[index] = event
                self.count_cached(index, event)
        if any(last.finish_reason in FAILURES for last in lasts):
            return JSONResponse(error_body(FAILED, "server_error"), 500)
        choices = [self.choice(index, texts[index], tokens[index], lasts[index]) for index in range(num)]
        found = {**self.head(self.kind), "choices": choices, "usage": self.usage(sum(map(len, tokens)))}
        found |= self.first_fields()
        return JSONResponse(found, headers=headers)

    async def chunks(self, answers: Answers) -> AsyncIterator[str]:
        """The answers as they come, each chunk as the client reads it."""
        options = self.body.stream_options
        has_usage, num_tokens = options is not None and options.include_usage, 0
        head = self.head(self.chunk_kind) | ({"usage": None} if has_usage else {})
        for index in range(len(answers.tickets)):
            if (part := self.opening(index)) is not None:
                yield sse({**head, **self.first_fields(), "choices": [part]})
        async for index, event in answers:
            num_tokens += len(event.tokens)
            self.count_cached(index, event)
            if event.finish_reason in FAILURES:
                yield sse(error_body(FAILED, "server_error"))
                return
            if (part := self.part(index, event)) is not None:
                yield sse({**head, "choices": [part]})
        if has_usage:
            yield sse({**head, "choices": [], "usage": self.usage(num_tokens)})
        yield "data: [DONE]\n\n"

    def head(self, kind: str) -> dict:
        """What all parts of an answer have in common; the fingerprint is the beginning of the version's digest."""
        return {
            "id": self.id, "object": kind, "created": self.created, "model": self.version.name,
            "system_fingerprint": self.version.digest[:SHOWN_DIGITS],
        }  # fmt: skip

    def count_cached(self, index: int, event: Event) -> None:
        """Count the tokens of a prompt that were kept from others; not those that its own other answers kept."""
        if index % (self.body.n or 1) == 0:
            self.num_cached += event.num_cached

    def usage(self, num_tokens: int) -> dict:
        """Tokens of prompts and answers, as they are paid for elsewhere: a prompt once, however many answers."""
        num = sum(map(len, self.prompts()))
        return {
            "prompt_tokens": num, "completion_tokens": num_tokens, "total_tokens": num + num_tokens,
            "prompt_tokens_details": {"cached_tokens": self.num_cached},
        }  # fmt: skip

    def ending(self, event: Event) -> dict:
        """Why an answer ended, with vLLM's field for what stopped it."""
        found = {"finish_reason": event.finish_reason}
        return found if event.stop is None else {**found, "stop_reason": event.stop}

    def token_ids(self, tokens: Sequence[Drawn]) -> dict:
        """The tokens of an answer, where they were asked for."""
        return {"token_ids": [one.id for one in tokens]} if self.body.return_token_ids else {}

    def first_fields(self) -> dict:
        """Those of a request with one prompt, where they were asked for."""
        return {"prompt_token_ids": list(self.prompts()[0])} if self.body.return_token_ids else {}

    def room(self, prompt: Sequence[int], asked: int | None) -> int:
        """Tokens that an answer may have. Raises Refused, in the words that clients look for, for a prompt that leaves
        none."""
        context = self.batcher.context
        if len(prompt) >= context:
            raise Refused(
                400, f"This model's maximum context length is {context} tokens, and the prompt has {len(prompt)}; "
                "shorten it.", "context_length_exceeded",
            )  # fmt: skip
        room = context - len(prompt)
        return room if asked is None else min(asked, room)


def sse(value: dict) -> str:
    """A server-sent event."""
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"
