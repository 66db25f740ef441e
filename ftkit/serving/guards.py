"""What every request passes: the name it was sent to, the page that sent it, its type and its size.

app.add_middleware(Guard, host="127.0.0.1", policy="default-src 'none'")

A browser sends requests to this machine on behalf of any page. A page from elsewhere can't set Host or Origin: a name
that is bound to this address for a moment (DNS rebinding) gives itself away by Host, another site's form by Origin.
"""

import ipaddress
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

MAX_BODY_BYTES = 1_000_000
LOCAL_NAME = "localhost"
HEADERS = {  # of every answer
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}
CHANGES = ("POST", "PUT", "PATCH", "DELETE")

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Refused(Exception):
    """A request that is not answered. status: of HTTP."""

    def __init__(self, status: int, reason: str):
        super().__init__(reason)
        self.status = status


def error_body(message: str, kind: str = "invalid_request_error", param: str | None = None, code=None) -> dict:
    """An error in the form that OpenAI's clients read."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


class Guard:
    """An ASGI app around another one, which sees only requests that were meant for it.

    host: that the server listens at, the only name beside localhost that may be asked for. policy: the
    Content-Security-Policy of every answer.
    """

    def __init__(self, app, *, host: str, policy: str, max_body_bytes: int = MAX_BODY_BYTES):
        self.app, self.host, self.max_body_bytes = app, host, max_body_bytes
        self.headers = [
            (name.encode(), text.encode()) for name, text in {**HEADERS, "content-security-policy": policy}.items()
        ]

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *self.headers]
            await send(message)

        try:
            check_request(scope, self.host)
            messages = await self.request(scope, receive)
        except Refused as refused:
            await answer(send_guarded, refused)
            return

        async def receive_whole() -> Message:
            return messages.pop(0) if messages else await receive()

        await self.app(scope, receive_whole, send_guarded)

    async def request(self, scope: Message, receive: Receive) -> list[Message]:
        """The messages of a request with its whole body. Raises Refused for one over the limit, announced or not."""
        too_large = Refused(413, f"the body is larger than {self.max_body_bytes:,} bytes")
        announced = header(scope, "content-length")
        if announced is not None and (not announced.isdecimal() or int(announced) > self.max_body_bytes):
            raise too_large
        messages, size, is_open = [], 0, True
        while is_open:
            messages.append(await receive())
            size += len(messages[-1].get("body", b""))
            is_open = messages[-1].get("more_body", False)
            if size > self.max_body_bytes:
                raise too_large
        return messages


async def answer(send: Send, refused: Refused) -> None:
    """Send a refusal; the connection ends, as the body of the request may not have been read."""
    body = json.dumps(error_body(str(refused))).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def check_request(scope: Message, host: str) -> None:
    """Raise Refused for a request to another name, from another site, or whose body is no JSON."""
    asked = header(scope, "host")
    if asked is None or not is_own_name(asked, host):
        raise Refused(421, "the Host of this request is not this server; use its address as it was printed")
    origin = header(scope, "origin")
    if origin is not None and origin != f"{scope.get('scheme', 'http')}://{asked}":
        raise Refused(403, "this request comes from another site")
    if scope["method"] in CHANGES:
        if header(scope, "sec-fetch-site") not in (None, "same-origin", "none"):
            raise Refused(403, "this request comes from another site")
        if (header(scope, "content-type") or "").partition(";")[0].strip().lower() != "application/json":
            raise Refused(415, "send JSON, with Content-Type: application/json")


def header(scope: Message, name: str) -> str | None:
    """The one header of a name, None where there is none. Raises Refused for several."""
    found = [value for key, value in scope["headers"] if key == name.encode()]
    if len(found) > 1:
        raise Refused(400, f"the header {name} is there {len(found)} times")
    return found[0].decode("latin-1") if found else None


def is_own_name(asked: str, host: str) -> bool:
    """Whether a Host header names the server that listens at `host`: by localhost, by that name, or by an address, of
    which a server that listens at a loopback address has only such."""
    try:
        name = urlsplit(f"//{asked}").hostname or ""
    except ValueError:
        return False
    if name in (LOCAL_NAME, host.lower().strip("[]")):
        return True
    address = address_of(name)
    return address is not None and (address.is_loopback or not is_loopback(host))


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server at `host`."""
    address = address_of(host)
    return host == LOCAL_NAME or address is not None and address.is_loopback


def address_of(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The IP address that a name is; None for any other name."""
    try:
        return ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return None
