"""A cache that can't be written is no reason to stop: a temporary folder stands in for it, and one line says so."""

import logging
import os
import subprocess
import sys
import tempfile

import pytest

from ftkit.config import caches
from ftkit.config.caches import PLACES, cache_dir, cached, place_of, stand_in, use_writable_caches
from ftkit.config.files import write_text


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    """The system's folder for temporary files."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    return tmp_path / "tmp"


def test_the_cache_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("FTKIT_CACHE", str(tmp_path))
    assert cache_dir() == tmp_path
    monkeypatch.delenv("FTKIT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert str(cache_dir()) == "/x/ftkit"


def make(path):
    write_text(path, "made")


def test_what_is_cached_is_made_once(tmp_path, monkeypatch, temporary):
    monkeypatch.setenv("FTKIT_CACHE", str(tmp_path / "cache"))
    assert cached("a/b", make) == tmp_path / "cache" / "a" / "b"
    assert cached("a/b", None).read_text() == "made"
    assert not list(temporary.iterdir())


def test_a_cache_that_can_not_be_written_has_a_stand_in_and_one_line(tmp_path, monkeypatch, temporary, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FTKIT_CACHE", str(tmp_path / "file" / "cache"))
    path = cached("a/b", make)
    assert path == stand_in() / "a" / "b" and path.read_text() == "made" and temporary in path.parents
    assert [record.message for record in caplog.records] == [
        f"{tmp_path}/file/cache: can't be written; {stand_in()} stands in for the cache"
    ]
    assert cached("a/b", None) == path


def test_a_cache_that_fills_up_has_a_stand_in(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("FTKIT_CACHE", str(tmp_path / "cache"))

    def make_elsewhere(path):
        if tmp_path / "cache" in path.parents:
            raise OSError(28, "No space left on device", str(path))
        make(path)

    with caplog.at_level(logging.WARNING):
        assert cached("a/b", make_elsewhere) == stand_in() / "a" / "b"
    assert "No space left on device" in caplog.text


def test_a_cache_that_can_only_be_read_is_read(tmp_path, monkeypatch):
    monkeypatch.setenv("FTKIT_CACHE", str(tmp_path / "cache"))
    path = cached("a/b", make)
    monkeypatch.setattr(caches, "is_writable", lambda place: False)
    assert cached("a/b", None) == path


def test_a_stand_in_of_another_user_is_not_trusted(temporary):
    folder = stand_in()
    assert folder == stand_in() and folder.stat().st_mode & 0o077 == 0
    folder.chmod(0o777)
    assert stand_in() != folder
    folder.rmdir()
    folder.symlink_to(temporary)
    assert stand_in() != folder


def test_libraries_are_pointed_elsewhere_only_where_they_could_not_write(tmp_path):
    home = {"XDG_CACHE_HOME": str(tmp_path / "home/.cache"), "XDG_CONFIG_HOME": str(tmp_path / "home/.config")}
    usual = {**home, "TRITON_CACHE_DIR": str(tmp_path / "triton")}
    environ = dict(usual)
    assert use_writable_caches(environ) is None and environ == usual and not (tmp_path / "home").exists()
    (tmp_path / "home").write_text("")
    line = use_writable_caches(environ)
    assert line == f"{tmp_path}/home/.cache/ftkit: can't be written; {stand_in()} stands in for caches"
    assert all(str(stand_in()) in place_of(name, environ) for name, _ in PLACES if name != "TRITON_CACHE_DIR")
    assert use_writable_caches(environ) is None


def test_a_hub_cache_that_can_only_be_read_is_kept(tmp_path, monkeypatch):
    (tmp_path / "hub").mkdir()
    environ = {"HF_HOME": str(tmp_path / "hub"), "FTKIT_CACHE": str(tmp_path), "MPLCONFIGDIR": str(tmp_path)}
    environ["TRITON_CACHE_DIR"] = str(tmp_path)
    monkeypatch.setattr(caches, "is_writable", lambda place: "hub" not in str(place))
    use_writable_caches(environ)
    assert environ["HF_HOME"] == str(tmp_path / "hub") and str(stand_in()) in environ["HF_MODULES_CACHE"]


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="no /proc here")
def test_a_command_without_a_home_says_it_once_and_works(temporary):
    environ = {**os.environ, "HOME": "/proc/nohome", "TMPDIR": str(temporary)}
    for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", *(name for name, _ in PLACES)):
        environ.pop(name, None)
    program = "import sys; from ftkit.config.parser import run; sys.exit(run(lambda argv: __import__('matplotlib')))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environ)
    assert (done.returncode, done.stderr.count("\n")) == (0, 1), done.stderr
    assert done.stderr.startswith(f"/proc/nohome/.cache/ftkit: can't be written; {temporary}/ftkit-")
