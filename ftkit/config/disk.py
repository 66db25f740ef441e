"""What disks do to files: faults on the way, and too little room; each becomes one line that names the file.

with writing(path, need=num_bytes):  # a fault of the disk, in a library too, is an OSError of this path
    ...
"""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ftkit.config.errors import first_line

FULL = (errno.ENOSPC, errno.EDQUOT)
FIXES = {
    FULL: "free some space and run the same command again",
    (errno.EACCES, errno.EPERM): "change its permissions, or name another",
    (errno.ENOENT, errno.ENOTDIR, errno.EISDIR): "check the path",
    (errno.EROFS,): "choose a place that can be written",
    (errno.ENAMETOOLONG,): "choose a shorter name",
    (errno.EMFILE,): "raise the limit of open files: ulimit -n 4096",
    (errno.EIO,): "check the disk and run the same command again",
}
OTHER_FIX = "put it right and run the same command again"
RUST_ERRNO = re.compile(r"\(os error (\d+)\)")  # in the errors of safetensors and tokenizers
TORCH_STRERROR = re.compile(r"failed with strerror: (.+)")  # of torch.save, at a file that can't be opened
# Of torch.save, at a file that can't be written to its end.
TORCH_WORDS = ("PytorchStreamWriter failed", "unexpected pos ", "file write failed", "iostream error")
UNCOUNTED_BYTES = 32 << 20  # so much more than its tensors a checkpoint may hold, such as a tokenizer


class DiskFault(OSError):
    """A fault of a disk in full words: what is needed and free, and what is intact."""


def free_bytes(path: str | Path) -> int:
    """Bytes that may still be written to the disk of a file or folder, which may be missing."""
    path = Path(path).absolute()
    return shutil.disk_usage(next(part for part in (path, *path.parents) if os.path.exists(part))).free


def require_room(path: str | Path, need: int) -> None:
    """Raise the OSError of a full disk where so many bytes can't be written, before they are."""
    if free_bytes(path) < need:
        raise DiskFault(errno.ENOSPC, full_text(errno.ENOSPC, need, free_bytes(path)), str(path))


def full_text(number: int, need: int | None, free: int) -> str:
    """What is wrong with a disk that is full: the system's words, what is needed and what is free."""
    needed = f"needs {size_text(need)}, " if need and need > free else ""
    return f"{os.strerror(number)}, {needed}{size_text(free)} free"


def size_text(num_bytes: int) -> str:
    """A size in decimal units, as disks are sold."""
    for unit, name in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if num_bytes >= unit:
            return f"{num_bytes / unit:.3g} {name}"
    return f"{num_bytes} bytes"


def temporary_name(path: Path) -> Path:
    """Where this process writes what will replace a file."""
    return path.with_name(f".{path.name}.{os.getpid()}")


@contextmanager
def writing(path: str | Path, *, need: int | None = None, note: str = "") -> Iterator[None]:
    """What a file or folder is written in: a fault of its disk is raised as an OSError that names the file.

    need: bytes of the whole. note: what else the person wants to know then, such as what is intact.
    """
    try:
        yield
    except Exception as error:  # of any library: it may be the disk's; all others pass through
        number = errno_of(error)
        if number is None:
            raise
        path, free = Path(path), free_bytes(path)
        if not isinstance(error, OSError) and need is not None and free < need + UNCOUNTED_BYTES:
            number = errno.ENOSPC
        text = full_text(number, need, free) if number in FULL else os.strerror(number)
        text = str(error.strerror) if isinstance(error, DiskFault) else text
        named = str(getattr(error, "filename", None) or temporary_name(path))
        is_own = named == str(temporary_name(path)) or not (os.path.isabs(named) or os.path.lexists(named))
        where = path if is_own else named  # shutil.rmtree names a file without its folder
        raise DiskFault(number, text + (f"; {note}" if note else ""), str(where)) from error


def errno_of(error: BaseException) -> int | None:
    """The system's number for a fault of the disk, also where a library put it into words; None for other errors."""
    if isinstance(error, OSError):
        return error.errno
    text = str(error)
    if found := RUST_ERRNO.search(text):
        return int(found[1])
    if found := TORCH_STRERROR.search(text):
        return next((number for number in errno.errorcode if os.strerror(number) == found[1]), errno.EIO)
    return errno.EIO if isinstance(error, RuntimeError) and any(words in text for words in TORCH_WORDS) else None


def fault_line(error: BaseException) -> str | None:
    """The one line for an error of the system: the file, what is wrong, what to do; None for any other error."""
    number = errno_of(error)
    if number is None and not isinstance(error, OSError):
        return None
    fix = next((text for numbers, text in FIXES.items() if number in numbers), OTHER_FIX)
    if isinstance(error, OSError) and error.strerror:
        where = "" if error.filename is None else f"{error.filename}: "
        return f"{where}{error.strerror}; {fix}"
    return f"{first_line(error)}; {fix}"
