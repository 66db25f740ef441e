"""An OpenAI-compatible server on 127.0.0.1 that misbehaves as it is told, over real HTTP.

with EndpointStandIn() as server:
    server.behave = lambda number, body: "42"  # of the n-th request, from 0
"""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

DRIP_SECONDS, NUM_DRIPS = 0.05, 200


@dataclass
class Fault:
    """Something other than an answer. status: with headers; raw: this body instead of a completion.

    hang_seconds: silence first. half: the connection closes in the middle of the body. drop: it closes at once.
    drip: the body comes byte by byte, each in time for a client that only watches the silence between bytes.
    """

    status: int = 200
    headers: dict = field(default_factory=dict)
    raw: bytes | None = None
    hang_seconds: float = 0.0
    half: bool = False
    drop: bool = False
    drip: bool = False


class EndpointStandIn:
    """The server. `requests` lists (path, headers, body) in the order they came; `most_at_once` counts open requests."""

    def __init__(self):
        self.behave: Callable[[int, dict], str | Fault] = lambda number, body: "ok"
        self.requests: list[tuple[str, dict, dict]] = []
        self.times: list[float] = []
        self.most_at_once = self._open = 0
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.stand_in = self
        self._server.handle_error = lambda *_: None  # a client that left is no error here
        self.connections: list[socket.socket] = []
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> "EndpointStandIn":
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self.die()

    def die(self) -> None:
        """Close every connection and stop listening; connections are refused from now on."""
        self._server.shutdown()
        self._server.server_close()
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def note(self, path: str, headers: dict, body: dict) -> int:
        """Record a request; return its number."""
        with self._lock:
            self.requests.append((path, headers, body))
            self.times.append(time.monotonic())
            self._open += 1
            self.most_at_once = max(self.most_at_once, self._open)
            return len(self.requests) - 1

    def close_one(self) -> None:
        with self._lock:
            self._open -= 1


def completion(text: str, prompt_tokens: int = 7, completion_tokens: int = 2) -> bytes:
    """A chat completion as OpenAI's API writes it."""
    usage = {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens}
    message = {"role": "assistant", "content": text}
    return json.dumps({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage}).encode()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def setup(self):
        super().setup()
        self.server.stand_in.connections.append(self.connection)

    def log_message(self, *_):
        pass

    def do_POST(self):
        stand_in = self.server.stand_in
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        number = stand_in.note(self.path, dict(self.headers), body)
        try:
            self.answer(stand_in.behave(number, body))
        except (BrokenPipeError, ConnectionResetError):
            pass
        finally:
            stand_in.close_one()

    def answer(self, found: str | Fault) -> None:
        fault = found if isinstance(found, Fault) else Fault(raw=completion(found))
        time.sleep(fault.hang_seconds)
        content = completion("late") if fault.raw is None else fault.raw
        if fault.drop:
            self.close_connection = True
            return
        self.send_response(fault.status)
        for name, value in fault.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(NUM_DRIPS if fault.drip else len(content)))
        self.end_headers()
        if fault.drip:
            for _ in range(NUM_DRIPS):
                self.wfile.write(b" ")
                self.wfile.flush()
                time.sleep(DRIP_SECONDS)
        else:
            self.wfile.write(content[: len(content) // 2] if fault.half else content)
        self.close_connection = self.close_connection or fault.half
