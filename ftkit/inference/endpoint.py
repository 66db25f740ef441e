"""Asks any OpenAI-compatible server (Ollama, vLLM, transformers serve, a paid one): bounded in time, size and retries.

    endpoint = Endpoint("http://127.0.0.1:11434/v1", "llama3.2")
    for index, reply in ask_all(endpoint, conversations): ...

The API key is read from an environment variable and sent to that server alone; redirects are not followed.
"""

import argparse
import asyncio
import dataclasses
import json
import logging
import math
import os
import queue
import random
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from ftkit.config.errors import UserError
from ftkit.inference.completion import AttemptFailed, Reply, connection_failure, refusal, reply_of, status_failure

MAX_REPLY_BYTES = 2**22
KEY_VARIABLE = "OPENAI_API_KEY"
LOOK = "look at the server, then run the same command again"
FIRST_WAIT_SECONDS, MAX_WAIT_SECONDS = 0.5, 30.0
WATCH_SECONDS, JOIN_SECONDS = 0.1, 10.0  # of a consumer that stops early
MAX_FAILURES_IN_A_ROW = 5  # questions without an answer for the server's sake, after their retries: it is gone
SENT_AS_ASKED = {
    "max_tokens": "max_completion_tokens",
    "seed": "",
}  # where refused, under the name that is, or not at all

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Endpoint:
    """Where and how to ask. url: up to and with /v1. timeout_seconds: of one attempt, from connecting to the last byte.

    num_retries: after a failed attempt. stop: texts that end an answer. api_key_variable: the environment variable with
    the key; unset means none. seed: 0 is sent at a temperature above 0 alone.
    """

    url: str
    model: str
    timeout_seconds: float = 120.0
    num_retries: int = 4
    concurrency: int = 4
    temperature: float = 0.0
    max_tokens: int = 64
    seed: int = 0
    stop: tuple[str, ...] = ()
    api_key_variable: str = KEY_VARIABLE
    top_p: float = 1.0

    def __post_init__(self):
        check_address(self.url, self.api_key_variable)
        if (
            not 0 < self.timeout_seconds < math.inf
            or min(self.concurrency, self.max_tokens) < 1
            or self.num_retries < 0
        ):
            raise UserError(
                "timeout_seconds, concurrency and max_tokens must be positive, num_retries must not be negative"
            )
        if not (self.key.isascii() and self.key.isprintable()):
            raise UserError(f"the variable {self.api_key_variable} holds a letter that no key has; copy the key again")

    @property
    def key(self) -> str:
        """The key of the environment, "" for none."""
        return os.environ.get(self.api_key_variable, "").strip()

    def answers(self, conversations: list[list[dict]], max_tokens: int, stop: Sequence[str] = ()) -> list[str]:
        """An answer to each conversation, in order; one that is cut off counts. Raises UserError when one got none."""
        asked = dataclasses.replace(self, max_tokens=max_tokens, stop=tuple(stop))
        return [reply.text for reply in asked.replies(conversations)]

    def replies(self, conversations: list[list[dict]], seeds: Sequence[int] | None = None) -> list[Reply]:
        """A reply to each conversation, in order; see `answers`. seeds: one a conversation."""
        replies = dict(ask_all(self, conversations, seeds))
        for reply in replies.values():
            if reply.failure:
                advice = reply.advice or "run the command again to go on"
                raise UserError(f"{self.url}: {reply.failure}, {reply.num_attempts} times; {advice}")
        return [replies[index] for index in range(len(conversations))]


def endpoint_of(args: argparse.Namespace) -> Endpoint | None:
    """The server of the flags that `asking.add_endpoint_flags` adds; None for a local model.

    Raises UserError for values out of range.
    """
    if not args.endpoint:
        return None
    return Endpoint(
        args.endpoint, args.model_name_or_path, args.timeout_seconds, args.num_retries, args.concurrency,
        args.temperature, args.max_new_tokens, args.seed, api_key_variable=args.api_key_variable or KEY_VARIABLE,
        top_p=args.top_p,
    )  # fmt: skip


