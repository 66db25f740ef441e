"""The log-probability of given continuations.

POST /v1/score  {"model", "prompt" | "messages", "continuations": [text, ...]}
answers {"data": [{"index", "log_prob", "num_tokens", "tokens", "log_probs"}, ...], "usage", ...}, in nats

After a prompt, tokens are those of lm-eval's rules (`ftkit bench` scores the same); after messages, the continuation
is how the assistant's answer begins.
"""

import asyncio
from contextlib import ExitStack
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from ftkit.config.errors import UserError
from ftkit.data.templates.templates import prepare_messages
from ftkit.inference.log_likelihood import Question, checked, encode_question
from ftkit.serving.answers import pinned
from ftkit.serving.asked import Asked, Grammars
from ftkit.serving.messages import plain_messages
from ftkit.serving.routes.tokens import named

MAX_CONTINUATIONS = 128
Continuation = Annotated[str, Field(min_length=1)]


class Score(BaseModel):
    """What is scored, after what."""

    model_config = ConfigDict(extra="ignore")

    model: str | None = None
    prompt: str | None = None
    messages: list[dict[str, Any]] | None = None
    continuations: Annotated[list[Continuation], Field(min_length=1, max_length=MAX_CONTINUATIONS)]
    chat_template_kwargs: dict[str, Any] = {}
    tools: list[dict[str, Any]] | None = None


def score_routes(batcher: Any) -> APIRouter:
    """The route of one engine."""
    router, grammars = APIRouter(), Grammars()

    @router.post("/v1/score")
    async def score(body: Score) -> dict:
        if (body.prompt is None) == (body.messages is None):
            raise UserError("give a prompt or messages, one of them")
        with ExitStack() as pins:
            version = await pinned(batcher.registry, named(batcher, body.model), pins)
            question = await asyncio.to_thread(question_of, body, version, grammars)
            if question.longest > batcher.context:
                raise UserError(f"prompt and continuation have more tokens than the context, {batcher.context:,}")
            scored = []
            for ids in question.continuations:  # one at a time, so that answers go on meanwhile
                scored += await asyncio.wrap_future(batcher.score(version, question.context, [ids]))
        data = [
            {"index": index, "log_prob": sum(values), "num_tokens": len(ids), "tokens": ids, "log_probs": values}
            for index, (ids, values) in enumerate(zip(question.continuations, scored, strict=True))
        ]
        num_tokens = len(question.context) + sum(map(len, question.continuations))
        usage = {"prompt_tokens": num_tokens, "completion_tokens": 0, "total_tokens": num_tokens}
        return {"object": "list", "model": version.name, "data": data, "usage": usage}

    return router


def question_of(body: Score, version: Any, grammars: Grammars) -> Question:
    """The token ids that are scored. Raises UserError for a continuation without tokens of its own."""
    voice = version.voice
    try:
        if body.prompt is not None:
            return encode_question(voice.tokenizer, body.prompt, body.continuations)
        asked = Asked.of(body.model_dump(include={"tools", "chat_template_kwargs"}), version, grammars)
        prompt = asked.prompt_ids(plain_messages(body.messages))
        answers = [{"role": "assistant", "content": text} for text in body.continuations]
        if voice.template:
            answers, _ = prepare_messages(answers, voice.tokenizer, voice.template)
        ids = [voice.tokenizer(answer["content"], add_special_tokens=False)["input_ids"] for answer in answers]
        return checked(Question(prompt, ids), body.continuations)
    except ValueError as error:
        raise UserError(str(error)) from error
