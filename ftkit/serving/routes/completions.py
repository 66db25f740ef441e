"""POST /v1/completions: texts continued, in OpenAI's older form; with echo also the log-probabilities of the prompt."""

import asyncio
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

from fastapi import APIRouter

from ftkit.config.errors import UserError
from ftkit.inference.batching.request import Drawn, Event, Request
from ftkit.inference.batching.version import Version
from ftkit.serving.answers import pinned
from ftkit.serving.asked import Asked, Grammars
from ftkit.serving.completion import Completion
from ftkit.serving.routes.tokens import check_ids, named
from ftkit.serving.schema import TextBody
from ftkit.serving.token_texts import num_letters, token_text

MAX_PROMPTS = 128
DEFAULT_TOKENS = 16  # as OpenAI has it


def completion_routes(batcher: Any) -> APIRouter:
    """The route of a batcher."""
    router, grammars = APIRouter(), Grammars()

    @router.post("/v1/completions")
    async def complete(body: TextBody):
        with ExitStack() as pins:
            version = await pinned(batcher.registry, named(batcher, body.model), pins)
            text = await asyncio.to_thread(Text, batcher, body, version, grammars)
            if body.echo and body.logprobs is not None:
                for ids in text.ids:
                    text.read.append(await asyncio.wrap_future(batcher.read(version, ids, body.logprobs)))
            return await text.response(pins)

    return router


class Text(Completion):
    """Texts that are to be continued. read: of each prompt its tokens with their log-probabilities, where asked for."""

    id_prefix, kind, chunk_kind = "cmpl", "text_completion", "text_completion"

    def __init__(self, batcher: Any, body: TextBody, version: Version, grammars: Grammars):
        super().__init__(batcher, body, version)
        asked = Asked.of(body.model_dump(exclude={"messages", "prompt"}), version, grammars)
        self.ids = prompts_of(body, version)
        asked_tokens = DEFAULT_TOKENS if body.max_tokens is None else body.max_tokens
        self.limits = [self.room(ids, asked_tokens) for ids in self.ids]
        self.constraints = [asked.constraint() for _ in range(len(self.ids) * (body.n or 1))]
        self.read: list[list[Drawn]] = []
        self.offsets = [0] * len(self.constraints)  # of the next token's text in its answer

    def prompts(self) -> Sequence[Sequence[int]]:
        """All of them."""
        return self.ids

    def requests(self) -> list[Request]:
        """n for each prompt, one prompt after another."""
        num = self.body.n or 1
        return [
            Request(
                self.version,
                self.ids[index // num],
                self.body.drawing(
                    self.limits[index // num], index % num, num_top=self.body.logprobs, constraint=constraint
                ),
                is_plain=True,
            )
            for index, constraint in enumerate(self.constraints)
        ]

    def choice(self, index: int, text: str, tokens: Sequence[Drawn], last: Event) -> dict:
        """A text, after its prompt where that is echoed."""
        before = self.echoed(index)
        found = {"index": index, "text": before + text, "logprobs": self.logprobs(index, tokens, is_first=True)}
        return found | self.ending(last) | self.token_ids(tokens) | self.own_prompt_ids(index)

    def opening(self, index: int) -> dict | None:
        """The prompt, where it is echoed, or its tokens were asked for."""
        if not (self.body.echo or self.body.return_token_ids):
            return None
        logprobs = self.logprobs(index, (), is_first=True)
        found = {"index": index, "text": self.echoed(index), "logprobs": logprobs, "finish_reason": None}
        return found | self.own_prompt_ids(index)

    def own_prompt_ids(self, index: int) -> dict:
        """The tokens of an answer's prompt, where they were asked for."""
        return {"prompt_token_ids": self.ids[index // (self.body.n or 1)]} if self.body.return_token_ids else {}

    def first_fields(self) -> dict:
        """Each choice has its own."""
        return {}

    def part(self, index: int, event: Event) -> dict | None:
        """What there is to show of an event."""
        wants_tokens = self.body.logprobs is not None or self.body.return_token_ids
        if not event.text and event.finish_reason is None and not (wants_tokens and event.tokens):
            return None
        found = {"index": index, "text": event.text, "logprobs": self.logprobs(index, event.tokens)}
        return found | self.ending(event) | self.token_ids(event.tokens)

    def echoed(self, index: int) -> str:
        """The text of the prompt, where it is echoed."""
        if not self.body.echo:
            return ""
        return self.version.voice.tokenizer.decode(self.ids[index // (self.body.n or 1)], skip_special_tokens=True)

    def logprobs(self, index: int, tokens: Sequence[Drawn], *, is_first: bool = False) -> dict | None:
        """Of tokens, where they were asked for, in the older form; with is_first also of a prompt that is echoed."""
        if self.body.logprobs is None:
            return None
        tokenizer, offsets = self.version.voice.tokenizer, []
        name = partial(token_text, tokenizer, by_id=bool(self.body.return_tokens_as_token_ids))
        if is_first and self.body.echo:
            tokens = [*self.read[index // (self.body.n or 1)], *tokens]
        for one in tokens:
            offsets.append(self.offsets[index])
            self.offsets[index] += num_letters(tokenizer, one.id)
        return {
            "tokens": [name(one.id) for one in tokens],
            "token_logprobs": [one.log_prob for one in tokens],
            "top_logprobs": [
                {name(one.id): one.log_prob} | {name(token): value for token, value in one.top}
                if one.log_prob is not None
                else None
                for one in tokens
            ],
            "text_offset": offsets,
        }


def prompts_of(body: TextBody, version: Version) -> list[list[int]]:
    """The token ids of each prompt: of a text, token ids, or an array of either. Raises UserError for what is none."""
    prompts: list = [body.prompt] if isinstance(body.prompt, str) or is_ids(body.prompt) else list(body.prompt)
    if not 0 < len(prompts) <= MAX_PROMPTS:
        raise UserError(f"prompt: give 1 to {MAX_PROMPTS} texts")
    tokenizer = version.voice.tokenizer
    found = [
        list(prompt) if is_ids(prompt) else tokenizer(prompt, add_special_tokens=body.add_special_tokens)["input_ids"]
        for prompt in prompts
    ]
    for ids in found:
        check_ids(ids, tokenizer)
        if not ids:
            raise UserError("prompt: is empty; give at least one token")
    return found


def is_ids(prompt: Any) -> bool:
    """Whether it is an array of token ids, and not of texts."""
    return isinstance(prompt, list) and all(isinstance(token, int) for token in prompt)
