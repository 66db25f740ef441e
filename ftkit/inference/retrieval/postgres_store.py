"""Passages on a PostgreSQL server: its full-text search, and with pgvector an index over their vectors.

store = PostgresStore.open("postgresql://me@host/db", "ftkit_docs_1a2b3c4d", writable=True)

Words are ranked by ts_rank_cd, which is no BM25: it knows how often and how near words stand, not how rare they are.
Near vectors are found by pgvector's HNSW, which may miss a few. Without an encoder no pgvector is needed.
Passwords come from the address, PGPASSWORD or ~/.pgpass, and are written nowhere. Needs psycopg:
pip install 'ftkit[rag]'.
"""

import re
import threading
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from ftkit.config.errors import UserError, first_line
from ftkit.data.index.passages import Passage, heading_of
from ftkit.inference.retrieval.ranking import Scored
from ftkit.inference.retrieval.stores import BATCH, Embed, Store

SCHEMES = ("postgresql", "postgres")
TABLE = re.compile(r"ftkit_[a-z0-9_]{1,40}")
WORD = re.compile(r"\w+")
MAX_WORDS = 64  # of a question that are searched for
CONNECT_SECONDS = 15
COLUMNS = "id, text, source, title, heading, start, stop"
NO_NUL = str.maketrans("\0", " ")  # a text of PostgreSQL holds none
SCHEMA = """
CREATE TABLE IF NOT EXISTS {table}_files (
  number BIGSERIAL PRIMARY KEY, name TEXT NOT NULL UNIQUE, digest TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS {table} (
  number BIGSERIAL PRIMARY KEY, file BIGINT NOT NULL REFERENCES {table}_files ON DELETE CASCADE, id TEXT NOT NULL,
  text TEXT NOT NULL, source TEXT NOT NULL, title TEXT NOT NULL, heading TEXT NOT NULL, start BIGINT NOT NULL,
  stop BIGINT NOT NULL, words TSVECTOR NOT NULL);
CREATE INDEX IF NOT EXISTS {table}_of_file ON {table} (file);
CREATE INDEX IF NOT EXISTS {table}_words ON {table} USING GIN (words);
"""
VECTORS = """
CREATE EXTENSION IF NOT EXISTS vector;
CREATE TABLE IF NOT EXISTS {table}_vectors (
  number BIGINT PRIMARY KEY REFERENCES {table} ON DELETE CASCADE, embedding VECTOR({size}) NOT NULL);
"""
NEAR = "CREATE INDEX IF NOT EXISTS {table}_near ON {table}_vectors USING hnsw (embedding vector_cosine_ops)"
MAX_NEAR_SIZE = 2000  # numbers of a vector that pgvector makes such an index of; longer ones are scanned
CANDIDATES = 1000  # at most that pgvector's index looks at


