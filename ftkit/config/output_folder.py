"""What an output folder holds, and the lock of the process that writes it.

A run notes in OUT/.ftkit/run.json who it is and whether it came to its end, and holds OUT/.ftkit/lock while it lives.
The same command therefore knows whether to begin, to go on or to do nothing.
"""

import contextlib
import errno
import json
import logging
import os
import shutil
import socket
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from enum import Enum
from pathlib import Path
from typing import Any

from ftkit.config.disk import writing
from ftkit.config.errors import UserError
from ftkit.config.files import write_json

logger = logging.getLogger(__name__)

HIDDEN_FOLDER = ".ftkit"  # inside an output folder; what a person need not look at
NOTE, LOCK = "run.json", "lock"
SCHEMA_VERSION = 1
HELD_ELSEWHERE = (errno.EACCES, errno.EAGAIN)
RUN_FILE, CARD = "run.yaml", "README.md"  # of a run before notes were written: it began, it ended
# What a run writes into OUT, for --overwrite; other files in the folder are a person's.
WRITTEN = (
    "run.yaml", "receipt.json", "template.lock.json", "metrics.jsonl", "samples.jsonl", "report.html", "loss.png",
    "results.json", "golden.json", "base.json", "stopped_batch.json", "README.md", "model*.safetensors*",
    "adapter_model*.safetensors*", "config.json", "generation_config.json", "adapter_config.json", "tokenizer.json",
    "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt",
    "chat_template.jinja", "modeling_ftgpt.py", "configuration_ftgpt.py", "checkpoint-*", "benchmark", "items",
    "before", "before-*", ".staging", ".deleting-*", "modules.json", "sentence_bert_config.json",
    "config_sentence_transformers.json", "1_Pooling",
)  # fmt: skip


class State(Enum):
    """What an output folder holds. Hidden files do not count."""

    EMPTY = "empty"
    UNFINISHED = "unfinished"
    FINISHED = "finished"
    OTHER = "files of something else"


@dataclass(frozen=True)
class RunNote:
    """Whose run a folder holds. id: also in each of its checkpoints. fingerprint: what the run rests on, by name."""

    command: str
    fingerprint: dict[str, Any] = field(default_factory=dict)
    is_finished: bool = False
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    schema: int = SCHEMA_VERSION


def note_path(folder: str | Path) -> Path:
    """Where the note of a run lies."""
    return Path(folder) / HIDDEN_FOLDER / NOTE


def write_note(folder: str | Path, note: RunNote) -> None:
    """Write OUT/.ftkit/run.json, whole or not at all."""
    write_json(note_path(folder), asdict(note))


def read_note(folder: str | Path) -> RunNote | None:
    """The note of the run in a folder, None where there is none. Raises UserError for one that can't be read."""
    path = note_path(folder)
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        known = {item.name for item in fields(RunNote)}
        if content["schema"] != SCHEMA_VERSION:
            raise UserError(f"{path}: schema {content['schema']} is not known; upgrade ftkit")
        return RunNote(**{name: content[name] for name in known})
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not as a run writes it ({error!r}); delete it") from error


def state_of(folder: str | Path) -> State:
    """What a folder holds; one that is not there is empty. Raises UserError for a file in its place."""
    folder = Path(folder)
    if folder.is_file():
        raise UserError(f"{folder}: is a file; give --output_dir a folder")
    if note := read_note(folder):
        return State.FINISHED if note.is_finished else State.UNFINISHED
    visible = visible_names(folder)
    if not visible:
        return State.EMPTY
    if RUN_FILE not in visible and not any(folder.glob("checkpoint-*/manifest.json")):
        return State.OTHER
    return State.FINISHED if CARD in visible else State.UNFINISHED


def visible_names(folder: str | Path) -> list[str]:
    """Names of what a folder holds, which may be missing; hidden files are leftovers and do not count."""
    folder = Path(folder)
    return [path.name for path in folder.iterdir() if not path.name.startswith(".")] if folder.is_dir() else []


def check_new_folder(folder: str | Path) -> None:
    """Raise UserError for a folder that holds anything."""
    if state_of(folder) is not State.EMPTY:
        raise UserError(f"{folder}: already holds files; choose another --output_dir")


def refuse_other(folder: str | Path) -> UserError:
    """The mistake of naming a folder that holds something else."""
    return UserError(f"{folder}: holds files that are not of a run; choose another --output_dir")


def clear(folder: str | Path, patterns: Sequence[str] = WRITTEN) -> None:
    """Remove what a run wrote into a folder, for --overwrite, but its note and lock; a person's own files stay."""
    for path in {path for pattern in patterns for path in Path(folder).glob(pattern)}:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


@contextlib.contextmanager
def held(folder: str | Path) -> Iterator[None]:
    """Hold the lock of an output folder, which is made where there is none; a folder that stays empty is removed.

    The system gives the lock back when the process ends, however it ends. Raises UserError while another process
    holds it. On a file system without locks a warning stands in its place.
    """
    folder = Path(folder)
    is_new = not folder.exists()
    path = folder / HIDDEN_FOLDER / LOCK
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = locked(path)
    try:
        yield
    finally:
        if not note_path(folder).exists():
            path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # not empty
                path.parent.rmdir()
                if is_new:
                    folder.rmdir()
        os.close(descriptor)


def locked(path: Path) -> int:
    """The descriptor of a lock file that is held by this process, or can't be on this file system."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            lock(descriptor, path)
            if path.exists() and os.path.samestat(os.fstat(descriptor), os.stat(path)):
                break
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # of a process that has just ended and removed it
    with writing(path):
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode())
    return descriptor


def lock(descriptor: int, path: Path) -> None:
    """Lock an open file. Raises UserError while another process holds it."""
    try:
        import fcntl
    except ImportError:  # Windows
        logger.warning("%s: this system has no such locks; do not start two runs in one folder", path.parent.parent)
        return
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        folder = path.parent.parent
        if error.errno not in HELD_ELSEWHERE:
            logger.warning("%s: its file system has no locks (%s); do not start two runs in it", folder, error.strerror)
            return
        holder = path.read_text(encoding="utf-8", errors="replace") or "another process"
        raise UserError(f"{folder}: {holder} is writing there; wait for it, or choose another --output_dir") from error
