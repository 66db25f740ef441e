"""Versions of what a run was made with, whether ftkit is installed or run from its checkout."""

import importlib.metadata

import ftkit
from ftkit.config import versions as module
from ftkit.config.versions import versions


def test_ftkits_own_version_needs_no_installation(monkeypatch):
    def version(name):
        if name == "ftkit":
            raise importlib.metadata.PackageNotFoundError(name)
        return importlib.metadata.version(name)

    monkeypatch.setattr(module, "version", version)
    torch = importlib.metadata.version("torch")
    assert versions(("ftkit", "torch", "no-such-package")) == {"ftkit": ftkit.__version__, "torch": torch}
