"""Each client asked in its own words, and what it gives brought into one form. Imports a client where it is made."""

import os
from dataclasses import dataclass, field
from importlib.metadata import version

TIMEOUT = 120


class NotOffered(Exception):
    """The client has no such call."""


@dataclass
class Reply:
    """What a client gave. texts: of all choices. logprobs: (token, log-probability, number of alternatives). ids and
    prompt_ids: with return_token_ids. streams: finish_reasons has one entry for each chunk, texts the joined text."""

    texts: list[str] = field(default_factory=list)
    finish_reasons: list = field(default_factory=list)
    usage: tuple[int, int, int] | None = None
    logprobs: list[tuple] = field(default_factory=list)
    tool_calls: list[tuple[str, str]] = field(default_factory=list)
    ids: list[int] | None = None
    prompt_ids: list[int] | None = None
    model: str = ""

    @property
    def text(self) -> str:
        """The first choice's."""
        return self.texts[0]

    @property
    def finish_reason(self):
        """The last one that was given."""
        return next((reason for reason in reversed(self.finish_reasons) if reason), None)


def get(thing, name: str, default=None):
    """An attribute or an item, also one that the client's types don't know."""
    if isinstance(thing, dict):
        return thing.get(name, default)
    return getattr(thing, name, default)


def usage_of(usage) -> tuple[int, int, int] | None:
    """(prompt, completion, total) of a usage object."""
    if usage is None:
        return None
    return tuple(get(usage, f"{name}_tokens") for name in ("prompt", "completion", "total"))


def logprobs_of(logprobs) -> list[tuple]:
    """Of a chat's choice, and of a plain completion's."""
    if logprobs is None:
        return []
    if get(logprobs, "content") is not None:
        return [
            (get(one, "token"), get(one, "logprob"), len(get(one, "top_logprobs") or []))
            for one in get(logprobs, "content")
        ]
    tokens, values = get(logprobs, "tokens") or [], get(logprobs, "token_logprobs") or []
    tops = get(logprobs, "top_logprobs") or [None] * len(tokens)
    return [(token, value, len(top or ())) for token, value, top in zip(tokens, values, tops, strict=False)]


def reply_of(response) -> Reply:
    """A reply from an object in OpenAI's form."""
    found = Reply(usage=usage_of(get(response, "usage")), model=get(response, "model"))
    found.prompt_ids = get(response, "prompt_token_ids")
    for choice in get(response, "choices"):
        message = get(choice, "message")
        found.texts.append((get(message, "content") if message is not None else get(choice, "text")) or "")
        found.finish_reasons.append(get(choice, "finish_reason"))
        for call in get(message, "tool_calls") or []:
            found.tool_calls.append((get(get(call, "function"), "name"), get(get(call, "function"), "arguments")))
    first = get(response, "choices")[0]
    found.logprobs = logprobs_of(get(first, "logprobs"))
    found.ids = get(first, "token_ids")
    found.prompt_ids = found.prompt_ids or get(first, "prompt_token_ids")
    return found


def joined(chunks) -> Reply:
    """A reply from the chunks of a stream in OpenAI's form."""
    found, texts, calls = Reply(), {}, {}
    for chunk in chunks:
        found.usage = usage_of(get(chunk, "usage")) or found.usage
        found.model = get(chunk, "model") or found.model
        for choice in get(chunk, "choices"):
            delta = get(choice, "delta")
            text = get(delta, "content") if delta is not None else get(choice, "text")
            texts[get(choice, "index")] = texts.get(get(choice, "index"), "") + (text or "")
            found.finish_reasons.append(get(choice, "finish_reason"))
            found.logprobs += logprobs_of(get(choice, "logprobs"))
            for call in get(delta, "tool_calls") or []:
                name, arguments = calls.setdefault(get(call, "index"), ["", ""])
                function = get(call, "function")
                calls[get(call, "index")] = [
                    name + (get(function, "name") or ""),
                    arguments + (get(function, "arguments") or ""),
                ]
    found.texts = [texts[index] for index in sorted(texts)]
    found.tool_calls = [tuple(call) for call in calls.values()]
    return found


