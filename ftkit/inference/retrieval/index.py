"""An index: passages on disk or in PostgreSQL, searched by words (BM25), by meaning (an encoder), or by both.

index = Index.build("X", passages, embedder="all-MiniLM-L6-v2")     # embedder=None: by words alone
for found in Index.open("X").search("Which plan has backups?", top_k=5): print(found.score, found.passage.text)
"""

import hashlib
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ftkit.config.errors import UserError, did_you_mean
from ftkit.config.files import check_folder, write_json
from ftkit.config.json_object import read_object
from ftkit.config.output_folder import visible_names
from ftkit.config.paste import quoted
from ftkit.data.index.passages import MAX_TOKENS, Passage, searched
from ftkit.inference.retrieval.ranking import METHODS, Scored, best, fused
from ftkit.inference.retrieval.sqlite_store import SqliteStore
from ftkit.inference.retrieval.stores import Store

if TYPE_CHECKING:
    from ftkit.inference.retrieval.encoding import CrossEncoder, Encoder

HYBRID, WORDS, MEANING = METHODS
SETTINGS_FILE, STORE_FILE = "index.json", "index.sqlite"
SCHEMA_VERSION = 1
DEPTH = 100  # passages of each ranking that are fused
RERANKED = 30  # passages that a cross-encoder reads
NO_ENCODER = "was made without an encoder; run ftkit index again with --embedding_model"


@dataclass(frozen=True)
class Found:
    """A passage, and its score by the method of the search: the higher the better."""

    passage: Passage
    score: float


@dataclass(frozen=True)
class IndexSettings:
    """What an index was made with. embedder: name and fingerprint; "" without one. store: "" for a file in X."""

    embedder: str = ""
    fingerprint: str = ""
    max_tokens: int = MAX_TOKENS
    store: str = ""
    table: str = ""
    schema: int = SCHEMA_VERSION

    @classmethod
    def read(cls, folder: Path) -> "IndexSettings":
        """The settings of the index in a folder. Raises UserError where there is none, or one of another version."""
        path = folder / SETTINGS_FILE
        if not path.is_file():
            raise UserError(f"{folder}: holds no index; make one: ftkit index DOCS --output_dir {quoted(folder)}")
        content = read_object(path, "make the index again")
        types = {item.name: type(item.default) for item in fields(cls)}
        if content.get("schema") != SCHEMA_VERSION:
            raise UserError(f"{path}: schema {content.get('schema')} is not known; upgrade ftkit")
        if any(type(content.get(name)) is not kind for name, kind in types.items()):
            raise UserError(f"{path}: not as ftkit index writes it; make the index again")
        return cls(**{name: content[name] for name in types})