class PostgresStore(Store):
    """An open connection. Threads may share it: each call holds it alone."""

    def __init__(self, address: str, table: str, connection: Any):
        self.address, self.table, self.connection, self.lock = address, table, connection, threading.RLock()
        self.size = 0  # of the vectors, once a table for them is made

    @classmethod
    def open(cls, address: str, table: str, *, writable: bool = False) -> "PostgresStore":
        """Connect; the tables are made where they are missing and may be written.

        Raises UserError without psycopg, and for a server that can't be reached, refuses, or lacks pgvector.
        """
        shown = without_password(address)
        if not TABLE.fullmatch(table):
            raise UserError(f'{shown}: "{table}" is no table of an index; make the index again')
        try:
            import psycopg
        except ImportError as error:
            raise UserError("--store postgresql://... needs psycopg; pip install 'ftkit[rag]'") from error
        try:
            connection = psycopg.connect(address, autocommit=True, connect_timeout=CONNECT_SECONDS)
        except psycopg.Error as error:
            raise UserError(
                f"{shown}: can't connect ({first_line(error)}); check the address and PGPASSWORD"
            ) from error
        store = cls(shown, table, connection)
        with store.held():
            if writable:
                connection.execute(SCHEMA.format(table=table))
            connection.execute(f"SELECT number FROM {table} LIMIT 1")
        return store

    @contextmanager
    def held(self) -> Iterator[Any]:
        """The connection, for one thread; what the server says is one line."""
        import psycopg

        with self.lock:
            try:
                yield self.connection
            except psycopg.errors.UndefinedTable as error:
                raise UserError(f"{self.address}: holds no table {self.table}; run ftkit index again") from error
            except psycopg.Error as error:
                fix = "install pgvector there" if "vector" in first_line(error) else "check the server"
                raise UserError(f"{self.address}: {first_line(error)}; {fix}") from error

    def digests(self) -> dict[str, str]:
        with self.held() as connection:
            return dict(connection.execute(f"SELECT name, digest FROM {self.table}_files").fetchall())

    def replace(self, name: str, digest: str, passages: Iterable[Passage], embed: Embed | None) -> int:
        total, source = 0, iter(passages)
        with self.held() as connection, connection.transaction():
            connection.execute(f"DELETE FROM {self.table}_files WHERE name = %s", (name,))
            added = connection.execute(
                f"INSERT INTO {self.table}_files (name, digest) VALUES (%s, %s) RETURNING number", (name, digest)
            )
            (file,) = added.fetchone()
            while batch := list(islice(source, BATCH)):
                self._insert(connection, file, batch, embed(batch) if embed else None)
                total += len(batch)
        return total

    def _insert(self, connection: Any, file: int, batch: list[Passage], vectors: np.ndarray | None) -> None:
        """Add some passages of a file."""
        with connection.cursor() as cursor:
            cursor.executemany(
                f"INSERT INTO {self.table} (file, {COLUMNS}, words) VALUES "
                "(%s, %s, %s, %s, %s, %s, %s, %s, to_tsvector('english', %s)) RETURNING number",
                [row_of(file, one) for one in batch], returning=True,
            )  # fmt: skip
            numbers = [cursor.fetchone()[0]]
            while cursor.nextset():
                numbers.append(cursor.fetchone()[0])
            if vectors is None:
                return
            size = vectors.shape[1]
            if self.size != size:
                connection.execute(VECTORS.format(table=self.table, size=size))
                if size <= MAX_NEAR_SIZE:
                    connection.execute(NEAR.format(table=self.table))
                self.size = size
            cursor.executemany(
                f"INSERT INTO {self.table}_vectors (number, embedding) VALUES (%s, %s::vector)",
                list(zip(numbers, map(vector_text, vectors), strict=True)),
            )

    def remove(self, names: Iterable[str]) -> None:
        with self.held() as connection:
            connection.execute(f"DELETE FROM {self.table}_files WHERE name = ANY(%s)", (list(names),))

    def clear(self) -> None:
        with self.held() as connection:
            connection.execute(f"DROP TABLE IF EXISTS {self.table}_vectors")  # others may be longer
            connection.execute(f"TRUNCATE {self.table}, {self.table}_files")
        self.size = 0

    def by_words(self, question: str, top_k: int) -> list[Scored]:
        words = list(dict.fromkeys(WORD.findall(question.lower())))[:MAX_WORDS]
        if not words:
            return []
        with self.held() as connection:
            found = connection.execute(
                "WITH asked AS (SELECT string_agg(plainto_tsquery('english', word)::text, ' | ')::tsquery AS query "
                "FROM unnest(%s::text[]) AS word WHERE plainto_tsquery('english', word)::text <> '') "
                f"SELECT number, ts_rank_cd(words, query, 1) AS score FROM {self.table}, asked WHERE words @@ query "
                "ORDER BY score DESC, number LIMIT %s", (words, top_k),
            )  # fmt: skip
            return [(number, float(score)) for number, score in found.fetchall()]

    def by_vector(self, vector: np.ndarray, top_k: int) -> list[Scored]:
        asked = vector_text(vector)
        with self.held() as connection, connection.transaction():
            connection.execute(f"SET LOCAL hnsw.ef_search = {min(CANDIDATES, max(2 * top_k, 100))}")
            found = connection.execute(
                f"SELECT number, 1 - (embedding <=> %s::vector) FROM {self.table}_vectors "
                "ORDER BY embedding <=> %s::vector LIMIT %s", (asked, asked, top_k),
            )  # fmt: skip
            return [(number, float(score)) for number, score in found.fetchall()]

    def get(self, numbers: Sequence[int]) -> list[Passage]:
        with self.held() as connection:
            rows = connection.execute(
                f"SELECT number, {COLUMNS} FROM {self.table} WHERE number = ANY(%s)", (list(numbers),)
            ).fetchall()
        found = {number: Passage(*row) for number, *row in rows}
        return [found[number] for number in numbers]

    def passages(self) -> Iterator[Passage]:
        last = -1
        while True:
            with self.held() as connection:
                rows = connection.execute(
                    f"SELECT number, {COLUMNS} FROM {self.table} WHERE number > %s ORDER BY number LIMIT %s",
                    (last, BATCH),
                ).fetchall()
            if not rows:
                return
            yield from (Passage(*row) for _, *row in rows)
            last = rows[-1][0]

    def count(self) -> int:
        with self.held() as connection:
            return connection.execute(f"SELECT count(*) FROM {self.table}").fetchone()[0]

    def close(self) -> None:
        self.connection.close()


def row_of(file: int, one: Passage) -> tuple:
    """A passage as a row of the table."""
    texts = [text.translate(NO_NUL) for text in (one.id, one.text, one.source, one.title, one.heading)]
    return (file, *texts, one.start, one.end, f"{heading_of(one)}\n{one.text}".translate(NO_NUL))


def vector_text(vector: np.ndarray) -> str:
    """A vector as pgvector reads it."""
    return "[" + ",".join(f"{value:.8g}" for value in vector.tolist()) + "]"


def without_password(address: str) -> str:
    """An address as it may be shown and kept. Raises UserError for one that is no server's."""
    parts = urlsplit(address)
    if parts.scheme not in SCHEMES:
        raise UserError("--store takes the address of a server: postgresql://USER@HOST/DATABASE")
    place = parts.netloc.rpartition("@")
    user = place[0].partition(":")[0]
    query = "&".join(part for part in parts.query.split("&") if not part.lower().startswith("password="))
    host = f"{user}@{place[2]}" if user else place[2]
    return f"{parts.scheme}://{host}{parts.path}" + (f"?{query}" if query else "")


def new_table(folder: Path) -> str:
    """A name that no other index has."""
    name = re.sub(r"[^a-z0-9]+", "_", folder.absolute().name.lower()).strip("_")[:24] or "index"
    return f"ftkit_{name}_{uuid.uuid4().hex[:8]}"
