"""A damaged checkpoint is passed over, with what is wrong named, and the next older one is taken; or it does no harm."""

import errno
import json
import logging
import os
import shutil

import pytest
from checkpointed import train, weights_digest

from ftkit.config.errors import UserError
from ftkit.training import checkpoints
from ftkit.training.checkpoints import newest_valid_checkpoint, resolve_resume, verify_checkpoint


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def empty(path):
    path.write_bytes(b"")


def zeros(path):
    """What a file system may leave of a file after a loss of power."""
    path.write_bytes(bytes(path.stat().st_size))


def append(path):
    path.write_bytes(path.read_bytes() + b"\n")


def remove(path):
    path.unlink()


def folder(path):
    path.unlink()
    path.mkdir()


def dangling(path):
    path.unlink()
    path.symlink_to("gone")


def loop(path):
    path.unlink()
    path.symlink_to(path.name)


def pipe(path):
    path.unlink()
    os.mkfifo(path)


def older(path):
    """The file of the checkpoint before, as a careless restore brings it back."""
    before = path.parent.with_name("checkpoint-4") / path.name
    assert path.read_bytes() != before.read_bytes()
    shutil.copyfile(before, path)


def close(path):
    """No permission to read, also where the tests are run by root."""
    CLOSED.append(path)


def fail(path):
    """A sector that can't be read any more."""
    FAILING.append(path)


CLOSED, FAILING = [], []  # paths that answer with an error, until the test is over
SAID = {
    cut: "bytes, ", flip: "contents changed", empty: "0 bytes, ", zeros: "contents changed", append: "bytes, ",
    remove: "missing", folder: "missing", dangling: "missing", loop: "missing", pipe: "missing",
    older: "contents changed", close: "can't be read (Permission denied)", fail: "can't be read (Input/output error)",
}  # fmt: skip
FILES = {  # each file of a checkpoint and what is done to it: 83 kinds
    "model.safetensors": (cut, flip, empty, zeros, append, remove, folder, dangling, loop, pipe, older, close, fail),
    "optimizer.pt": (cut, flip, empty, zeros, append, remove, folder, dangling, loop, pipe, older, close, fail),
    "scheduler.pt": (cut, flip, empty, zeros, append, remove, folder, dangling, older, close, fail),
    "rng_state.pth": (cut, flip, empty, zeros, append, remove, folder, dangling, older, close, fail),
    "trainer_state.json": (cut, flip, empty, zeros, append, remove, folder, dangling, close, fail),
    "config.json": (cut, flip, empty, append, remove, folder, dangling, close),
    "tokenizer.json": (cut, flip, empty, append, remove, folder, close),
    "tokenizer_config.json": (cut, flip, empty, append, remove),
    "generation_config.json": (cut, flip, empty, append, remove),
}


def manifest_of(checkpoint, change):
    """Change what the manifest says, with a checksum that fits again where `change` returns nothing."""
    path = checkpoint / "manifest.json"
    manifest = json.loads(path.read_text())
    text = change(manifest)
    path.write_text(checkpoints.manifest_text(manifest) if text is None else text)


def on_manifest(damage):
    return lambda checkpoint: damage(checkpoint / "manifest.json")


def swapped(checkpoint):
    for name in ("checkpoint-4", "checkpoint-5"):
        checkpoint.with_name(name).rename(checkpoint.with_name(f"x{name}"))
    checkpoint.with_name("xcheckpoint-4").rename(checkpoint)
    checkpoint.with_name("xcheckpoint-5").rename(checkpoint.with_name("checkpoint-4"))


