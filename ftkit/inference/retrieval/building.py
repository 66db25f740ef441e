"""An index made of documents, or brought up to them: unchanged files are kept, what is gone leaves.

outcome = index_documents("X", ["manual/"], embedder="all-MiniLM-L6-v2")
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ftkit.config.errors import UserError
from ftkit.config.files import check_folder, sha256_of
from ftkit.config.terminal import Progress
from ftkit.data.index.documents import DocumentFile, Skipped, find_files, read_file
from ftkit.data.index.passages import MAX_TOKENS, Passage, count_words, split
from ftkit.inference.retrieval.index import Index

READING_VERSION = "1"  # of the readers and of `split`; another one reads every file again
HEADING_TOKENS = 40  # of an encoder's limit, left for a passage's heading


class Unreadable(UserError):
    """A file that can't be read, and not a fault of the index."""


@dataclass
class Outcome:
    """What became of the files. skipped: one line for each reason."""

    num_added: int = 0
    num_changed: int = 0
    num_kept: int = 0
    num_removed: int = 0
    num_new_passages: int = 0
    num_passages: int = 0
    skipped: tuple[str, ...] = ()


def index_documents(
    folder: str | Path, paths: Iterable[str | Path], *, embedder: str | None = None, max_tokens: int | None = None,
    store: str = "",
) -> Outcome:  # fmt: skip
    """Make the index of a folder hold exactly the passages of some documents; each file is done or left as it was.

    max_tokens: longest passage, by the encoder's tokens; without an encoder words and signs are counted.
    Raises UserError where nothing can be read.
    """
    check_folder(folder)
    skipped = Skipped()
    files = list(find_files(paths, skipped.add))
    if not files:
        raise UserError("\n".join([*skipped.lines(), "no document was found; name files or folders that hold some"]))
    index = Index.prepare(folder, embedder=embedder, max_tokens=max_tokens or MAX_TOKENS, store=store)
    check_length(index)
    outcome = Outcome()
    before = index.store.digests()
    with Progress(len(files), "index", "files") as progress:
        for file, is_named in files:
            try:
                bring_up(index, file, before.pop(file.name, None), outcome)
            except Unreadable as mistake:
                if is_named:
                    raise
                skipped.add(mistake)
                index.store.remove([file.name])
            progress.advance()
    index.store.remove(before)
    outcome.num_removed, outcome.num_passages, outcome.skipped = len(before), len(index), tuple(skipped.lines())
    index.close()
    return outcome


def bring_up(index: Index, file: DocumentFile, known: str | None, outcome: Outcome) -> None:
    """Read a file and hold its passages, unless it is the one that is held. known: the digest that is held."""
    digest = f"{READING_VERSION}:{sha256_of(file.path)}"
    if digest == known:
        outcome.num_kept += 1
        return
    outcome.num_new_passages += index.add(file.name, digest, passages_of(index, file))
    outcome.num_changed += known is not None
    outcome.num_added += known is None


def passages_of(index: Index, file: DocumentFile) -> Iterator[Passage]:
    """The passages of a file, one document after the other."""
    count = index.encoder.count_tokens if index.settings.embedder else count_words
    documents = read_file(file)
    while True:
        try:
            document = next(documents, None)
        except UserError as mistake:
            raise Unreadable(str(mistake)) from mistake
        if document is None:
            return
        yield from split(document, count, index.settings.max_tokens)


def check_length(index: Index) -> None:
    """Raise UserError for passages that are longer than the encoder reads, or that hold nothing."""
    asked = index.settings.max_tokens
    if asked < 8:
        raise UserError(f"--max_tokens is {asked}; give at least 8")
    limit = index.encoder.max_tokens if index.settings.embedder else None
    if limit and asked > limit:
        raise UserError(
            f"--max_tokens is {asked}, and {index.settings.embedder} reads {limit}; give at most {limit}, better "
            f"{max(8, limit - HEADING_TOKENS)}, which leaves room for headings"
        )
