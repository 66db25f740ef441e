"""Caches are a convenience: where their place can't be written, a temporary folder stands in, with one line.

folder = cached("converted/model-ftgpt", lambda target: import_weights(source, target))
"""

import logging
import os
import stat
import tempfile
from collections.abc import Callable, MutableMapping
from pathlib import Path

from ftkit.config.disk import fault_line
from ftkit.config.errors import UserError
from ftkit.config.files import check_folder

logger = logging.getLogger(__name__)

# Variables that say where a cache lies, where it lies without them, and the name of what stands in for it.
PLACES = (
    ("FTKIT_CACHE", "{cache}/ftkit"),
    ("HF_HOME", "{cache}/huggingface"),
    ("HF_MODULES_CACHE", "{HF_HOME}/modules"),
    ("HF_EVALUATE_CACHE", "{HF_HOME}/evaluate"),
    ("HF_METRICS_CACHE", "{HF_HOME}/metrics"),
    ("MPLCONFIGDIR", "{config}/matplotlib"),
    ("TRITON_CACHE_DIR", "~/.triton/cache"),
)
MAY_BE_READ_ONLY = ("FTKIT_CACHE", "HF_HOME")  # what they hold already is used


def cache_dir() -> Path:
    """Where converted weights are kept: $FTKIT_CACHE, else ~/.cache/ftkit (XDG_CACHE_HOME is honoured)."""
    return Path(place_of("FTKIT_CACHE", os.environ))


def place_of(variable: str, environ: MutableMapping[str, str]) -> str:
    """Where the cache of a variable in PLACES lies."""
    known = {"cache": environ.get("XDG_CACHE_HOME", "~/.cache"), "config": environ.get("XDG_CONFIG_HOME", "~/.config")}
    for name, usual in PLACES:
        known[name] = environ.get(name) or usual.format(**known)
    return os.path.expanduser(known[variable])


def use_writable_caches(environ: MutableMapping[str, str]) -> str | None:
    """Point libraries at a temporary folder for each cache that can't be written; the line that says so, or None.

    To be called before they are imported: they look at their variables then.
    """
    moved = []
    for variable, _ in PLACES:
        place = place_of(variable, environ)
        is_kept = variable in MAY_BE_READ_ONLY and os.path.isdir(place)
        if not is_kept and not is_writable(place):
            environ[variable] = str(stand_in() / variable.lower())
            moved.append(place)
    return f"{moved[0]}: can't be written; {stand_in()} stands in for caches" if moved else None


def is_writable(place: str | Path) -> bool:
    """Whether files can be made in a folder, which may be missing."""
    if os.path.isdir(place):
        return os.access(place, os.W_OK | os.X_OK)
    try:
        check_folder(place)
    except UserError:
        return False
    return True


def cached(name: str, make: Callable[[Path], object]) -> Path:
    """A file or folder of the cache; where there is none of this name, `make(path)` makes it.

    It is made in a temporary folder where the cache can't be written. Raises OSError where that fails as well.
    """
    usual = cache_dir() / name
    if usual.exists():
        return usual
    reason = "can't be written"
    if is_writable(cache_dir()):
        try:
            make(usual)
        except OSError as error:
            reason = str(fault_line(error))
        else:
            return usual
    path = stand_in() / name
    logger.warning("%s: %s; %s stands in for the cache", cache_dir(), reason, stand_in())
    if not path.exists():
        make(path)
    return path


def stand_in() -> Path:
    """A folder for this user alone among the system's temporary ones; a new one where the name is another user's."""
    user = os.getuid() if hasattr(os, "getuid") else "cache"
    folder = Path(tempfile.gettempdir()) / f"ftkit-{user}"
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        found = folder.lstat()
        is_ours = stat.S_ISDIR(found.st_mode) and found.st_uid == user and not found.st_mode & 0o022
        if not is_ours and hasattr(os, "getuid"):
            return Path(tempfile.mkdtemp(prefix="ftkit-"))
    return folder