class OpenAI:
    """The openai package, 2.x and 3.x."""

    def __init__(self, url: str, key: str, retries: int = 2):
        import openai

        self.title = f"openai {version('openai')}"
        self.client = openai.OpenAI(base_url=url, api_key=key, max_retries=retries, timeout=TIMEOUT)

    def chat(self, model: str, messages: list, **fields) -> Reply:
        """A chat."""
        return reply_of(self.client.chat.completions.create(model=model, messages=messages, **fields))

    def stream(self, model: str, messages: list, **fields) -> Reply:
        """A chat, streamed."""
        return joined(self.client.chat.completions.create(model=model, messages=messages, stream=True, **fields))

    def complete(self, model: str, prompt, **fields) -> Reply:
        """A plain text, or token ids, continued."""
        return reply_of(self.client.completions.create(model=model, prompt=prompt, **fields))

    def stream_completion(self, model: str, prompt, **fields) -> Reply:
        """The same, streamed."""
        return joined(self.client.completions.create(model=model, prompt=prompt, stream=True, **fields))

    def models(self) -> dict:
        """Parent by name."""
        return {one.id: get(one, "parent") for one in self.client.models.list()}

    def model(self, name: str) -> str:
        """The name of one."""
        return self.client.models.retrieve(name).id

    def structured(self, model: str, messages: list, schema: type):
        """An object of a pydantic class."""
        asked = self.client.chat.completions.parse(
            model=model, messages=messages, response_format=schema, max_completion_tokens=64, temperature=0
        )
        return asked.choices[0].message.parsed

    def many(self, model: str, conversations: list, **fields) -> list[Reply]:
        """Several at once, by the asynchronous client."""
        import asyncio

        import openai

        async def ask() -> list[Reply]:
            async with openai.AsyncOpenAI(base_url=self.client.base_url, api_key=self.client.api_key) as client:
                asked = (client.chat.completions.create(model=model, messages=one, **fields) for one in conversations)
                return [reply_of(response) for response in await asyncio.gather(*asked)]

        return asyncio.run(ask())


class LangChain:
    """langchain-openai: ChatOpenAI and OpenAI."""

    def __init__(self, url: str, key: str, retries: int = 2):
        self.title = f"langchain-openai {version('langchain-openai')}, openai {version('openai')}"
        self.given = {"base_url": url, "api_key": key, "max_retries": retries, "timeout": TIMEOUT}

    def chat_model(self, model: str):
        """ChatOpenAI."""
        from langchain_openai import ChatOpenAI

        return ChatOpenAI(model=model, **self.given)

    def reply(self, message) -> Reply:
        """Of an AIMessage, or of the sum of its chunks."""
        import json

        known, usage = message.response_metadata, message.usage_metadata
        return Reply(
            [message.content], [known.get("finish_reason")],
            usage and (usage["input_tokens"], usage["output_tokens"], usage["total_tokens"]),
            logprobs_of(known.get("logprobs")),
            [(call["name"], json.dumps(call["args"])) for call in message.tool_calls],
            model=known.get("model_name", ""),
        )  # fmt: skip

    def chat(self, model: str, messages: list, **fields) -> Reply:
        """`invoke`, or `generate` for several choices."""
        if "metadata" in fields:  # which means something else to LangChain
            fields["extra_body"] = {"metadata": fields.pop("metadata")}
        if fields.get("n", 1) > 1:
            from langchain_core.messages import convert_to_messages

            found = self.chat_model(model).generate([convert_to_messages(messages)], **fields).generations[0]
            return Reply([one.text for one in found], [one.generation_info["finish_reason"] for one in found])
        return self.reply(self.chat_model(model).bind(**fields).invoke(messages))

    def stream(self, model: str, messages: list, **fields) -> Reply:
        """`stream`, its chunks added up as LangChain does."""
        has_usage = fields.pop("stream_options", None) is not None
        whole, reasons = None, []
        for chunk in self.chat_model(model).bind(**fields).stream(messages, stream_usage=has_usage):
            whole = chunk if whole is None else whole + chunk
            reasons.append(chunk.response_metadata.get("finish_reason"))
        found = self.reply(whole)
        found.finish_reasons = reasons
        return found

    def complete(self, model: str, prompt, **fields) -> Reply:
        """The plain OpenAI class."""
        if not isinstance(prompt, str):
            raise NotOffered("token ids")
        from langchain_openai import OpenAI

        result = OpenAI(model=model, **self.given).generate([prompt], **fields)
        found, usage = result.generations[0], result.llm_output["token_usage"]
        return Reply(
            [one.text for one in found], [one.generation_info["finish_reason"] for one in found], usage_of(usage),
            logprobs_of(found[0].generation_info.get("logprobs")),
        )  # fmt: skip

    def stream_completion(self, model: str, prompt, **fields) -> Reply:
        """The same, streamed."""
        from langchain_openai import OpenAI

        return Reply(["".join(OpenAI(model=model, **self.given).bind(**fields).stream(prompt))])

    def models(self) -> dict:
        """There is no such call."""
        raise NotOffered("models")

    model = models

    def structured(self, model: str, messages: list, schema: type):
        """`with_structured_output`."""
        asked = self.chat_model(model).with_structured_output(schema, method="json_schema")
        return asked.bind(max_tokens=64, temperature=0).invoke(messages)

    def many(self, model: str, conversations: list, **fields) -> list[Reply]:
        """`batch`."""
        return [self.reply(one) for one in self.chat_model(model).bind(**fields).batch(conversations)]


