"""POST /v1/chat/completions: a conversation answered, at once or as it comes, in OpenAI's form."""

import asyncio
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

from fastapi import APIRouter

from ftkit.inference.batching.request import Drawn, Event, Request
from ftkit.inference.batching.version import Version
from ftkit.inference.retrieval.prompting import source_records
from ftkit.serving.answers import pinned
from ftkit.serving.asked import Asked, Grammars
from ftkit.serving.completion import Completion
from ftkit.serving.messages import plain_messages
from ftkit.serving.routes.tokens import named
from ftkit.serving.schema import ChatBody
from ftkit.serving.token_texts import token_entry

TOOL_CALLS = "tool_calls"


def chat_routes(batcher: Any, retriever: Any = None) -> APIRouter:
    """The route of a batcher. retriever: finds the passages to answer from."""
    router, grammars = APIRouter(), Grammars()

    @router.post("/v1/chat/completions")
    async def chat(body: ChatBody):
        with ExitStack() as pins:
            version = await pinned(batcher.registry, named(batcher, body.model), pins)
            talk = await asyncio.to_thread(Chat, batcher, body, version, grammars, retriever)
            return await talk.response(pins)

    return router


class Chat(Completion):
    """A conversation that is to be answered."""

    id_prefix, kind, chunk_kind = "chatcmpl", "chat.completion", "chat.completion.chunk"

    def __init__(
        self, batcher: Any, body: ChatBody, version: Version, grammars: Grammars, retriever: Any = None
    ):  # fmt: skip
        super().__init__(batcher, body, version)
        asked = Asked.of(body.model_dump(exclude={"messages", "prompt"}), version, grammars)
        messages = plain_messages(body.messages)
        self.sources: list[dict] | None = None
        if retriever:
            messages, found = retriever.sourced(messages)
            self.sources = source_records(found)
        self.echoed = messages[-1]["content"] if body.echo and messages[-1]["role"] == "assistant" else ""
        self.prompt_ids = asked.prompt_ids(
            messages, continue_final_message=body.continue_final_message,
            add_generation_prompt=body.add_generation_prompt and not body.continue_final_message,
        )  # fmt: skip
        self.limit = self.room(self.prompt_ids, body.max_completion_tokens or body.max_tokens)
        self.num_top = (body.top_logprobs or 0) if body.logprobs else None
        self.constraints = [asked.constraint() for _ in range(body.n or 1)]
        self.readers = [asked.reader() for _ in range(body.n or 1)]

    def prompts(self) -> Sequence[Sequence[int]]:
        """The one prompt."""
        return [self.prompt_ids]

    def first_fields(self) -> dict:
        """With the sources that it is answered from, where there is an index; clients pass over the field."""
        found = super().first_fields()
        return found if self.sources is None else {**found, "sources": self.sources}

    def requests(self) -> list[Request]:
        """One for each of n."""
        return [
            Request(
                self.version,
                self.prompt_ids,
                self.body.drawing(self.limit, index, num_top=self.num_top, constraint=constraint),
                is_continued=self.body.continue_final_message,
            )
            for index, constraint in enumerate(self.constraints)
        ]

    def choice(self, index: int, text: str, tokens: Sequence[Drawn], last: Event) -> dict:
        """A message, with what calls tools read out of it."""
        content, calls = self.read(index, text, is_last=True)
        content = self.echoed + content
        message: dict = {"role": "assistant", "content": content, "refusal": None}
        if calls:
            message |= {"content": content or None, TOOL_CALLS: [without_index(call) for call in calls]}
        found = {"index": index, "message": message, "logprobs": self.logprobs(tokens)}
        return found | self.ending_of(index, last) | self.token_ids(tokens)

    def opening(self, index: int) -> dict:
        """The role, and the message that is continued where it is echoed."""
        delta = {"role": "assistant", "content": self.echoed}
        return {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}

    def part(self, index: int, event: Event) -> dict | None:
        """What there is to show of an event."""
        content, calls = self.read(index, event.text, is_last=event.finish_reason is not None)
        delta: dict = {"content": content} if content else {}
        if calls:
            delta[TOOL_CALLS] = calls
        wants_tokens = self.body.logprobs or self.body.return_token_ids
        if not delta and event.finish_reason is None and not (wants_tokens and event.tokens):
            return None
        found = {"index": index, "delta": delta, "logprobs": self.logprobs(event.tokens)}
        return found | self.ending_of(index, event) | self.token_ids(event.tokens)

    def read(self, index: int, text: str, *, is_last: bool) -> tuple[str, list[dict]]:
        """(text to show, calls of tools) of some more of an answer."""
        reader = self.readers[index]
        if reader is None:
            return text, []
        shown, calls = reader.feed(text)
        if is_last:
            more, others = reader.close()
            return shown + more, calls + others
        return shown, calls

    def ending_of(self, index: int, event: Event) -> dict:
        """Why it ended: to call tools, where it does."""
        reader, found = self.readers[index], self.ending(event)
        if event.finish_reason == "stop" and reader is not None and reader.has_calls:
            found["finish_reason"] = TOOL_CALLS
        return found

    def logprobs(self, tokens: Sequence[Drawn]) -> dict | None:
        """Of tokens, where they were asked for."""
        if not self.body.logprobs:
            return None
        entry = partial(token_entry, self.version.voice.tokenizer, by_id=bool(self.body.return_tokens_as_token_ids))
        return {
            "content": [
                entry(one.id, one.log_prob) | {"top_logprobs": [entry(*pair) for pair in one.top]} for one in tokens
            ],
            "refusal": None,
        }


def without_index(call: dict) -> dict:
    """A call as it stands in a whole message."""
    return {name: value for name, value in call.items() if name != "index"}