class GivenUp(UserError):
    """The server cannot be used, any more or at all."""


def check_address(url: str, api_key_variable: str) -> None:
    """Raise UserError for what is not a server's address, or holds a secret; a secret is not shown."""
    if "@" in url:
        raise UserError(f"an address holds no key; put it into the variable {api_key_variable}")
    if "?" in url or "#" in url:
        raise UserError(
            f'an address ends with its path, such as /v1, without "?" or "#"; a key goes into {api_key_variable}'
        )
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # brackets without their match, a port beyond 65,535
        is_address = False
    if not is_address or not url.isprintable() or " " in url:
        raise UserError(f"{json.dumps(url)} is not a server's address; give one such as http://127.0.0.1:11434/v1")


def ask_all(
    endpoint: Endpoint, conversations: list[list[dict]], seeds: Sequence[int] | None = None
) -> Iterator[tuple[int, Reply]]:
    """Yield (index, reply) as the answers come, `concurrency` questions at a time.

    seeds: one a conversation, in place of the endpoint's. A question without an answer has its reason in
    `Reply.failure`. Raises GivenUp when the server cannot be used, any more or at all: after MAX_FAILURES_IN_A_ROW
    questions that failed for its sake, or, while none was answered, for any reason.
    """
    seeds = [endpoint.seed] * len(conversations) if seeds is None else seeds
    replies: queue.Queue = queue.Queue()
    stop = threading.Event()

    def work() -> None:
        try:
            asyncio.run(_ask_all(endpoint, conversations, seeds, replies, stop))
        except BaseException as error:
            replies.put(error)
        else:
            replies.put(None)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while (found := replies.get()) is not None:
            if isinstance(found, BaseException):
                raise found
            yield found
    finally:
        stop.set()
        thread.join(timeout=JOIN_SECONDS)


async def _ask_all(
    endpoint: Endpoint,
    conversations: list[list[dict]],
    seeds: Sequence[int],
    replies: queue.Queue,
    stop: threading.Event,
) -> None:
    """Put (index, reply) of every conversation into `replies`."""
    import httpx2

    numbers = iter(range(len(conversations)))
    refused: set[str] = set()
    num_failed, num_answered = 0, 0  # in a row; in all

    async def worker(client) -> None:
        nonlocal num_failed, num_answered
        for index in numbers:
            if stop.is_set():  # before Python 3.12 `wait_for` swallows a cancellation that comes with the answer
                return
            reply = await ask(client, endpoint, conversations[index], seeds[index], refused)
            replies.put((index, reply))
            num_answered += not reply.failure
            num_failed = num_failed + 1 if reply.blames_server or reply.failure and not num_answered else 0
            if num_failed >= MAX_FAILURES_IN_A_ROW:
                raise GivenUp(f"{endpoint.url}: no use asking further ({reply.failure}); {reply.advice or LOOK}")

    limits = httpx2.Limits(max_connections=endpoint.concurrency)
    async with httpx2.AsyncClient(headers=headers(endpoint), timeout=endpoint.timeout_seconds, limits=limits) as client:
        workers = [asyncio.create_task(worker(client)) for _ in range(endpoint.concurrency)]
        watcher = asyncio.create_task(cancel_when(stop, workers))
        try:
            await asyncio.gather(*workers)
        except asyncio.CancelledError:
            if not stop.is_set():
                raise
        finally:
            for task in (watcher, *workers):
                task.cancel()
            await asyncio.gather(watcher, *workers, return_exceptions=True)


async def cancel_when(stop: threading.Event, tasks: list[asyncio.Task]) -> None:
    """Cancel the tasks, with what they are waiting for, once nobody wants the replies any more."""
    while not stop.is_set():
        await asyncio.sleep(WATCH_SECONDS)
    for task in tasks:
        task.cancel()


def headers(endpoint: Endpoint) -> dict[str, str]:
    """With the key where there is one."""
    return {"Authorization": f"Bearer {endpoint.key}"} if endpoint.key else {}


