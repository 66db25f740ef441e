"""Embeddings of texts, by the model of --embedding_model.

POST /v1/embeddings  {"model", "input": text | [text, ...] | [token, ...] | [[token, ...], ...], "encoding_format"}
"""

import base64
import struct
from collections.abc import Sequence
from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict

from ftkit.config.errors import UserError
from ftkit.inference.batching.request import UnknownModel
from ftkit.inference.sentences import SentenceModel
from ftkit.serving.routes.tokens import check_ids

MAX_INPUTS = 2048


class Embed(BaseModel):
    """What is embedded. dimensions: only all of them."""

    model_config = ConfigDict(extra="ignore")

    model: str | None = None
    input: Any
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None


def embedding_routes(model: SentenceModel | None) -> APIRouter:
    """The route of one encoder; None: refuses."""
    router = APIRouter()

    @router.post("/v1/embeddings")
    def embed(body: Embed) -> dict:
        if model is None:
            raise UserError("this server has no model for embeddings; start it with --embedding_model")
        if body.model not in (None, model.name):
            raise UnknownModel(body.model)
        vectors, num_tokens = embedded(model, body.input)
        if body.dimensions not in (None, len(vectors[0])):
            raise UserError(f"dimensions: {model.name} gives {len(vectors[0])}; leave it out")
        data = [
            {"object": "embedding", "index": index, "embedding": written(vector, body.encoding_format)}
            for index, vector in enumerate(vectors)
        ]
        usage = {"prompt_tokens": num_tokens, "total_tokens": num_tokens}
        return {"object": "list", "model": model.name, "data": data, "usage": usage}

    return router


def embedded(model: SentenceModel, given: Any) -> tuple[list[list[float]], int]:
    """The embeddings of an input of any of its forms, and the number of its tokens."""
    items = given if isinstance(given, list) else [given]
    if items and all(is_token(item) for item in items):
        items = [items]
    if not 0 < len(items) <= MAX_INPUTS:
        raise UserError(f"input: must be 1 to {MAX_INPUTS:,} texts")
    if all(isinstance(item, str) and item for item in items):
        return model.embed(items)
    if all(isinstance(item, list) and item and all(map(is_token, item)) for item in items):
        for ids in items:
            check_ids(ids, model.tokenizer)
            if len(ids) > model.max_length:
                raise UserError(f"input: has {len(ids)} tokens, {model.name} reads {model.max_length}; split it")
        return model.embed_ids(items), sum(map(len, items))
    raise UserError("input: must be a text, texts, token ids or arrays of token ids, none of them empty")


def is_token(value: Any) -> bool:
    """Whether a value may be a token id."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def written(vector: Sequence[float], encoding: str) -> list[float] | str:
    """A vector as it is sent; in base64, of little-endian float32, as OpenAI's client asks by default."""
    if encoding == "float":
        return list(vector)
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
