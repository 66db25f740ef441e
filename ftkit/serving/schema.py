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
MOST_TOP = 20  # log-probabilities beside a token


class StreamOptions(BaseModel):
    """Of a stream."""

    include_usage: bool = False


class Body(BaseModel):
    """What chat and text completions have in common. Fields that nobody knows are named in the log, and ignored."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())
    # Whatever these say, the answer is the same; the second row says what `Asked` reads.
    KNOWN: ClassVar = frozenset({
        "user", "metadata", "store", "reasoning_effort", "verbosity", "prompt_cache_key", "prompt_cache_retention",
        "service_tier", "safety_identifier", "include_reasoning", "priority", "request_id", "cache_salt",
        "tools", "tool_choice", "parallel_tool_calls", "response_format", "structured_outputs", "guided_json",
        "guided_regex", "guided_choice", "chat_template_kwargs", "functions", "function_call", "guided_grammar",
        "chat_template", "documents",
    })  # fmt: skip
    # These would change it, and are not honoured; the value is one that changes nothing.
    REFUSED: ClassVar = {
        "suffix": "", "use_beam_search": False, "length_penalty": 1, "bad_words": [], "allowed_token_ids": [],
        "truncate_prompt_tokens": None, "prompt_logprobs": None, "logits_processors": [], "audio": None,
        "modalities": ["text"], "web_search_options": None, "thinking_token_budget": None, "add_special_tokens": False,
        "skip_special_tokens": True, "spaces_between_special_tokens": True, "include_stop_str_in_output": False,
        "no_repeat_ngram_size": 0, "typical_p": 1, "logprob_token_ids": [],
    }  # fmt: skip

    model: str | None = None  # the first one
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
    return_tokens_as_token_ids: bool | None = None

    @model_validator(mode="after")
    def check_fields(self):
        """Refuse what is not honoured, and name what nobody knows."""
        extra = self.model_extra or {}
        for name, harmless in self.REFUSED.items():
            if name in extra and extra[name] not in (None, harmless):
                raise ValueError(f"{name}: is not supported; leave it out")
        if unknown := sorted(set(extra) - self.KNOWN - set(self.REFUSED)):
            logger.warning("ignored fields that are not known: %.200s", unknown)
        return self

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
    """The body of POST /v1/chat/completions. What asks for a form of the answer is read by `Asked`."""

    messages: list[dict[str, Any]] = Field(min_length=1)  # read by `messages.plain_messages`
    max_completion_tokens: int | None = Field(None, ge=1, le=MOST_TOKENS)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=MOST_TOP)
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    echo: bool = False

    @model_validator(mode="after")
    def check_logprobs(self):
        """As OpenAI has it."""
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError("top_logprobs: needs logprobs to be true")
        return self


class TextBody(Body):
    """The body of POST /v1/completions. logprobs: of so many of the likeliest, beside each token."""

    prompt: str | list[str] | list[int] | list[list[int]]
    max_tokens: int | None = Field(None, ge=1, le=MOST_TOKENS)
    logprobs: int | None = Field(None, ge=0, le=MOST_TOP)
    echo: bool = False
    add_special_tokens: bool = True
    best_of: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def check_of_texts(self):
        """All answers are given, none is chosen; and tools are of conversations."""
        for name in ("tools", "tool_choice", "functions"):
            if (self.model_extra or {}).get(name) not in (None, []):
                raise ValueError(f"{name}: a text has none; ask /v1/chat/completions")
        if self.best_of not in (None, self.n or 1):
            raise ValueError("best_of: must be n, as all answers are given; choose among them yourself")
        return self
