"""POST /v1/chat/completions: a conversation answered, at once or as it comes, in OpenAI's form."""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import ExitStack
from typing import Any

from fastapi import APIRouter, HTTPException
from fastapi.responses import JSONResponse, StreamingResponse

from ftkit.config.errors import UserError
from ftkit.inference.batching.request import Drawn, Event
from ftkit.inference.batching.request import Request as EngineRequest
from ftkit.inference.batching.version import Version
from ftkit.serving.answers import Answers
from ftkit.serving.asked import Asked, Grammars
from ftkit.serving.messages import plain_messages
from ftkit.serving.refusals import error_body
from ftkit.serving.schema import ChatBody

FAILED = "the engine could not go on with this answer; the server's log says why"


def chat_routes(batcher) -> APIRouter:
    """The route of a batcher."""
    router, grammars = APIRouter(), Grammars()

    @router.post("/v1/chat/completions")
    async def chat(body: ChatBody):
        with ExitStack() as held:  # the version, and the answers on their way
            version = held.enter_context(batcher.registry.pinned(body.model))
            one = await asyncio.to_thread(Chat, batcher, body, version, grammars)
            answers = Answers(batcher, one.requests)
            held.callback(answers.cancel)
            if body.stream:
                return HeldStream(one.stream(answers), held.pop_all())
            return JSONResponse(await one.whole(answers))

    return router


class HeldStream(StreamingResponse):
    """Server-sent events, which let go of what they hold however they end."""

    def __init__(self, parts: AsyncIterator[str], held: ExitStack):
        super().__init__(parts, media_type="text/event-stream")
        self.held = held

    async def __call__(self, scope, receive, send) -> None:
        """Send them."""
        with self.held:
            await super().__call__(scope, receive, send)


class Chat:
    """One request, with the version that answers it. Raises UserError for what can't be honoured."""

    def __init__(self, batcher, body: ChatBody, version: Version, grammars: Grammars):
        self.body, self.version = body, version
        self.id, self.created = f"chatcmpl-{uuid.uuid4().hex}", int(time.time())
        body.check_tokens(len(version.voice.tokenizer))
        self.asked = Asked.of(body.model_extra or {}, version, grammars)
        self.prompt_ids = self.asked.prompt_ids(plain_messages(body.messages))
        room = batcher.context - len(self.prompt_ids)
        if room < 1:
            raise UserError(f"messages: {len(self.prompt_ids)} tokens; the context of {batcher.context} leaves no room")
        limit = min(body.max_completion_tokens or body.max_tokens or room, room)
        self.requests = [self.request(index, limit) for index in range(body.n or 1)]
        self.readers = [self.asked.reader() for _ in self.requests]

    def request(self, index: int, limit: int) -> EngineRequest:
        """What is asked of the engine for the answer with this number."""
        further = {"num_top": self.body.num_top, "constraint": self.asked.constraint()}
        return EngineRequest(self.version, self.prompt_ids, self.body.drawing(limit, index, **further))

    def read(self, index: int, event: Event) -> dict[str, Any]:
        """{"content", "tool_calls"} that an event brings, as far as it does."""
        reader = self.readers[index]
        if reader is None:
            return {"content": event.text} if event.text else {}
        text, calls = reader.feed(event.text)
        if event.finish_reason is not None:
            rest, more = reader.close()
            text, calls = text + rest, calls + more
        return ({"content": text} if text else {}) | ({"tool_calls": calls} if calls else {})

    def finish_reason(self, index: int, event: Event) -> str | None:
        """How an event ends its answer, in OpenAI's words."""
        reader = self.readers[index]
        if event.finish_reason == "stop" and reader is not None and reader.has_calls:
            return "tool_calls"
        return event.finish_reason

    async def whole(self, answers: Answers) -> dict:
        """The answers at once. Raises HTTPException where the engine failed."""
        choices = [
            {"index": index, "message": {"role": "assistant", "content": None}, "logprobs": None, "finish_reason": None}
            for index in range(len(self.requests))
        ]
        tokens: list[list[Drawn]] = [[] for _ in choices]
        async for index, event in answers:
            check_event(event)
            message, read = choices[index]["message"], self.read(index, event)
            if "content" in read:
                message["content"] = (message["content"] or "") + read["content"]
            for call in read.get("tool_calls", ()):
                message.setdefault("tool_calls", []).append({name: call[name] for name in ("id", "type", "function")})
            tokens[index] += event.tokens
            choices[index]["finish_reason"] = self.finish_reason(index, event)
        for choice, drawn in zip(choices, tokens, strict=True):
            choice["logprobs"] = self.logprobs(drawn)
            if "tool_calls" not in choice["message"]:
                choice["message"]["content"] = choice["message"]["content"] or ""
        usage = self.usage(sum(map(len, tokens)))
        return {**self.head("chat.completion"), "choices": choices, "usage": usage}

    def head(self, kind: str) -> dict:
        """What all parts of an answer have in common."""
        return {
            "id": self.id, "object": kind, "created": self.created, "model": self.body.model,
            "system_fingerprint": self.version.digest[:16],
        }  # fmt: skip

    def usage(self, num_tokens: int) -> dict:
        """Tokens of prompt and answers."""
        num = len(self.prompt_ids)
        return {"prompt_tokens": num, "completion_tokens": num_tokens, "total_tokens": num + num_tokens}

    def logprobs(self, tokens: list[Drawn]) -> dict | None:
        """Of tokens, where they were asked for."""
        if not self.body.logprobs:
            return None

        def entry(token: int, value: float) -> dict:
            text = self.version.voice.tokenizer.decode([token])
            return {"token": text, "logprob": value, "bytes": list(text.encode())}

        return {
            "content": [
                entry(one.id, one.log_prob) | {"top_logprobs": [entry(*pair) for pair in one.top]} for one in tokens
            ]
        }

    async def stream(self, answers: Answers) -> AsyncIterator[str]:
        """Chunks as the client reads them."""
        num_tokens, has_usage = 0, self.body.stream_options is not None and self.body.stream_options.include_usage
        head = self.head("chat.completion.chunk") | ({"usage": None} if has_usage else {})

        def chunk(choices: list, **further) -> str:
            return f"data: {json.dumps({**head, 'choices': choices, **further}, ensure_ascii=False)}\n\n"

        for index in range(len(self.requests)):
            delta = {"role": "assistant", "content": ""}
            yield chunk([{"index": index, "delta": delta, "logprobs": None, "finish_reason": None}])
        async for index, event in answers:
            try:
                check_event(event)
            except HTTPException as error:
                yield f"data: {json.dumps(error_body(error.detail, 'server_error'))}\n\n"
                return
            num_tokens += len(event.tokens)
            delta, reason = self.read(index, event), self.finish_reason(index, event)
            if delta or reason or self.body.logprobs:
                logprobs = self.logprobs(list(event.tokens))
                yield chunk([{"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason}])
        if has_usage:
            yield chunk([], usage=self.usage(num_tokens))
        yield "data: [DONE]\n\n"


def check_event(event: Event) -> None:
    """Raise HTTPException for an answer that the engine did not finish."""
    if event.finish_reason in ("error", "cancelled"):
        raise HTTPException(500, FAILED)