async def ask(client, endpoint: Endpoint, messages: list[dict], seed: int, refused: set[str]) -> Reply:
    """Ask until there is an answer, the failure is final, or no retry is left. Waits as long as the server asks for.

    refused: names of SENT_AS_ASKED that the server doesn't take; those found on the way are added.

    Waits double from FIRST_WAIT_SECONDS and vary by half, so that many clients do not come back at once; none is longer
    than MAX_WAIT_SECONDS.
    """
    start = time.monotonic()
    for num_failed in range(endpoint.num_retries + 1):
        try:
            attempt = attempt_once(client, endpoint, messages, seed, refused)
            reply = await asyncio.wait_for(attempt, endpoint.timeout_seconds)
            break
        except (TimeoutError, asyncio.TimeoutError):  # two classes before Python 3.11
            failed = AttemptFailed(f"no complete answer within {endpoint.timeout_seconds:g} s", blames_server=True)
        except AttemptFailed as error:
            failed = error
        reply = Reply(failure=str(failed), blames_server=failed.blames_server, advice=failed.advice)
        if failed.is_final or num_failed == endpoint.num_retries:
            break
        wait = failed.wait_seconds
        if wait is None:
            wait = FIRST_WAIT_SECONDS * 2**num_failed * random.uniform(0.5, 1.5)
        await asyncio.sleep(min(wait, MAX_WAIT_SECONDS))
    reply.num_attempts, reply.seconds = num_failed + 1, time.monotonic() - start
    return reply


def request_body(endpoint: Endpoint, messages: list[dict], seed: int, refused: set[str]) -> dict:
    """What is asked, and no setting that asks for nothing: some servers refuse those they don't know."""
    body = {
        "model": endpoint.model,
        "messages": messages,
        "temperature": endpoint.temperature,
        "max_tokens": endpoint.max_tokens,
        "stream": False,
    }
    body |= {"seed": seed} if seed or endpoint.temperature > 0 else {}
    body |= {"top_p": endpoint.top_p} if endpoint.top_p < 1 else {}
    body |= {"stop": list(endpoint.stop)} if endpoint.stop else {}
    renamed = {SENT_AS_ASKED[name] if name in refused else name: value for name, value in body.items()}
    return {name: value for name, value in renamed.items() if name}


async def attempt_once(client, endpoint: Endpoint, messages: list[dict], seed: int, refused: set[str]) -> Reply:
    """One request, and another where a setting is refused that goes under a different name or is no loss.

    Raises AttemptFailed for all that is not an answer.
    """
    import httpx2

    url = endpoint.url.rstrip("/") + "/chat/completions"
    body = request_body(endpoint, messages, seed, refused)
    try:
        async with client.stream("POST", url, json=body) as response:
            received = bytearray()
            async for part in response.aiter_bytes():
                received += part
                if len(received) > MAX_REPLY_BYTES:
                    raise AttemptFailed(f"more than {MAX_REPLY_BYTES >> 20} MiB came", is_final=True)
    except httpx2.ConnectError as error:
        raise connection_failure(error) from error
    except httpx2.TimeoutException as error:
        raise AttemptFailed(f"no complete answer within {endpoint.timeout_seconds:g} s", blames_server=True) from error
    except httpx2.InvalidURL as error:
        raise AttemptFailed("not a valid address", is_final=True, blames_server=True) from error
    except httpx2.HTTPError as error:
        raise AttemptFailed(f"the connection broke ({type(error).__name__})", blames_server=True) from error
    content = bytes(received)
    name = refusal(content)[1] if response.status_code == 400 else ""
    if name in SENT_AS_ASKED and name in body:
        if name not in refused:
            logger.warning("%s refuses %s; sent from now on: %s", endpoint.url, name, SENT_AS_ASKED[name] or "none")
        refused.add(name)
        return await attempt_once(client, endpoint, messages, seed, refused)
    if response.status_code != 200:
        raise status_failure(response, content, endpoint.key)
    return reply_of(content, endpoint.key)