class LiteLLM:
    """litellm, under its prefix for any OpenAI-compatible server, or the one for vLLM."""

    def __init__(self, url: str, key: str, retries: int = 2, prefix: str = "openai"):
        os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # asks nobody for prices
        import litellm

        litellm.suppress_debug_info, litellm.telemetry = True, False
        self.title, self.prefix = f"litellm {version('litellm')} ({prefix}/)", prefix
        self.given = {"api_base": url, "api_key": key, "max_retries": retries, "timeout": TIMEOUT}
        self.comes_back = prefix == "openai"  # the handler for vLLM knows no max_retries

    def chat(self, model: str, messages: list, **fields) -> Reply:
        """A chat."""
        from litellm import completion

        return reply_of(completion(f"{self.prefix}/{model}", messages, **self.given, **fields))

    def stream(self, model: str, messages: list, **fields) -> Reply:
        """A chat, streamed."""
        from litellm import completion

        return joined(completion(f"{self.prefix}/{model}", messages, stream=True, **self.given, **fields))

    def complete(self, model: str, prompt, **fields) -> Reply:
        """A plain text continued."""
        from litellm import text_completion

        return reply_of(text_completion(prompt, f"text-completion-openai/{model}", **self.given, **fields))

    def stream_completion(self, model: str, prompt, **fields) -> Reply:
        """The same, streamed."""
        from litellm import text_completion

        return joined(text_completion(prompt, f"text-completion-openai/{model}", stream=True, **self.given, **fields))

    def models(self) -> dict:
        """There is no such call for a server of one's own."""
        raise NotOffered("models")

    model = models

    def structured(self, model: str, messages: list, schema: type):
        """A pydantic class as response_format."""
        found = self.chat(model, messages, response_format=schema, max_tokens=64, temperature=0)
        return schema.model_validate_json(found.text)

    def many(self, model: str, conversations: list, **fields) -> list[Reply]:
        """`batch_completion`."""
        from litellm import batch_completion

        return [
            reply_of(one) for one in batch_completion(f"{self.prefix}/{model}", conversations, **self.given, **fields)
        ]


DRIVERS = {
    "openai-2": ("openai-2", OpenAI),
    "openai-3": ("openai-3", OpenAI),
    "langchain": ("langchain", LangChain),
    "litellm": ("litellm", LiteLLM),
    "litellm-vllm": ("litellm", lambda *given, **further: LiteLLM(*given, prefix="hosted_vllm", **further)),
}  # name: (environment, how it is made)
