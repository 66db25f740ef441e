"""Digests that are taken while files are written are those of the files as they end up."""

import hashlib
import os
import time

import pytest

from ftkit.training.hashing import Hashes, sha256_of


def plain(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_files_that_are_there_are_hashed_ahead_and_others_when_they_are_asked_for(tmp_path):
    (tmp_path / "sub").mkdir()
    for name, content in {"a": b"a" * 3_000_000, "sub/b": b"", "c": b"c"}.items():
        (tmp_path / name).write_bytes(content)
    with Hashes() as hashes:
        hashes.begin(tmp_path)
        (tmp_path / "late").write_bytes(b"late")
        for name in ("a", "sub/b", "c", "late"):
            assert hashes.digest(tmp_path / name) == plain(tmp_path / name) == sha256_of(tmp_path / name)


def test_a_file_that_changed_since_is_hashed_again(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"before")
    with Hashes() as hashes:
        hashes.begin(tmp_path)
        assert hashes.digest(path) == plain(path)
        path.write_bytes(b"behind")  # as long as before
        os.utime(path, ns=(0, 0))
        assert hashes.digest(path) == plain(path)


def test_a_file_is_followed_to_its_end_while_it_grows(tmp_path):
    path = tmp_path / "optimizer.pt"
    with Hashes() as hashes:
        with hashes.following(path), path.open("wb") as file:
            for number in range(20):
                file.write(bytes([number]) * 200_000)
                file.flush()
                time.sleep(0.002)
        assert hashes.digest(path) == plain(path)
        with hashes.following(tmp_path / "never"):
            pass
    with pytest.raises(FileNotFoundError):
        hashes.digest(tmp_path / "never")


def test_what_fails_while_a_file_is_followed_is_raised(tmp_path):
    with pytest.raises(RuntimeError, match="full"), Hashes() as hashes, hashes.following(tmp_path / "never"):
        raise RuntimeError("full")
