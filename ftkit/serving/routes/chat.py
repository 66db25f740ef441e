"""POST /v1/chat/completions: a conversation answered, at once or as it comes, in OpenAI's form."""

import json
import time
import uuid
from collections.abc import AsyncIterator

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import JSONResponse, StreamingResponse

from ftkit.inference.batching.request import Drawn, Event, UnknownModel
from ftkit.inference.batching.request import Request as Asked
from ftkit.inference.batching.version import Version
from ftkit.serving.answers import answers
from ftkit.serving.routes.models import no_model
from ftkit.serving.schema import ChatBody


def chat_routes(batcher) -> APIRouter:
    """The route of a batcher."""
    router = APIRouter()

    @router.post("/v1/chat/completions")
    async def chat(body: ChatBody, request: Request):
        pin = batcher.registry.pinned(body.model)
        try:
            version = pin.__enter__()
        except UnknownModel as error:
            raise HTTPException(404, no_model(body.model)) from error
        return await Chat(batcher, body, version, pin).response()

    return router


class Chat:
    """One request, with the version that answers it."""

    def __init__(self, batcher, body: ChatBody, version: Version, pin):
        self.batcher, self.body, self.version, self.pin = batcher, body, version, pin
        self.id, self.created = f"chatcmpl-{uuid.uuid4().hex}", int(time.time())
        self.prompt_ids = version.voice.render([message.plain() for message in body.messages])
        room = max(1, batcher.context - len(self.prompt_ids))
        self.limit = min(body.max_completion_tokens or body.max_tokens or room, room)

    async def response(self):
        """The answer, or its stream."""
        requests = [
            Asked(self.version, self.prompt_ids, self.body.drawing(self.limit, index, num_top=self.body.num_top))
            for index in range(self.body.n or 1)
        ]
        events = answers(self.batcher, requests)
        if self.body.stream:
            return StreamingResponse(self.stream(events), media_type="text/event-stream")
        texts, tokens, lasts = {}, {}, {}
        async for index, event in events:
            texts[index] = texts.get(index, "") + event.text
            tokens.setdefault(index, []).extend(event.tokens)
            if event.finish_reason:
                lasts[index] = event
        self.pin.__exit__(None, None, None)
        choices = [
            {
                "index": index, "message": {"role": "assistant", "content": texts[index]},
                "finish_reason": lasts[index].finish_reason, "logprobs": self.logprobs(tokens[index]),
            }
            for index in sorted(lasts)
        ]  # fmt: skip
        return JSONResponse(
            {**self.head("chat.completion"), "choices": choices, "usage": self.usage(sum(map(len, tokens.values())))}
        )

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

    async def stream(self, events: AsyncIterator[tuple[int, Event]]) -> AsyncIterator[str]:
        """Chunks as the client reads them."""
        num_tokens, has_usage = 0, self.body.stream_options is not None and self.body.stream_options.include_usage
        head = self.head("chat.completion.chunk") | ({"usage": None} if has_usage else {})

        def chunk(choices: list, **further) -> str:
            return f"data: {json.dumps({**head, 'choices': choices, **further}, ensure_ascii=False)}\n\n"

        try:
            for index in range(self.body.n or 1):
                delta = {"role": "assistant", "content": ""}
                yield chunk([{"index": index, "delta": delta, "logprobs": None, "finish_reason": None}])
            async for index, event in events:
                num_tokens += len(event.tokens)
                delta = {"content": event.text} if event.text else {}
                if delta or event.finish_reason or self.body.logprobs:
                    logprobs = self.logprobs(list(event.tokens))
                    yield chunk([{
                        "index": index, "delta": delta, "logprobs": logprobs, "finish_reason": event.finish_reason
                    }])  # fmt: skip
            if has_usage:
                yield chunk([], usage=self.usage(num_tokens))
            yield "data: [DONE]\n\n"
        finally:
            self.pin.__exit__(None, None, None)
