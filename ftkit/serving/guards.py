"""What every request passes: the name it was sent to, the page that sent it, its key, its type, its size, its JSON.

app.add_middleware(Guard, host="127.0.0.1", policy="default-src 'none'", keys=Keys(api_key))

A browser sends requests to this machine on behalf of any page. A page from elsewhere can't set Host or Origin: a name
that is bound to this address for a moment (DNS rebinding) gives itself away by Host, another site's form by Origin.
"""

import asyncio
import json
from collections.abc import Collection
from pathlib import Path

from ftkit.serving.keys import Keys
from ftkit.serving.local_names import is_own_name
from ftkit.serving.refusals import Message, Receive, Refused, Send, answer, header

MAX_BODY_BYTES = 1_000_000
MAX_DEPTH = 100  # of JSON
BODY_SECONDS = 30  # for a whole body to come
HEADERS = {  # of every answer
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}
METHODS = "GET, HEAD, POST, DELETE, OPTIONS"
WITH_BODY = ("POST", "PUT", "PATCH")
CHANGES = (*WITH_BODY, "DELETE")
ELSEWHERE = "this request comes from another site"


class Guard:
    """An ASGI app around another one, which sees only requests that were meant for it.

    host: that the server listens at, the only name beside localhost that may be asked for. policy: the
    Content-Security-Policy of every answer. keys: that requests must bring. origins: of other sites whose pages may
    ask, such as "https://chat.example".
    """

    def __init__(
        self, app, *, host: str, policy: str, keys: Keys | None = None, origins: Collection[str] = (),
        max_body_bytes: int = MAX_BODY_BYTES,
    ):  # fmt: skip
        self.app, self.host, self.max_body_bytes = app, host, max_body_bytes
        self.keys, self.origins = keys or Keys(), frozenset(origins)
        self.headers = encoded({**HEADERS, "content-security-policy": policy})

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
                message["headers"] = [*message.get("headers", ()), *self.headers, *self.sharing(scope)]
            await send(message)

        try:
            check_request(scope, self.host, self.origins)
            if scope["method"] == "OPTIONS":  # which a browser asks without a key
                await send_guarded(
                    {"type": "http.response.start", "status": 204, "headers": encoded({"allow": METHODS})}
                )
                await send_guarded({"type": "http.response.body"})
                return
            self.keys.check(scope)
            messages = await asyncio.wait_for(self.request(scope, receive), BODY_SECONDS)
        except asyncio.TimeoutError:
            await answer(send_guarded, Refused(408, f"the body did not come within {BODY_SECONDS} seconds"))
            return
        except Refused as refused:
            await answer(send_guarded, refused)
            return

        async def receive_whole() -> Message:
            return messages.pop(0) if messages else await receive()

        inner = {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope  # the server leaves out the body
        await self.app(inner, receive_whole, send_guarded)

    def sharing(self, scope: Message) -> list[tuple[bytes, bytes]]:
        """Headers by which a browser lets an allowed site's page read the answer."""
        origin = dict(scope["headers"]).get(b"origin", b"").decode("latin-1")
        if origin not in self.origins:
            return []
        allowed = {"access-control-allow-origin": origin, "vary": "Origin"}
        if scope["method"] == "OPTIONS":
            allowed |= {
                "access-control-allow-methods": METHODS, "access-control-max-age": "600",
                "access-control-allow-headers": "authorization, content-type",
            }  # fmt: skip
        return encoded(allowed)

    async def request(self, scope: Message, receive: Receive) -> list[Message]:
        """The messages of a request with its whole body. Raises Refused for one over the limit, announced or not, and
        for what is no JSON."""
        too_large = Refused(413, f"the body is larger than {self.max_body_bytes:,} bytes")
        announced = header(scope, "content-length")
        if announced is not None and (not announced.isdecimal() or int(announced[:20]) > self.max_body_bytes):
            raise too_large
        messages, size, is_open = [], 0, True
        while is_open:
            messages.append(await receive())
            size += len(messages[-1].get("body", b""))
            is_open = messages[-1].get("more_body", False)
            if size > self.max_body_bytes:
                raise too_large
        if scope["method"] in CHANGES and messages[-1]["type"] == "http.request":
            check_json(b"".join(message.get("body", b"") for message in messages))
        return messages


def encoded(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    """Headers as an ASGI server takes them."""
    return [(name.encode(), text.encode("latin-1")) for name, text in headers.items()]


def check_json(body: bytes) -> None:
    """Raise Refused for a body that holds what JSON can't: NaN, infinities, halves of a character; or nests too deep.

    What is no JSON at all is left to the route, which says where.
    """
    try:
        value = json.loads(body)
    except RecursionError as error:
        raise Refused(400, f"the JSON is nested more than {MAX_DEPTH} deep") from error
    except ValueError:
        return
    level, depth = [value], 0
    while level := [inner for outer in level for inner in children(outer)]:
        depth += 1
        if depth >= MAX_DEPTH:
            raise Refused(400, f"the JSON is nested more than {MAX_DEPTH} deep")
    try:
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise Refused(400, "a text holds half of a character, an unpaired surrogate; send whole ones") from error
    except ValueError as error:
        raise Refused(400, "the JSON holds NaN or an infinite number, which JSON can't; send a finite one") from error


def children(value) -> Collection:
    """What a JSON value holds."""
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def check_request(scope: Message, host: str, origins: Collection[str] = ()) -> None:
    """Raise Refused for a request to another name, from another site, or whose body is no JSON."""
    asked = header(scope, "host")
    if asked is None or not is_own_name(asked, host):
        raise Refused(421, "the Host of this request is not this server; use its address as it was printed")
    origin = header(scope, "origin")
    if origin is not None and origin not in origins and origin != f"{scope.get('scheme', 'http')}://{asked}":
        raise Refused(403, ELSEWHERE)
    if scope["method"] in CHANGES and origin not in origins:
        if header(scope, "sec-fetch-site") not in (None, "same-origin", "none"):
            raise Refused(403, ELSEWHERE)
    if scope["method"] in WITH_BODY and has_body(scope):
        if (header(scope, "content-type") or "").partition(";")[0].strip().lower() != "application/json":
            raise Refused(415, "send JSON, with Content-Type: application/json")


def has_body(scope: Message) -> bool:
    """Whether a request has more than headers."""
    return header(scope, "transfer-encoding") is not None or header(scope, "content-length") not in (None, "0")


def path_below(folder: str | Path, path: str) -> Path:
    """The path that a request names, absolute or below the folder. Raises Refused for one that leads out of it."""
    root = Path(folder).resolve()
    try:
        found = (root / path).resolve()
        found.exists()
    except (OSError, ValueError, RuntimeError) as error:  # too long, a NUL, a circle of links
        raise Refused(403, "this path is not below the registry folder of the server") from error
    if root not in found.parents:
        raise Refused(403, "this path is not below the registry folder of the server")
    return found
