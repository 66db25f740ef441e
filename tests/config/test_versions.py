"""Versions of what a run was made with, whether ftkit is installed or run from its checkout."""

import ast
import importlib.metadata
from pathlib import Path

import pytest

import ftkit
from ftkit.config import versions as module
from ftkit.config.errors import UserError
from ftkit.config.versions import versions


def test_ftkits_own_version_needs_no_installation(monkeypatch):
    def version(name):
        if name == "ftkit":
            raise importlib.metadata.PackageNotFoundError(name)
        return importlib.metadata.version(name)

    monkeypatch.setattr(module, "version", version)
    torch = importlib.metadata.version("torch")
    assert versions(("ftkit", "torch", "no-such-package")) == {"ftkit": ftkit.__version__, "torch": torch}


NEWER_THAN_THE_OLDEST_TRL = {"FusedCausalLMOutput", "ChunkedLogProbFunction", "add_fused_lm_head"}  # since 1.16


def test_what_the_oldest_trl_lacks_is_imported_where_it_is_used():
    """Python 3.10 has TRL 1.14 at most, which every trainer must start on."""
    found = []
    for path in Path(ftkit.__file__).parent.rglob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("trl"):
                found += [(path.name, alias.name) for alias in node.names if alias.name in NEWER_THAN_THE_OLDEST_TRL]
    assert not found


def test_what_an_older_trl_can_not_smooth_is_refused_in_one_line(monkeypatch):
    from ftkit.config.settings import sft

    monkeypatch.setattr(sft, "has_fused_head", lambda: False)
    with pytest.raises(UserError, match=r"--label_smoothing_factor needs TRL 1\.16 or newer"):
        sft.SFTArguments(output_dir="out", label_smoothing_factor=0.1, use_cpu=True)
