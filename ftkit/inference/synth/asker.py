"""Asks a model, here or behind an endpoint, in batches, and keeps every reply: after a kill none is asked for again.

    journal = Journal(Path("OUT/.ftkit/replies.jsonl"))
    asker = Asker("model", EngineModel(engine, sampling, batch_size=8), journal)
    replies = asker.ask([Request(messages, seed=7)], way=AS_ASKED)

A local model answers a batch from one seed, so a batch of which a reply is missing is answered whole again, to the same
replies. An endpoint is asked only for what is missing.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from ftkit.config.jsonl import append_jsonl, pass_over_torn, read_jsonl
from ftkit.inference.asking import Sampling
from ftkit.inference.completion import Reply
from ftkit.inference.endpoint import Endpoint, ask_all
from ftkit.inference.judging import LocalJudge
from ftkit.inference.synth.items import AS_ASKED, Way

Replies = Iterator[tuple[int, Reply]]  # with their places
KEPT = ("text", "failure", "input_tokens", "output_tokens", "finish_reason")  # of a reply


class Request(NamedTuple):
    """A conversation, and the seed of its reply."""

    messages: list[dict]
    seed: int


class Journal:
    """Every reply by its key. Raises UserError for a file of another kind."""

    def __init__(self, path: Path):
        self.path = path
        self.replies: dict[str, Reply] = {}
        for key, reply in read_jsonl(path, kept, what="reply", fix="start over by --overwrite", report=pass_over_torn):
            self.replies[key] = reply

    def add(self, key: str, reply: Reply) -> None:
        """Keep a reply."""
        self.replies[key] = reply
        append_jsonl(self.path, [{"key": key, **{name: getattr(reply, name) for name in KEPT}}])


def kept(values: dict) -> tuple[str, Reply]:
    """A reply as it was kept. Raises ValueError for what is none."""
    if not isinstance(values.get("key"), str) or not isinstance(values.get("text"), str):
        raise ValueError("no key, or no text")
    return values["key"], Reply(**{name: values[name] for name in KEPT if name in values})


class Asked(Protocol):
    """What answers."""

    def replies(self, requests: Sequence[Request], missing: Sequence[int], way: Way) -> Replies:
        """(place, reply) of the requests at the places `missing`, and maybe of others, as they come."""


@dataclasses.dataclass
class EngineModel:
    """A model in this process. system: a text that stands before each conversation."""

    engine: Any
    sampling: Sampling
    batch_size: int
    system: str | None = None

    def replies(self, requests: Sequence[Request], missing: Sequence[int], way: Way) -> Replies:
        """See `Asked`."""
        prompts = {}
        for place, request in enumerate(requests):
            ids = self.engine.voice().render(with_system(request.messages, self.system))
            if self.engine.has_room(ids):
                prompts[place] = ids
            else:
                yield place, Reply(failure="longer than the model's context")
        tokens = min(way.limit or self.sampling.max_new_tokens, self.sampling.max_new_tokens)
        temperature = 0.0 if way.is_greedy else self.sampling.temperature
        seed = requests[0].seed
        drawn = dataclasses.replace(self.sampling, seed=seed, max_new_tokens=tokens, temperature=temperature)
        found = self.engine.replies(list(prompts.values()), drawn, batch_size=self.batch_size) if prompts else ()
        yield from zip(prompts, found, strict=True)


@dataclasses.dataclass
class EndpointModel:
    """A model on a server."""

    endpoint: Endpoint
    system: str | None = None

    def replies(self, requests: Sequence[Request], missing: Sequence[int], way: Way) -> Replies:
        """See `Asked`. Raises GivenUp where the server can't be used any more."""
        tokens = min(way.limit or self.endpoint.max_tokens, self.endpoint.max_tokens)
        temperature = 0.0 if way.is_greedy else self.endpoint.temperature
        endpoint = dataclasses.replace(self.endpoint, max_tokens=tokens, temperature=temperature)
        asked = [with_system(requests[place].messages, self.system) for place in missing]
        seeds = [requests[place].seed for place in missing]
        for index, reply in ask_all(endpoint, asked, seeds):
            yield missing[index], reply


@dataclasses.dataclass
class JudgeModel:
    """A local judge, which gives its likeliest reply."""

    judge: LocalJudge

    def replies(self, requests: Sequence[Request], missing: Sequence[int], way: Way) -> Replies:
        """See `Asked`."""
        yield from self.judge.ask([request.messages for request in requests]).items()


@dataclasses.dataclass
class Asker:
    """One who is asked. name: in the keys of its replies."""

    name: str
    model: Asked
    journal: Journal

    def ask(self, requests: Sequence[Request], way: Way = AS_ASKED) -> list[Reply]:
        """A reply to each request, in order; what failed says why.

        A failure is kept only when the whole batch is through: where a server is given up, its last failures are asked
        again by the next run.
        """
        keys = [self.key(request, way) for request in requests]
        missing = [place for place, key in enumerate(keys) if key not in self.journal.replies]
        failed = {}
        for place, reply in self.model.replies(requests, missing, way) if missing else ():
            if keys[place] in self.journal.replies:
                continue
            if reply.failure:
                failed[place] = reply
            else:
                self.journal.add(keys[place], reply)
        for place, reply in failed.items():
            self.journal.add(keys[place], reply)
        return [self.journal.replies[key] for key in keys]

    def key(self, request: Request, way: Way) -> str:
        """A hash of a request."""
        text = json.dumps([self.name, *way, request.seed, request.messages])
        return hashlib.sha256(text.encode()).hexdigest()[:24]


def with_system(messages: list[dict], system: str | None) -> list[dict]:
    """The conversation after a system text, where there is one and the conversation has none."""
    if system is None or messages[0]["role"] == "system":
        return messages
    return [{"role": "system", "content": system}, *messages]
