"""Asks any OpenAI-compatible server (Ollama, vLLM, transformers serve, a paid one): bounded in time, size and retries.

    endpoint = Endpoint("http://127.0.0.1:11434/v1", "llama3.2")
    for index, reply in ask_all(endpoint, conversations): ...

The API key is read from an environment variable and sent to that server alone; redirects are not followed.
"""

import asyncio
import dataclasses
import email.utils
import json
import os
import queue
import random
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from ftkit.config.errors import UserError

MAX_REPLY_BYTES = 2**22
RETRIED_STATUS = (408, 409, 425, 429, 500, 502, 503, 504)
REFUSED_STATUS = (401, 403, 404, 405)  # for the key or the address, whatever the question is
HELP = {
    "no connection": "start the server, or correct the address",
    "status 401": "put the key into the environment",
    "status 403": "the key may not use that model",
    "status 404": "correct the address (up to and with /v1) or the model's name",
    "": "look at the server, then run the same command again",
}
FIRST_WAIT_SECONDS, MAX_WAIT_SECONDS = 0.5, 30.0
WATCH_SECONDS, JOIN_SECONDS = 0.1, 10.0  # of a consumer that stops early
MAX_FAILURES_IN_A_ROW = 5  # questions without an answer for the server's sake, after their retries: it is gone


