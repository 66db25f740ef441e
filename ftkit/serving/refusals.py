"""What refuses a request before a route sees it: the error in OpenAI's form, and the headers that are looked at."""

import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

INVALID = "invalid_request_error"
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Refused(Exception):
    """A request that is not answered. status: of HTTP. code: of the error. headers: of the answer."""

    def __init__(self, status: int, reason: str, code: str | None = None, headers: Mapping[str, str] | None = None):
        super().__init__(reason)
        self.status, self.code, self.headers = status, code, dict(headers or {})


def error_body(message: str, kind: str = INVALID, param: str | None = None, code=None) -> dict:
    """An error in the form that OpenAI's clients read."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def kind_of(status: int) -> str:
    """The type of an error: LiteLLM takes every invalid_request_error for a 400, and asks no second time."""
    return {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}.get(status, INVALID)


async def answer(send: Send, refused: Refused) -> None:
    """Send a refusal; the connection ends, as the body of the request may not have been read."""
    body = json.dumps(error_body(str(refused), kind_of(refused.status), code=refused.code)).encode()
    headers = {
        "content-type": "application/json", "content-length": str(len(body)), "connection": "close", **refused.headers,
    }  # fmt: skip
    encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": refused.status, "headers": encoded})
    await send({"type": "http.response.body", "body": body})


def header(scope: Message, name: str) -> str | None:
    """The one header of a name, None where there is none. Raises Refused for several."""
    found = [value for key, value in scope["headers"] if key == name.encode()]
    if len(found) > 1:
        raise Refused(400, f"the header {name} is there {len(found)} times")
    return found[0].decode("latin-1") if found else None
