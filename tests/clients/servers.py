"""Servers as processes of their own: `ftkit serve`, and `transformers serve`, each until the end of a `with`."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

START_SECONDS = 300


def free_port() -> int:
    """One that nothing listens at now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@contextlib.contextmanager
def running(command: Sequence[str], port: int, log: Path, **env: str) -> Iterator[subprocess.Popen]:
    """A server, once it answers /health; ended with all its children."""
    with open(log, "w") as written:
        server = subprocess.Popen(
            command,
            env=os.environ | {"HF_HUB_OFFLINE": "1"} | env,
            stdout=written,
            stderr=written,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while True:
            assert server.poll() is None and time.monotonic() < deadline, log.read_text()[-3000:]
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                break
            time.sleep(0.3)
        yield server
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait(timeout=30)


@contextlib.contextmanager
def ftkit_serve(log: Path, *flags: str, **env: str) -> Iterator[tuple[str, subprocess.Popen]]:
    """(address, process) of `ftkit serve`."""
    port = free_port()
    with running([sys.executable, "-m", "ftkit", "serve", "--port", str(port), *flags], port, log, **env) as server:
        yield f"http://127.0.0.1:{port}", server


@contextlib.contextmanager
def transformers_serve(folder: str, home: Path) -> Iterator[str]:
    """The address of `transformers serve` of one model."""
    port = free_port()
    (home / "hub").mkdir(parents=True)  # without it /v1/models is an error
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", folder]
    command += ["--device", "cpu", "--dtype", "float32", "--host", "127.0.0.1", "--port", str(port)]
    with running(command, port, home / "server.log", HF_HOME=str(home)):
        yield f"http://127.0.0.1:{port}"