@dataclass(frozen=True)
class Endpoint:
    """Where and how to ask. url: up to and with /v1. timeout_seconds: of one attempt, from connecting to the last byte.

    num_retries: after a failed attempt. stop: texts that end an answer. api_key_variable: the environment variable with
    the key; unset means none.
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
    api_key_variable: str = "OPENAI_API_KEY"

    def __post_init__(self):
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UserError(f'"{self.url}" is no server\'s address; give one such as http://127.0.0.1:11434/v1')
        if parts.username or parts.password:
            raise UserError(f"an address holds no key; put it into the variable {self.api_key_variable}")
        if self.timeout_seconds <= 0 or self.num_retries < 0 or self.concurrency < 1 or self.max_tokens < 1:
            raise UserError(
                "timeout_seconds, concurrency and max_tokens must be positive, num_retries must not be negative"
            )

    def answers(self, conversations: list[list[dict]], max_tokens: int, stop: Sequence[str] = ()) -> list[str]:
        """An answer to each conversation, in order. Raises UserError when one got none."""
        asked = dataclasses.replace(self, max_tokens=max_tokens, stop=tuple(stop))
        replies = dict(ask_all(asked, conversations))
        for reply in replies.values():
            if reply.failure:
                raise UserError(
                    f"{self.url}: {reply.failure}, {reply.num_attempts} times; run the command again to go on"
                )
        return [replies[index].text for index in range(len(conversations))]


@dataclass
class Reply:
    """An answer with its counts of tokens, 0 where the server gives none; or why there is none, in few words.

    blames_server: the failure has nothing to do with this question, others may well fail like it.
    """

    text: str = ""
    failure: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    num_attempts: int = 1
    seconds: float = 0.0
    blames_server: bool = False


class AttemptFailed(Exception):
    """One request brought no answer. is_final: asking again is no use. wait_seconds: what the server asks for.

    blames_server: as in `Reply`.
    """

    def __init__(
        self,
        reason: str,
        *,
        is_final: bool = False,
        blames_server: bool = False,
        wait_seconds: float | None = None,
    ):
        super().__init__(reason)
        self.is_final, self.blames_server, self.wait_seconds = is_final, blames_server, wait_seconds


def ask_all(endpoint: Endpoint, conversations: list[list[dict]]) -> Iterator[tuple[int, Reply]]:
    """Yield (index, reply) as the answers come, `concurrency` questions at a time.

    A question without an answer has its reason in `Reply.failure`. Raises UserError when the server is of no use, any
    more or at all: after MAX_FAILURES_IN_A_ROW questions without a word, or refused for the key or the address.
    """
    replies: queue.Queue = queue.Queue()
    stop = threading.Event()

    def work() -> None:
        try:
            asyncio.run(_ask_all(endpoint, conversations, replies, stop))
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
    endpoint: Endpoint, conversations: list[list[dict]], replies: queue.Queue, stop: threading.Event
) -> None:
    """Put (index, reply) of every conversation into `replies`."""
    import httpx2

    numbers = iter(range(len(conversations)))
    num_failed = 0  # in a row

    async def worker(client) -> None:
        nonlocal num_failed
        for index in numbers:
            reply = await ask(client, endpoint, conversations[index])
            num_failed = num_failed + 1 if reply.blames_server else 0
            if num_failed >= min(MAX_FAILURES_IN_A_ROW, len(conversations)):
                raise UserError(
                    f"{endpoint.url}: no use asking on ({reply.failure}); {HELP.get(reply.failure, HELP[''])}"
                )
            replies.put((index, reply))

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
    key = os.environ.get(endpoint.api_key_variable, "").strip()
    return {"Authorization": f"Bearer {key}"} if key else {}


async def ask(client, endpoint: Endpoint, messages: list[dict]) -> Reply:
    """Ask until there is an answer, the failure is final, or no retry is left. Waits as long as the server asks for.

    Waits double from FIRST_WAIT_SECONDS and vary by half, so that many clients do not come back at once; none is longer
    than MAX_WAIT_SECONDS.
    """
    start = time.monotonic()
    for attempt in range(endpoint.num_retries + 1):
        try:
            reply = await asyncio.wait_for(attempt_once(client, endpoint, messages), endpoint.timeout_seconds)
            break
        except (TimeoutError, asyncio.TimeoutError):  # two classes before Python 3.11
            failed = AttemptFailed(f"no whole answer within {endpoint.timeout_seconds:g} s", blames_server=True)
        except AttemptFailed as error:
            failed = error
        reply = Reply(failure=str(failed), blames_server=failed.blames_server)
        if failed.is_final or attempt == endpoint.num_retries:
            break
        wait = failed.wait_seconds
        if wait is None:
            wait = FIRST_WAIT_SECONDS * 2**attempt * random.uniform(0.5, 1.5)
        await asyncio.sleep(min(wait, MAX_WAIT_SECONDS))
    reply.num_attempts, reply.seconds = attempt + 1, time.monotonic() - start
    return reply


async def attempt_once(client, endpoint: Endpoint, messages: list[dict]) -> Reply:
    """One request. Raises AttemptFailed for all that is not an answer."""
    import httpx2

    body = {
        "model": endpoint.model,
        "messages": messages,
        "temperature": endpoint.temperature,
        "max_tokens": endpoint.max_tokens,
        "seed": endpoint.seed,
        "stream": False,
    } | ({"stop": list(endpoint.stop)} if endpoint.stop else {})
    url = endpoint.url.rstrip("/") + "/chat/completions"
    try:
        async with client.stream("POST", url, json=body) as response:
            content = bytearray()
            async for part in response.aiter_bytes():
                content += part
                if len(content) > MAX_REPLY_BYTES:
                    raise AttemptFailed(f"more than {MAX_REPLY_BYTES >> 20} MiB came", is_final=True)
    except httpx2.ConnectError as error:
        raise AttemptFailed("no connection", blames_server=True) from error
    except httpx2.TimeoutException as error:
        raise AttemptFailed(f"no whole answer within {endpoint.timeout_seconds:g} s", blames_server=True) from error
    except httpx2.InvalidURL as error:
        raise AttemptFailed("not a valid address", is_final=True) from error
    except httpx2.HTTPError as error:
        raise AttemptFailed(f"the connection broke ({type(error).__name__})", blames_server=True) from error
    if response.status_code != 200:
        raise status_failure(response)
    return reply_of(bytes(content))


def status_failure(response) -> AttemptFailed:
    """What a status other than 200 means; the server's own words may repeat what was sent and are left out."""
    status = response.status_code
    wait = retry_after(response.headers.get("retry-after"))
    return AttemptFailed(
        f"status {status}",
        is_final=status not in RETRIED_STATUS,
        blames_server=status in REFUSED_STATUS,
        wait_seconds=wait,
    )


def retry_after(value: str | None) -> float | None:
    """Seconds to wait that a Retry-After header asks for, as a number or as a date; None where it says nothing."""
    if value is None:
        return None
    try:
        return max(0.0, float(value)) if value.strip().replace(".", "", 1).isdigit() else seconds_until(value)
    except (ValueError, TypeError, OverflowError):
        return None


def seconds_until(date: str) -> float:
    return max(0.0, email.utils.parsedate_to_datetime(date).timestamp() - time.time())


def reply_of(content: bytes) -> Reply:
    """The answer in a chat completion. Raises AttemptFailed for one that is cut off or no completion."""
    try:
        completion = json.loads(content)
        choice = completion["choices"][0]
        text = choice["message"]["content"]
        usage = completion.get("usage") or {}
        counts = [usage.get(name) or 0 for name in ("prompt_tokens", "completion_tokens")]
    except (ValueError, RecursionError) as error:
        raise AttemptFailed("the answer is no whole JSON") from error
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise AttemptFailed("the answer is no chat completion") from error
    if not isinstance(text, str):
        raise AttemptFailed("the answer has no text")
    if not all(isinstance(count, int) and count >= 0 for count in counts):
        counts = [0, 0]
    return Reply(text, "", *counts)
