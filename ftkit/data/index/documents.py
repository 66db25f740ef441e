"""Reads documents: .txt, .md, .rst, .html, .pdf, .docx and .jsonl files, and the folders that hold them.

for document in read_documents(["manual/", "faq.jsonl"]): ...

What stands in a folder and is no document, or a broken one, is reported and passed over; a file that was named must be
one. Files come from strangers: each is bounded in size and in time, and no link leads out of a folder.
"""

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ftkit.config.amounts import counted
from ftkit.config.disk import size_text
from ftkit.config.errors import LimitError, UserError, first_line
from ftkit.config.foreign import within
from ftkit.data.index.document import Document
from ftkit.data.index.formats import MAX_BYTES, READERS

logger = logging.getLogger(__name__)

READ_SECONDS = 60  # of the processor, for one file
LINK, OTHER_KIND = "is a link", "is no document"

Report = Callable[[UserError], object]


@dataclass(frozen=True)
class DocumentFile:
    """A file to read. name: what its documents call their source."""

    path: Path
    name: str


def read_documents(paths: Iterable[str | Path], report: Report | None = None) -> Iterator[Document]:
    """The documents of files and folders, in the order of their names.

    report: called for what a folder holds and can't be read; None logs one line for each reason, with its count.
    Raises UserError for a path that is not there, and a file that was named and can't be read.
    """
    skipped = Skipped()
    for file, is_named in find_files(paths, report or skipped.add):
        try:
            yield from read_file(file)
        except UserError as mistake:
            if is_named:
                raise
            (report or skipped.add)(mistake)
    for line in skipped.lines():
        logger.warning(line)


def find_files(paths: Iterable[str | Path], report: Report) -> Iterator[tuple[DocumentFile, bool]]:
    """The files below some paths, each once, and whether it was named itself.

    Hidden files and folders are left out. Raises UserError for a path that is not there or no kind of document.
    """
    seen = set()
    for path in map(Path, paths):
        path = path.expanduser()
        if path.is_file():
            if path.suffix.lower() not in READERS:
                raise UserError(f"{path}: is no kind of document that is read; give {', '.join(READERS)}")
            found = [(path, True)]
        elif path.is_dir():
            found = [(file, False) for file in files_below(path, report)]
        else:
            raise UserError(f"{path}: no such file or folder; check the path")
        for file, is_named in found:
            if (name := file.as_posix()) not in seen:
                seen.add(name)
                yield DocumentFile(file, name), is_named


def files_below(folder: Path, report: Report) -> Iterator[Path]:
    """The documents below a folder, sorted; links and files of another kind are reported."""
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in folders:
            if (Path(place) / name).is_symlink():  # which os.walk does not follow
                report(UserError(f"{Path(place) / name}: {LINK}; name the folder that it leads to"))
        for name in sorted(files):
            path = Path(place) / name
            if name.startswith("."):
                continue
            if path.is_symlink():
                report(UserError(f"{path}: {LINK}; name the file that it leads to"))
            elif path.suffix.lower() not in READERS or not path.is_file():
                report(UserError(f"{path}: {OTHER_KIND}; give {', '.join(READERS)}"))
            else:
                yield path


def read_file(file: DocumentFile) -> Iterator[Document]:
    """The documents of one file. Raises UserError for one that can't be read, is too large, or takes too long."""
    reader = READERS[file.path.suffix.lower()]
    try:
        size, limit = file.path.stat().st_size, MAX_BYTES[reader.kind]
        if size > limit:
            raise UserError(f"{file.path}: has {size_text(size)}, more than {size_text(limit)}; split it")
        if reader.is_stream:  # rows, whose reader is strict and does not grow with the file
            yield from reader.read(file.path, file.name)
            return
        with within(READ_SECONDS, str(file.path), "leave it out, or save it as text"):
            documents = list(reader.read(file.path, file.name))
    except LimitError as error:
        raise UserError(str(error)) from error
    except OSError as error:
        raise UserError(f"{file.path}: can't be read ({error.strerror or first_line(error)}); check it") from error
    except (RecursionError, MemoryError) as error:
        raise UserError(f"{file.path}: is nested too deeply, or too large; save it as text") from error
    yield from documents


class Skipped:
    """What was passed over, counted by reason, with the first of each."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.first: dict[str, str] = {}

    def add(self, mistake: UserError) -> None:
        """Count one."""
        name, _, reason = str(mistake).partition(": ")
        kind = reason.partition(";")[0].partition(" (")[0]
        self.counts[kind] += 1
        self.first.setdefault(kind, str(mistake))

    def lines(self) -> list[str]:
        """One line for each reason."""
        return [f"skipped {counted(num, 'file')}: {self.first[kind]}" for kind, num in self.counts.items()]