FOLDERS = {  # what is done to a whole checkpoint or its manifest, and what is said of it: 24 kinds
    "manifest cut": (on_manifest(cut), "manifest.json: damaged"),
    "manifest flipped": (on_manifest(flip), "manifest.json: damaged"),
    "manifest empty": (on_manifest(empty), "manifest.json: damaged"),
    "manifest of zeros": (on_manifest(zeros), "manifest.json: damaged"),
    "manifest with a line more": (on_manifest(append), "manifest.json: damaged"),
    "manifest missing": (on_manifest(remove), "manifest.json: missing"),
    "manifest a folder": (on_manifest(folder), "manifest.json: not a file"),
    "manifest a dangling link": (on_manifest(dangling), "manifest.json: not a file"),
    "manifest a pipe": (on_manifest(pipe), "manifest.json: not a file"),
    "manifest of the one before": (on_manifest(older), "manifest.json: written for step 4"),
    "manifest closed": (on_manifest(close), "manifest.json: can't be read (Permission denied)"),
    "manifest on a bad sector": (on_manifest(fail), "manifest.json: can't be read (Input/output error)"),
    "manifest a list": (lambda one: manifest_of(one, lambda _: "[]"), "manifest.json: damaged"),
    "manifest not UTF-8": (lambda one: (one / "manifest.json").write_bytes(b"\xff{}"), "manifest.json: damaged"),
    "manifest nested deeply": (lambda one: manifest_of(one, lambda _: "[" * 100_000), "manifest.json: damaged"),
    "manifest without files": (
        lambda one: manifest_of(one, lambda manifest: manifest.pop("files") and None), "manifest.json: damaged",
    ),
    "manifest without step": (
        lambda one: manifest_of(one, lambda manifest: manifest.pop("step") and None), "manifest.json: damaged",
    ),
    "manifest with a file too few": (
        lambda one: manifest_of(one, lambda manifest: manifest["files"].pop("optimizer.pt") and None),
        "optimizer.pt: not written with this checkpoint",
    ),
    "a file more": (lambda one: (one / "more.txt").touch(), "more.txt: not written with this checkpoint"),
    "a shard more": (
        lambda one: shutil.copyfile(one / "model.safetensors", one / "model-00001-of-00002.safetensors"),
        "model-00001-of-00002.safetensors: not written with this checkpoint",
    ),
    "a folder with a file more": (
        lambda one: ((one / "sub").mkdir(), (one / "sub" / "x").touch()), "sub/x: not written with this checkpoint",
    ),
    "renamed to a later step": (
        lambda one: one.rename(one.with_name("checkpoint-50")), "manifest.json: written for step 5",
    ),
    "its number written otherwise": (
        lambda one: one.rename(one.with_name("checkpoint-05")), "manifest.json: written for step 5",
    ),
    "closed as a whole": (close, "manifest.json: can't be read (Permission denied)"),
}  # fmt: skip
VANISHED = {  # nothing is left that looks like a checkpoint: 4 kinds
    "removed": shutil.rmtree,
    "a file": lambda one: (shutil.rmtree(one), one.touch()),
    "a dangling link": lambda one: (shutil.rmtree(one), one.symlink_to("gone")),
    "on a bad sector": fail,
}
HARMLESS = {  # the same bytes, so that it is resumed as ever: 6 kinds
    "other times": lambda one: [os.utime(path, (0, 0)) for path in one.iterdir()],
    "files that can only be read": lambda one: [path.chmod(0o444) for path in one.iterdir()],
    "an empty folder more": lambda one: (one / "cache").mkdir(),
    "a file moved elsewhere and linked": lambda one: (
        (one / "optimizer.pt").rename(one.parent / "moved.pt"), (one / "optimizer.pt").symlink_to("../moved.pt"),
    ),
    "the folder moved elsewhere and linked": lambda one: (
        one.rename(one.parent / "moved"), one.symlink_to("moved"),
    ),
    "copied": lambda one: (shutil.move(one, one.parent / "moved"), shutil.copytree(one.parent / "moved", one)),
}  # fmt: skip


