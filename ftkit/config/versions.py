"""The versions that a run was made with, also from a checkout that is not installed."""

from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version

from ftkit import __version__


def versions(names: Iterable[str]) -> dict[str, str]:
    """The version of each of these packages that is installed, and of ftkit as it runs."""
    found = {name: __version__ if name == "ftkit" else installed_version(name) for name in names}
    return {name: value for name, value in found.items() if value is not None}


def installed_version(name: str) -> str | None:
    """The version of an installed package, None where there is none."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def has_fused_head() -> bool:
    """Whether TRL gives its trainers a loss head that can be replaced: since 1.16, which needs Python 3.11."""
    from trl.trainer import utils

    return hasattr(utils, "add_fused_lm_head")
