"""What OpenAI's clients send: the fields that are honoured, those that change nothing here, and what is refused.

A field that would change the answer and is not honoured is a mistake of the request, never passed over.
"""

import logging
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ftkit.config.errors import UserError
from ftkit.inference.batching.request import Drawing

logger = logging.getLogger(__name__)

MOST_TOKENS = 2**31 - 1


class StreamOptions(BaseModel):
    """Of a stream."""

    include_usage: bool = False


class Body(BaseModel):
    """What chat and text completions have in common. Fields that nobody knows are named in the log, and ignored."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())
    # Whatever these say, the answer is the same.
    IGNORED: ClassVar = frozenset({
        "user", "metadata", "store", "reasoning_effort", "verbosity", "prompt_cache_key", "service_tier",
        "safety_identifier", "prompt_cache_retention",
    })  # fmt: skip
    FORMS: ClassVar = frozenset({  # read by `asked.Asked`
        "response_format", "tools", "tool_choice", "parallel_tool_calls", "structured_outputs", "guided_json",
        "guided_regex", "guided_choice", "chat_template_kwargs", "functions", "function_call", "chat_template",
        "guided_grammar", "documents",
    })  # fmt: skip

    model: str
    max_tokens: int | None = Field(None, ge=1, le=MOST_TOKENS)
    temperature: float | None = Field(None, ge=0, le=100, allow_inf_nan=False)
    top_p: float | None = Field(None, gt=0, le=1)
    top_k: int | None = Field(None, ge=-1, le=MOST_TOKENS)
    min_p: float | None = Field(None, ge=0, le=1)
    n: int | None = Field(None, ge=1, le=128)
    stop: str | list[str] | None = None
    stop_token_ids: list[int] | None = Field(None, max_length=64)
    seed: int | None = Field(None, ge=-(2**63), lt=2**64)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    repetition_penalty: float | None = Field(None, gt=0, le=100)
    logit_bias: dict[int, Annotated[float, Field(ge=-100, le=100)]] | None = Field(None, max_length=1024)
    min_tokens: int | None = Field(None, ge=0, le=MOST_TOKENS)
    ignore_eos: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    return_token_ids: bool | None = None

    @model_validator(mode="after")
    def check_stops(self):
        """At most four stop strings, none empty, as OpenAI has it."""
        stops = self.stops
        if len(stops) > 4 or not all(stops) or any(len(stop) > 1000 for stop in stops):
            raise ValueError("stop: give at most 4 texts of 1 to 1,000 characters")
        return self

    @property
    def stops(self) -> tuple[str, ...]:
        """Texts that end an answer."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    @property
    def unknown(self) -> list[str]:
        """Fields that nobody knows."""
        return sorted(set(self.model_extra or {}) - self.IGNORED - self.FORMS)

    def check_tokens(self, num_tokens: int) -> None:
        """Raise UserError for a token that a vocabulary of this size does not have."""
        for name, ids in (("stop_token_ids", self.stop_token_ids), ("logit_bias", self.logit_bias)):
            for token in ids or ():
                if not 0 <= token < num_tokens:
                    raise UserError(f"{name}: {token} is no token; the vocabulary has 0 to {num_tokens - 1}")

    def drawing(self, max_new_tokens: int, index: int = 0, **further: Any) -> Drawing:
        """How the answer with this number is drawn; what is not given is as OpenAI has it, at temperature 1."""
        return Drawing(
            max_new_tokens=max_new_tokens,
            temperature=1.0 if self.temperature is None else self.temperature,
            top_k=max(0, self.top_k or 0), top_p=self.top_p or 1.0, min_p=self.min_p or 0.0,
            repetition_penalty=self.repetition_penalty or 1.0,
            presence_penalty=self.presence_penalty or 0.0, frequency_penalty=self.frequency_penalty or 0.0,
            logit_bias=self.logit_bias or {}, seed=None if self.seed is None else (self.seed + index) % 2**63,
            stop=self.stops, stop_token_ids=tuple(self.stop_token_ids or ()), ignore_eos=bool(self.ignore_eos),
            min_tokens=self.min_tokens or 0, **further,
        )  # fmt: skip


class ChatBody(Body):
    """The body of POST /v1/chat/completions."""

    messages: list[dict[str, Any]] = Field(min_length=1)  # read by `messages.plain_messages`
    max_completion_tokens: int | None = Field(None, ge=1, le=MOST_TOKENS)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)

    @model_validator(mode="after")
    def check_logprobs(self):
        """As OpenAI has it."""
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError("top_logprobs: needs logprobs to be true")
        return self

    @property
    def num_top(self) -> int | None:
        """Of `Drawing`."""
        return (self.top_logprobs or 0) if self.logprobs else None
