"""Text to tokens and back, in vLLM's form.

POST /tokenize    {"model", "prompt" | "messages", ...}; answers count, max_model_len, tokens and token_strs
POST /detokenize  {"model", "tokens"}; answers the text
"""

from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from ftkit.config.errors import UserError
from ftkit.serving.asked import Asked, Grammars
from ftkit.serving.messages import plain_messages

MAX_TOKENS = 2**18  # of one request
TokenId = Annotated[int, Field(ge=0, strict=True)]


class Tokenize(BaseModel):
    """What is to be tokenized: a text as it is, or a conversation by the model's template."""

    model_config = ConfigDict(extra="ignore")

    model: str | None = None
    prompt: str | None = None
    messages: list[dict[str, Any]] | None = None
    add_special_tokens: bool | None = None  # as the model would be asked: with them for a text, without for messages
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    return_token_strs: bool = False
    chat_template_kwargs: dict[str, Any] = {}
    tools: list[dict[str, Any]] | None = None


class Detokenize(BaseModel):
    """Tokens that are to be text."""

    model_config = ConfigDict(extra="ignore")

    model: str | None = None
    tokens: Annotated[list[TokenId], Field(max_length=MAX_TOKENS)]


def token_routes(batcher: Any) -> APIRouter:
    """The routes of one engine."""
    router, grammars = APIRouter(), Grammars()

    @router.post("/tokenize")
    def tokenize(body: Tokenize) -> dict:
        if (body.prompt is None) == (body.messages is None):
            raise UserError("give a prompt or messages, one of them")
        with batcher.registry.pinned(named(batcher, body.model)) as version:
            tokenizer = version.voice.tokenizer
            if body.prompt is not None:
                ids = tokenizer(body.prompt, add_special_tokens=body.add_special_tokens is not False)["input_ids"]
            else:
                asked = Asked.of(body.model_dump(include={"tools", "chat_template_kwargs"}), version, grammars)
                ids = asked.prompt_ids(
                    plain_messages(body.messages),
                    add_generation_prompt=body.add_generation_prompt and not body.continue_final_message,
                    continue_final_message=body.continue_final_message,
                )
            texts = tokenizer.convert_ids_to_tokens(ids) if body.return_token_strs else None
        return {"count": len(ids), "max_model_len": batcher.context, "tokens": ids, "token_strs": texts}

    @router.post("/detokenize")
    def detokenize(body: Detokenize) -> dict:
        with batcher.registry.pinned(named(batcher, body.model)) as version:
            tokenizer = version.voice.tokenizer
            check_ids(body.tokens, tokenizer)
            return {"prompt": tokenizer.decode(body.tokens)}

    return router


def named(batcher: Any, model: str | None) -> str:
    """The name of the model that a request is for: the first one where it names none."""
    return batcher.registry.names()[0] if model is None else model


def check_ids(ids: list[int], tokenizer: Any) -> None:
    """Raise UserError for a token that the vocabulary does not have."""
    if beyond := [token for token in ids if not 0 <= token < len(tokenizer)]:
        raise UserError(f"tokens: {beyond[0]} is none; the vocabulary has tokens 0 to {len(tokenizer) - 1}")
