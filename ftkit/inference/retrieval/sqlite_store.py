"""Passages, their words and their vectors in one SQLite file: FTS5's BM25, and a scan of all vectors, block by block.

store = SqliteStore.open(Path("X/index.sqlite"), writable=True)

Vectors lie in blocks of some hundred, so a scan reads the file in order and holds one block at a time. It needs no
extension: Python is often built without the means to load one.
"""

import re
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import numpy as np

from ftkit.config.errors import UserError
from ftkit.data.index.passages import Passage, heading_of
from ftkit.inference.retrieval.ranking import Scored, best
from ftkit.inference.retrieval.stores import BATCH, Embed, Store

WORD = re.compile(r"\w+")
MAX_WORDS = 64  # of a question that are searched for
WAIT_SECONDS = 30  # for another process that writes
COLUMNS = "id, text, source, title, heading, start, stop"
SCHEMA = """
CREATE TABLE files (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, digest TEXT NOT NULL);
CREATE TABLE passages (
  number INTEGER PRIMARY KEY AUTOINCREMENT, file INTEGER NOT NULL, id TEXT NOT NULL, text TEXT NOT NULL,
  source TEXT NOT NULL, title TEXT NOT NULL, heading TEXT NOT NULL, start INTEGER NOT NULL, stop INTEGER NOT NULL,
  searched TEXT NOT NULL);
CREATE INDEX passages_of_file ON passages (file);
CREATE TABLE vectors (first INTEGER PRIMARY KEY, file INTEGER NOT NULL, block BLOB NOT NULL);
CREATE INDEX vectors_of_file ON vectors (file);
CREATE VIRTUAL TABLE words USING fts5 (
  searched, text, content='passages', content_rowid='number', tokenize='porter unicode61');
"""


class SqliteStore(Store):
    """An open file. Threads may share it: each call holds it alone."""

    def __init__(self, path: Path, connection: sqlite3.Connection):
        self.path, self.connection, self.lock = path, connection, threading.RLock()

    @classmethod
    def open(cls, path: Path, *, writable: bool = False) -> "SqliteStore":
        """Open a file; a writable one is made where there is none. Raises UserError for a file that is no index."""
        if not writable and not path.is_file():
            raise UserError(f"{path}: no such file; make it with ftkit index")
        is_new = not path.is_file() or not path.stat().st_size
        mode = "rwc" if writable else "ro"
        uri = f"{path.absolute().as_uri()}?mode={mode}"
        connection = sqlite3.connect(uri, uri=True, timeout=WAIT_SECONDS, check_same_thread=False, isolation_level=None)
        store = cls(path, connection)
        with store.held():
            connection.execute("PRAGMA trusted_schema = OFF")
            if is_new:
                connection.executescript(f"BEGIN;{SCHEMA}COMMIT;")
            connection.execute("SELECT number FROM passages LIMIT 1")
        return store

    @contextmanager
    def held(self) -> Iterator[sqlite3.Connection]:
        """The connection, for one thread; what SQLite says of the file is a person's mistake."""
        with self.lock:
            try:
                yield self.connection
            except sqlite3.DatabaseError as error:
                raise UserError(f"{self.path}: not a readable index ({error}); make it again") from error

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction."""
        with self.held() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")

    def digests(self) -> dict[str, str]:
        with self.held() as connection:
            return dict(connection.execute("SELECT name, digest FROM files"))

    def replace(self, name: str, digest: str, passages: Iterable[Passage], embed: Embed | None) -> int:
        with self.writing() as connection:
            forget(connection, name)
            cursor = connection.execute("INSERT INTO files (name, digest) VALUES (?, ?)", (name, digest))
            file, total, source = cursor.lastrowid, 0, iter(passages)
            while batch := list(islice(source, BATCH)):
                first = None
                for one in batch:
                    number = insert(connection, file, one)
                    first = number if first is None else first
                if embed:
                    block = np.ascontiguousarray(embed(batch), dtype="<f4").tobytes()
                    connection.execute(
                        "INSERT INTO vectors (first, file, block) VALUES (?, ?, ?)", (first, file, block)
                    )
                total += len(batch)
        return total

    def remove(self, names: Iterable[str]) -> None:
        with self.writing() as connection:
            for name in names:
                forget(connection, name)

    def clear(self) -> None:
        self.remove(list(self.digests()))

    def by_words(self, question: str, top_k: int) -> list[Scored]:
        words = list(dict.fromkeys(WORD.findall(question.lower())))[:MAX_WORDS]
        if not words:
            return []
        asked = " OR ".join(f'"{word}"' for word in words)
        with self.held() as connection:
            found = connection.execute(
                "SELECT rowid, -rank FROM words WHERE words MATCH ? ORDER BY rank, rowid LIMIT ?", (asked, top_k)
            )
            return list(found)

    def by_vector(self, vector: np.ndarray, top_k: int) -> list[Scored]:
        asked, kept = np.asarray(vector, dtype=np.float32), []
        with self.held() as connection:
            for first, block in connection.execute("SELECT first, block FROM vectors ORDER BY first"):
                vectors = np.frombuffer(block, dtype="<f4").reshape(-1, len(asked))
                scores = vectors @ asked
                places = np.argpartition(-scores, top_k - 1)[:top_k] if len(scores) > top_k else np.arange(len(scores))
                kept += [(first + int(place), float(scores[place])) for place in places]
                if len(kept) > 64 * top_k:
                    kept = best(kept, top_k)
        return best(kept, top_k)

    def get(self, numbers: Sequence[int]) -> list[Passage]:
        with self.held() as connection:
            marks = ", ".join("?" * len(numbers))
            rows = connection.execute(f"SELECT number, {COLUMNS} FROM passages WHERE number IN ({marks})", numbers)
            found = {number: Passage(*row) for number, *row in rows}
        return [found[number] for number in numbers]

    def passages(self) -> Iterator[Passage]:
        last = -1
        while True:
            with self.held() as connection:
                rows = connection.execute(
                    f"SELECT number, {COLUMNS} FROM passages WHERE number > ? ORDER BY number LIMIT ?", (last, BATCH)
                ).fetchall()
            if not rows:
                return
            yield from (Passage(*row) for _, *row in rows)
            last = rows[-1][0]

    def count(self) -> int:
        with self.held() as connection:
            return connection.execute("SELECT count(*) FROM passages").fetchone()[0]

    def close(self) -> None:
        self.connection.close()


def insert(connection: sqlite3.Connection, file: int | None, one: Passage) -> int | None:
    """Add a passage and its words; return its number."""
    heading = heading_of(one)
    row = (file, one.id, one.text, one.source, one.title, one.heading, one.start, one.end, heading)
    marks = ", ".join("?" * len(row))
    added = connection.execute(f"INSERT INTO passages (file, {COLUMNS}, searched) VALUES ({marks})", row).lastrowid
    connection.execute("INSERT INTO words (rowid, searched, text) VALUES (?, ?, ?)", (added, heading, one.text))
    return added


def forget(connection: sqlite3.Connection, name: str) -> None:
    """Remove a file with all that is held of it."""
    for (number,) in connection.execute("SELECT number FROM files WHERE name = ?", (name,)).fetchall():
        connection.execute(
            "INSERT INTO words (words, rowid, searched, text) "
            "SELECT 'delete', number, searched, text FROM passages WHERE file = ?", (number,),
        )  # fmt: skip
        for table in ("passages", "vectors"):
            connection.execute(f"DELETE FROM {table} WHERE file = ?", (number,))
        connection.execute("DELETE FROM files WHERE number = ?", (number,))
