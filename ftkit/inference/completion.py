"""What came back from an OpenAI-compatible server: an answer, or why there is none and what to do about it.

reply = reply_of(b'{"choices": [{"message": {"content": "42"}, "finish_reason": "stop"}]}')
"""

import email.utils
import json
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

FINAL_STATUS = (501, 505)  # of those from 500 on, which otherwise pass
RETRIED_STATUS = (408, 409, 425, 429)
REFUSED_STATUS = (401, 403, 404, 405)  # for the key or the address, whatever the question is
ADVICE = {
    401: "put the key into the environment",
    403: "the key may not use that model",
    404: "correct the address (up to and with /v1) or the model's name",
}
MIN_KEY_LENGTH = 8  # a shorter key, such as "x" for a local server, may be part of an answer
MAX_LOCATION = MAX_REASON = 200  # characters


@dataclass(frozen=True)
class AnswerToken:
    """A token of an answer as text, with its log-probability in nats. top: the likeliest in its place, in order."""

    token: str
    logprob: float
    top: Sequence[tuple[str, float]] = ()


@dataclass
class Reply:
    """An answer with its counts of tokens, None where the server gives none; or why there is none, in few words.

    finish_reason: "length" for an answer that was cut off, "cancelled" for one that a person stopped. advice: what a
    person can do about the failure.
    blames_server: the failure has nothing to do with this question, others may well fail like it. tokens: of an answer
    that was made here, where they were asked for.
    """

    text: str = ""
    failure: str = ""
    input_tokens: int | None = 0
    output_tokens: int | None = 0
    finish_reason: str = ""
    num_attempts: int = 1
    seconds: float = 0.0
    blames_server: bool = False
    advice: str = ""
    tokens: list[AnswerToken] = field(default_factory=list)


class AttemptFailed(Exception):
    """One request brought no answer. is_final: asking again is no use. wait_seconds: what the server asks for.

    blames_server, advice: as in `Reply`.
    """

    def __init__(
        self,
        reason: str,
        *,
        is_final: bool = False,
        blames_server: bool = False,
        wait_seconds: float | None = None,
        advice: str = "",
    ):
        super().__init__(reason)
        self.is_final, self.blames_server, self.wait_seconds = is_final, blames_server, wait_seconds
        self.advice = advice


def reply_of(content: bytes, key: str = "") -> Reply:
    """The answer in a chat completion, without `key` where the server repeats it, and without halves of characters.

    Raises AttemptFailed for one that is cut off or no completion.
    """
    try:
        completion = json.loads(content)
        choice = completion["choices"][0]
        text, finish_reason = choice["message"]["content"], choice.get("finish_reason")
    except (ValueError, RecursionError) as error:
        raise AttemptFailed("the answer is not complete JSON") from error
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise AttemptFailed("the answer is not a chat completion") from error
    if text is None and finish_reason == "length":  # all the tokens went into thoughts that are not shown
        text = ""
    if not isinstance(text, str):
        raise AttemptFailed("the answer has no text")
    text = text.encode("utf-8", "replace").decode("utf-8")
    text = without_key(text, key)
    usage = completion.get("usage")
    asked, answered = (token_count(usage, name) for name in ("prompt_tokens", "completion_tokens"))
    return Reply(text, "", asked, answered, finish_reason if isinstance(finish_reason, str) else "")


def without_key(text: str, key: str) -> str:
    """The text, with the key hidden where a server repeats it."""
    return text.replace(key, "[key]") if len(key) >= MIN_KEY_LENGTH else text


def token_count(usage, name: str) -> int | None:
    """A count of tokens that a server gives, None where it gives none."""
    count = usage.get(name) if isinstance(usage, dict) else None
    return count if isinstance(count, int) and count >= 0 else None


def connection_failure(error: Exception) -> AttemptFailed:
    """What a failed connection means: nobody there, or somebody whose certificate is not trusted."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLError):
        cause = cause.__cause__ or cause.__context__
    if cause is None:
        return AttemptFailed("no connection", blames_server=True, advice="start the server, or correct the address")
    return AttemptFailed(
        f"no secure connection ({cause.reason or 'TLS'})", is_final=True, blames_server=True,
        advice="let SSL_CERT_FILE name a certificate that it is signed by, or correct http or https in the address",
    )  # fmt: skip


def status_failure(response, content: bytes, key: str = "") -> AttemptFailed:
    """What a status other than 200 means, with the server's own reason, without `key` in it."""
    status = response.status_code
    is_moved, is_broken = 300 <= status < 400, status >= 500
    reason = " ".join(without_key(refusal(content)[0], key).split())[:MAX_REASON]
    return AttemptFailed(
        f"status {status}: {reason}" if reason.isprintable() and reason else f"status {status}",
        is_final=not (status in RETRIED_STATUS or is_broken and status not in FINAL_STATUS),
        blames_server=status in REFUSED_STATUS or status == 429 or is_moved or is_broken,
        wait_seconds=retry_after(response.headers.get("retry-after")),
        advice=moved_to(response.headers.get("location")) if is_moved else ADVICE.get(status, ""),
    )


def refusal(content: bytes) -> tuple[str, str]:
    """The server's reason, and the setting that it refuses; "" for what it doesn't say. As OpenAI, vLLM, FastAPI do."""
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        return "", ""
    body = body if isinstance(body, dict) else {}
    error = body.get("error") or body
    error = error if isinstance(error, dict) else {"message": error}
    said, param = error.get("message") or error.get("detail"), error.get("param")
    return said if isinstance(said, str) else "", param if isinstance(param, str) else ""


def moved_to(location: str | None) -> str:
    """Where a redirect points, without a name, key or query in it. It is not followed: the key stays where it is."""
    try:
        parts = urlsplit(location or "")
        place = f"{parts.scheme}://{parts.hostname}" if parts.hostname else ""
        place += f":{parts.port}" if parts.port else ""
    except ValueError:
        return ""
    shown = (place + parts.path).removesuffix("/chat/completions")[:MAX_LOCATION]
    return f"it points to {shown!r}; correct the address" if shown else ""


def retry_after(value: str | None) -> float | None:
    """Seconds to wait that a Retry-After header asks for, as a number or as a date; None where it says nothing."""
    if value is None:
        return None
    try:
        return max(0.0, float(value)) if value.strip().replace(".", "", 1).isdigit() else seconds_until(value)
    except (ValueError, TypeError, OverflowError):
        return None


def seconds_until(date: str) -> float:
    """Seconds until an HTTP date; 0 for one that is past."""
    return max(0.0, email.utils.parsedate_to_datetime(date).timestamp() - time.time())