class Index:
    """An index that is open. Threads may share it. reranker: the folder of a cross-encoder, None for none."""

    def __init__(self, folder: Path, settings: IndexSettings, store: Store, *, encoder: "Encoder | None" = None,
                 reranker: str | None = None):  # fmt: skip
        self.folder, self.settings, self.store, self.reranker_name = folder, settings, store, reranker or ""
        self.lock = threading.Lock()
        if encoder is not None:
            self.encoder = encoder

    @classmethod
    def build(cls, folder: str | Path, passages: Iterable[Passage], embedder: str | Path | None = None) -> "Index":
        """An index of some passages, those of one source in a row; what a folder holds of the same is kept.

        embedder: folder or Hub id of a sentence encoder; None for a search by words alone.
        Raises UserError for a folder that holds something else.
        """
        index = cls.prepare(folder, embedder=embedder)
        before = index.store.digests()
        for source, group in groupby(passages, key=lambda passage: passage.source):
            own = list(group)
            digest = digest_of(own)
            if before.pop(source, None) != digest:
                index.add(source, digest, own)
        index.store.remove(before)
        return index

    @classmethod
    def prepare(cls, folder: str | Path, *, embedder: str | Path | None = None, max_tokens: int = MAX_TOKENS,
                store: str = "") -> "Index":  # fmt: skip
        """An index that may be written, empty or as it was; emptied where it was made with other settings."""
        folder = Path(folder)
        check_folder(folder)
        if visible_names(folder) and not (folder / SETTINGS_FILE).is_file():
            raise UserError(f"{folder}: is in use and holds no index; choose another --output_dir")
        encoder = None
        if embedder:
            from ftkit.inference.retrieval.encoding import Encoder

            encoder = Encoder.load(str(embedder))
        name = str(Path(embedder).absolute()) if embedder and Path(embedder).is_dir() else str(embedder or "")
        before = IndexSettings.read(folder) if (folder / SETTINGS_FILE).is_file() else None
        address, table = place_of(store, folder, before)
        settings = IndexSettings(name, encoder.fingerprint if encoder else "", max_tokens, address, table)
        folder.mkdir(parents=True, exist_ok=True)
        opened = open_store(folder, settings, writable=True, address=store)
        if before and rests_on(before) != rests_on(settings):
            opened.clear()
        if before != settings:
            write_json(folder / SETTINGS_FILE, asdict(settings))
        return cls(folder, settings, opened, encoder=encoder)

    @classmethod
    def open(cls, folder: str | Path, *, reranker: str | None = None) -> "Index":
        """The index of a folder. Raises UserError where there is none."""
        settings = IndexSettings.read(Path(folder))
        return cls(Path(folder), settings, open_store(Path(folder), settings), reranker=reranker)

    @cached_property
    def encoder(self) -> "Encoder":
        """The encoder that the passages were embedded with; settings.embedder says whether there is one.

        Raises UserError where it is not what it was, or there is none.
        """
        if not self.settings.embedder:
            raise UserError(f"{self.folder}: {NO_ENCODER}")
        from ftkit.inference.retrieval.encoding import Encoder

        found = Encoder.load(self.settings.embedder)
        if found.fingerprint != self.settings.fingerprint:
            raise UserError(
                f"{self.settings.embedder}: is not the encoder that {self.folder} was made with; run ftkit index again"
            )
        return found

    @cached_property
    def reranker(self) -> "CrossEncoder":
        """The cross-encoder that has the last word."""
        from ftkit.inference.retrieval.encoding import CrossEncoder

        return CrossEncoder.load(self.reranker_name)

    def add(self, name: str, digest: str, passages: Iterable[Passage]) -> int:
        """Hold the passages of a file in place of what was held of it; return how many."""
        return self.store.replace(name, digest, passages, self.embed if self.settings.embedder else None)

    def embed(self, passages: Sequence[Passage]) -> np.ndarray:
        """The vectors of passages, each with its heading: (passages, D) float32."""
        return self.encoder.passages([searched(passage) for passage in passages])

    def search(self, question: str, top_k: int = 5, method: str = HYBRID) -> list[Found]:
        """The passages that answer a question best, the best first; at most `top_k`.

        method: "bm25" by words, "dense" by meaning, "hybrid" by both, which is by words in an index without an encoder.
        Raises UserError for "dense" in such an index, and an unknown method.
        """
        if method not in METHODS:
            raise UserError(f'unknown method "{method}"{did_you_mean(method, METHODS)}; give {", ".join(METHODS)}')
        if top_k < 1:
            raise UserError(f"top_k is {top_k}; give at least 1")
        if method == MEANING and not self.settings.embedder:
            raise UserError(f"{self.folder}: {NO_ENCODER}")
        question = " ".join(question.split())
        if not question:
            return []
        depth = max(DEPTH, top_k) if method == HYBRID else max(RERANKED * bool(self.reranker_name), top_k)
        rankings: list[list[Scored]] = []
        if method != MEANING:
            rankings.append(self.store.by_words(question, depth))
        if method != WORDS and self.settings.embedder:
            rankings.append(self.store.by_vector(self.vector(question), depth))
        found = rankings[0] if len(rankings) == 1 else fused(rankings, depth)
        return self.reranked(question, found, top_k) if self.reranker_name else self.found(found[:top_k])

    def vector(self, question: str) -> np.ndarray:
        """The vector of a question, (D,) float32."""
        with self.lock:
            encoder = self.encoder
        return encoder.question(question)

    def reranked(self, question: str, ranking: Sequence[Scored], top_k: int) -> list[Found]:
        """The first of a ranking in the order of the cross-encoder."""
        found = self.found(ranking[: max(RERANKED, top_k)])
        with self.lock:
            reranker = self.reranker
        scores = reranker.scores(question, [searched(one.passage) for one in found])
        return [Found(found[place].passage, score) for place, score in best(enumerate(scores), top_k)]

    def found(self, ranking: Sequence[Scored]) -> list[Found]:
        """A ranking with its passages."""
        passages = self.store.get([number for number, _ in ranking])
        return [Found(passage, score) for passage, (_, score) in zip(passages, ranking, strict=True)]

    def fingerprint(self) -> str:
        """SHA-256 of what is held and what it is embedded with."""
        held = sorted(self.store.digests().items())
        return hashlib.sha256(repr((held, self.settings.fingerprint, self.settings.max_tokens)).encode()).hexdigest()

    def passages(self) -> Iterator[Passage]:
        """All passages, in the order in which they were added."""
        return self.store.passages()

    def __len__(self) -> int:
        return self.store.count()

    def close(self) -> None:
        """End the use of it."""
        self.store.close()


def rests_on(settings: IndexSettings) -> tuple:
    """What the passages and vectors of an index depend on, beside the documents."""
    return settings.fingerprint, settings.max_tokens, settings.store, settings.table


def digest_of(passages: Sequence[Passage]) -> str:
    """SHA-256 of passages."""
    found = hashlib.sha256()
    for one in passages:
        found.update(f"{one.id}\0{one.title}\0{one.heading}\0{one.start}\0{one.text}\0\0".encode("utf-8", "replace"))
    return found.hexdigest()


def place_of(address: str, folder: Path, before: IndexSettings | None) -> tuple[str, str]:
    """Where the passages lie: the address to note, without its password, and the table; "" for a file in the folder."""
    if not address:
        return (before.store, before.table) if before else ("", "")
    from ftkit.inference.retrieval.postgres_store import new_table, without_password

    noted = without_password(address)
    return noted, before.table if before and before.store == noted else new_table(folder)


def open_store(folder: Path, settings: IndexSettings, *, writable: bool = False, address: str = "") -> Store:
    """The store of an index. address: of a server, with its password, where one was given."""
    if not settings.store:
        return SqliteStore.open(folder / STORE_FILE, writable=writable)
    from ftkit.inference.retrieval.postgres_store import PostgresStore

    return PostgresStore.open(address or settings.store, settings.table, writable=writable)
