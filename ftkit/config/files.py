"""Files that are written whole or not at all, and places that are tried out before work begins.

check_folder("runs/a")                                     # can it be made and written?
check_space("runs/a", num_bytes, "two checkpoints", fix)
write_json(Path("runs/a/receipt.json"), receipt)
"""

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ftkit.config.disk import free_bytes, size_text, temporary_name, writing
from ftkit.config.errors import UserError, first_line

TRIAL_PREFIX = ".ftkit-"  # of a folder that is made to try a place out
HASHED_BYTES = 1 << 20  # of a file at once
LONGEST_INSIDE = "x" * 48  # about as long as the path, in OUT, of a file of a checkpoint that is being written


def write_text(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old or the new content, never a part: temporary file, then rename."""
    content = text.encode("utf-8")
    with whole_file(path, need=len(content)) as temporary:
        temporary.write_bytes(content)


@contextmanager
def whole_file(path: Path, *, need: int | None = None) -> Iterator[Path]:
    """Yield where to write what replaces a file when the body is through; if it fails, nothing is left of it."""
    temporary = temporary_name(path)
    with writing(path, need=need):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def staged_folder(output_dir: str | Path) -> Iterator[Path]:
    """Yield a temporary folder that becomes `output_dir` by one rename, or vanishes if the body fails.

    An empty folder that is there already, which may be a link or another disk, takes its files one by one.
    Raises UserError if `output_dir` exists and is not an empty folder.
    """
    output_dir = Path(output_dir)
    is_there = output_dir.is_dir()
    if output_dir.is_file() or (is_there and any(output_dir.iterdir())):
        raise UserError(f"{output_dir}: exists and is not empty; name a new folder or remove it first")
    with writing(output_dir):
        parent = output_dir if is_there else output_dir.parent
        parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{output_dir.name}.", suffix=".tmp", dir=parent))
        try:
            yield staging
            give_modes(staging)
            for path in staging.iterdir() if is_there else ():
                os.rename(path, output_dir / path.name)
            if not is_there:
                os.rename(staging, output_dir)
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def remove_temporary(folder: Path) -> None:
    """Remove what processes that were killed left in a folder of files that `whole_file` and `check_folder` make."""
    for path in folder.glob(".*"):
        if re.fullmatch(r"\..+\.\d+", path.name) and path.is_file():
            path.unlink()
        elif path.name.startswith(TRIAL_PREFIX) and path.is_dir():
            shutil.rmtree(path)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(HASHED_BYTES):
            digest.update(block)
    return digest.hexdigest()


def give_modes(folder: Path) -> None:
    """Give a folder and all in it the modes of what this process makes: some libraries let only its owner read."""
    mask = os.umask(0)
    os.umask(mask)
    for path in (folder, *folder.rglob("*")):
        path.chmod((0o777 if path.is_dir() else 0o666) & ~mask)


def write_json(path: Path, value) -> None:
    """Write `value` as indented JSON; NaN and infinities are an error, as they are no JSON."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def check_folder(path: str | Path, flag: str = "--output_dir") -> None:
    """Raise UserError where no files can be made in a folder, which may be missing. Nothing is left behind.

    It is tried out beside what is there: permissions alone say nothing of read-only disks, quotas and long names.
    """
    folder = Path(path).absolute()
    try:
        for part in (folder, *folder.parents):
            if part.is_symlink() and not part.exists():
                raise UserError(f"{path}: {part} is a link to {os.readlink(part)}, which is not there; remove it")
        folder = Path(os.path.realpath(folder))
        there = next(part for part in (folder, *folder.parents) if os.path.lexists(part))
        if not there.is_dir():
            raise UserError(f"{path}: {there} is a file; give {flag} a folder")
        with tempfile.TemporaryDirectory(prefix=TRIAL_PREFIX, dir=there) as trial:
            made = trial / folder.relative_to(there)
            made.mkdir(parents=True, exist_ok=True)
            (made / LONGEST_INSIDE).write_bytes(b"x")
    except OSError as error:
        raise unwritable(path, error, flag) from error


def check_file(path: str | Path, flag: str) -> None:
    """Raise UserError where a file can't be written, or replaced by another; nothing is left behind."""
    path = Path(path)
    try:
        if path.is_dir():
            raise UserError(f"{path}: is a folder; give {flag} a file")
        if not path.absolute().parent.is_dir():
            raise UserError(f"{path}: there is no folder {path.parent}; make it first")
        trial = temporary_name(path)
        trial.write_bytes(b"x")
        trial.unlink()
    except OSError as error:
        raise unwritable(path, error, flag) from error


def unwritable(path: str | Path, error: OSError, flag: str) -> UserError:
    """The mistake of a person who named a place that can't be written."""
    return UserError(f"{path}: can't be written ({error.strerror or first_line(error)}); choose another {flag}")


def check_space(folder: str | Path, need: int, what: str, fix: str) -> None:
    """Raise UserError where the disk of a folder, which may be missing, has less than `need` bytes free for `what`."""
    free = free_bytes(folder)
    if free < need:
        raise UserError(f"{folder}: needs {size_text(need)} for {what}, {size_text(free)} free; {fix}")