@pytest.fixture
def newest(run_folder, monkeypatch):
    """The newest checkpoint of a run; what is put into CLOSED and FAILING can't be read until the test is over."""
    original = {"stat": os.stat, "open": open, "scandir": os.scandir}

    def guarded(name):
        def call(path, *args, **kwargs):
            for number, paths in ((errno.EACCES, CLOSED), (errno.EIO, FAILING)):
                for closed in paths if isinstance(path, str | os.PathLike) else ():
                    inside = os.fspath(path).startswith(f"{closed}{os.sep}")
                    at = os.fspath(path) == str(closed) and (name != "stat" or number == errno.EIO)
                    if inside or at:
                        raise OSError(number, os.strerror(number), os.fspath(path))
            return original[name](path, *args, **kwargs)

        return call

    monkeypatch.setattr(os, "stat", guarded("stat"))
    monkeypatch.setattr(os, "scandir", guarded("scandir"))
    monkeypatch.setattr("builtins.open", guarded("open"))
    monkeypatch.setattr("io.open", guarded("open"))
    yield run_folder / "checkpoint-5"
    CLOSED.clear()
    FAILING.clear()


@pytest.mark.parametrize(
    ("name", "damage"), [(name, damage) for name, damages in FILES.items() for damage in damages],
    ids=lambda one: getattr(one, "__name__", one),
)  # fmt: skip
def test_a_damaged_file_is_named_and_the_older_checkpoint_taken(name, damage, newest, caplog):
    damage(newest / name)
    (problem,) = verify_checkpoint(newest)
    assert problem.startswith(f"{name}: ") and SAID[damage] in problem
    with caplog.at_level(logging.WARNING):
        assert newest_valid_checkpoint(newest.parent) == newest.with_name("checkpoint-4")
    assert f"{newest} is skipped: {name}: " in caplog.text
    with pytest.raises(UserError, match=f"checkpoint-5: damaged, {name}: .*; take the newest valid one"):
        resolve_resume(newest.parent, newest)


@pytest.mark.parametrize("name", FOLDERS)
def test_a_damaged_checkpoint_is_passed_over(name, newest, caplog):
    damage, problem = FOLDERS[name]
    damage(newest)
    with caplog.at_level(logging.WARNING):
        assert newest_valid_checkpoint(newest.parent) == newest.with_name("checkpoint-4")
    assert problem in caplog.text


@pytest.mark.parametrize("name", VANISHED)
def test_a_checkpoint_that_is_gone_is_not_looked_for(name, newest):
    VANISHED[name](newest)
    assert newest_valid_checkpoint(newest.parent) == newest.with_name("checkpoint-4")


@pytest.mark.parametrize("name", HARMLESS)
def test_what_changes_no_byte_does_no_harm(name, newest):
    HARMLESS[name](newest)
    assert verify_checkpoint(newest) == [] and newest_valid_checkpoint(newest.parent) == newest


def test_checkpoints_that_were_swapped_are_both_passed_over(newest):
    swapped(newest)
    assert newest_valid_checkpoint(newest.parent) == newest.with_name("checkpoint-2")


@pytest.mark.parametrize("name", ["an empty folder more", "a file moved elsewhere and linked"])
def test_a_run_goes_on_from_a_checkpoint_without_harm_to_the_same_weights(name, newest, finished):
    shutil.rmtree(newest)
    HARMLESS[name](newest.with_name("checkpoint-4"))
    assert weights_digest(train(newest.parent, resume=True).model) == finished[1]


def test_any_changed_byte_of_the_manifest_is_found(run_folder):
    path = run_folder / "checkpoint-4" / "manifest.json"
    content = path.read_bytes()
    for position in range(0, len(content), 7):
        path.write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
        assert verify_checkpoint(path.parent) == ["manifest.json: damaged"], position


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_checkpoint_that_is_really_closed_is_passed_over(run_folder):
    (run_folder / "checkpoint-5" / "optimizer.pt").chmod(0)
    (run_folder / "checkpoint-4").chmod(0)
    try:
        assert newest_valid_checkpoint(run_folder) == run_folder / "checkpoint-2"
    finally:
        (run_folder / "checkpoint-4").chmod(0o700)
