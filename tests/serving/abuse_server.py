"""A whole server on the bundled base, in this process, and a socket to send it what no client would."""

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

BASE = "base"
URL = "http://127.0.0.1:8100"


def app_and_batcher(registry: Path):
    """The app with keys and limits, and its batcher. registry: folder of adapters, with a link out of it."""
    from ftkit.inference.asking import ModelSettings
    from ftkit.inference.batching.batcher import Batcher
    from ftkit.inference.batching.request import Limits
    from ftkit.serving.api import serving_app
    from ftkit.serving.keys import Keys

    (registry / "first").mkdir()
    os.symlink("/etc", registry / "link")
    batcher = Batcher.load(ModelSettings(BASE, template="chatml", dtype="float32"), Limits(num_slots=4, max_waiting=8))
    return serving_app(batcher, "127.0.0.1", keys=Keys("user", "admin"), seconds=20, registry=registry), batcher


def chat_body(**fields) -> dict:
    """A small request, with these fields changed."""
    return {"model": BASE, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2, "temperature": 0} | fields


@contextlib.contextmanager
def running(app) -> Iterator[str]:
    """The app behind a socket of its own; "127.0.0.1:PORT"."""
    import uvicorn

    from ftkit.serving.app import listen, server_config

    with listen("127.0.0.1", 0) as listener:
        server = uvicorn.Server(server_config(app))
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(10)


def raw(host: str, sent: bytes, *, seconds: float = 20) -> bytes:
    """The first part of what comes back; nothing where that takes longer, or the connection ends without it."""
    name, port = host.split(":")
    with socket.create_connection((name, int(port)), timeout=seconds) as connection:
        try:
            connection.sendall(sent)
            return connection.recv(65536)
        except (TimeoutError, ConnectionResetError, BrokenPipeError):
            return b""
