"""SHA-256 of a checkpoint's files, taken and synced while others are still being written.

    with Hashes() as hashes:
        ...                                # weights are written
        hashes.begin(folder)               # of all files that are there
        with hashes.following(optimizer):  # of a file that grows at its end alone
            ...
        hashes.digest(path)

Hashing leaves the interpreter to others, so it hides behind the writing as long as a core is free.
"""

import contextlib
import hashlib
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

BLOCK_BYTES = 1 << 20
WAIT_SECONDS = 0.005  # for more of a file


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


class Hashes:
    """Digests that are on their way. One is used only where its file is still as it was when it was read to its end."""

    def __init__(self):
        self.pool = ThreadPoolExecutor(max_workers=2)
        self.begun: dict[Path, Future] = {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.pool.shutdown()

    def begin(self, folder: Path) -> None:
        """Begin with all files of a folder, which are written to their ends."""
        written = threading.Event()
        written.set()
        for path in folder.rglob("*"):
            if path.is_file() and path not in self.begun:
                self.begun[path] = self.pool.submit(follow, path, written)

    @contextlib.contextmanager
    def following(self, path: Path) -> Iterator[None]:
        """Hash what the body writes into a file, which must only grow at its end, as far as it has come."""
        written = threading.Event()
        self.begun[path] = self.pool.submit(follow, path, written)
        try:
            yield
        finally:
            written.set()

    def digest(self, path: Path) -> str:
        """SHA-256 of a file as it is now."""
        if path in self.begun:
            stamp, digest = self.begun[path].result()
            if stamp == stamp_of(path):
                return digest
        return sha256_of(path)


def follow(path: Path, written: threading.Event) -> tuple[tuple[int, int], str]:
    """(stamp, SHA-256) of a file when it is written to its end and on disk; of an empty one where there is none."""
    digest = hashlib.sha256()
    while not path.exists():
        if written.is_set():
            return (0, 0), digest.hexdigest()
        time.sleep(WAIT_SECONDS)
    with path.open("rb") as file:
        while True:
            is_last = written.is_set()
            while block := file.read(BLOCK_BYTES):
                digest.update(block)
            if is_last:
                break
            time.sleep(WAIT_SECONDS)
        os.fsync(file.fileno())
        return stamp_of(path), digest.hexdigest()


def stamp_of(path: Path) -> tuple[int, int]:
    """Size and moment of the last write."""
    found = path.stat()
    return found.st_size, found.st_mtime_ns
