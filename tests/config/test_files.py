"""Places are tried out before work begins and left as they were; faults of a disk name the file and what to do."""

import errno
import os
import shutil
import subprocess
import sys

import pytest

from ftkit.config import disk
from ftkit.config.disk import errno_of, fault_line, require_room, size_text, temporary_name, writing
from ftkit.config.errors import UserError
from ftkit.config.files import check_file, check_folder, check_space, staged_folder, write_text
from ftkit.config.parser import run


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a file, links that lead nowhere and, unless this is root, a folder that can't be written."""
    (tmp_path / "file").write_text("kept")
    (tmp_path / "dangling").symlink_to("gone")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "closed").mkdir(mode=0o555)
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "kept").write_text("")
    monkeypatch.chdir(tmp_path)
    return tmp_path


UNWRITABLE = {
    "file": "file is a file; give --output_dir a folder",
    "file/runs/a": "file is a file; give --output_dir a folder",
    "dangling": "is a link to gone, which is not there; remove it",
    "dangling/runs/a": "is a link to gone, which is not there; remove it",
    "loop": "is a link to loop, which is not there; remove it",
    "n" * 256: "can't be written .File name too long.; choose another --output_dir",
    "used/" + "n" * 256: "can't be written .File name too long.",
    "runs/" + "n" * 256 + "/a": "can't be written .File name too long.",
    "/".join(["n" * 200] * 20): "can't be written .File name too long.",
    "/proc/nohome/runs": "can't be written .No such file or directory.",
    "/proc/self": "can't be written .No such file or directory.",
    "closed": "can't be written .Permission denied.; choose another --output_dir",
    "closed/runs/a": "can't be written .Permission denied.",
}


def listing(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize("path", UNWRITABLE, ids=lambda path: path[:24])
def test_a_folder_that_can_not_be_written_is_one_line_and_nothing_is_left(path, place):
    if path.startswith("closed") and os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    if path.startswith("/proc") and not os.path.isdir("/proc/self"):
        pytest.skip("no /proc here")
    before = listing(place)
    with pytest.raises(UserError, match=UNWRITABLE[path]) as caught:
        check_folder(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)
    assert listing(place) == before


@pytest.mark.parametrize("path", ["new", "new/a/b", ".", "used", "used/new", "gone/../new", "new/../../outside"])
def test_a_folder_that_can_be_written_is_left_as_it_was(path, place):
    before = listing(place)
    check_folder(path)
    assert listing(place) == before


def test_a_file_is_tried_out_before_it_is_made(place):
    for path, message in {
        "used": "is a folder; give --output_file a file",
        "gone/a.jsonl": "there is no folder gone; make it first",
        "file/a.jsonl": "there is no folder file; make it first",
        "n" * 250: "can't be written .File name too long.; choose another --output_file",
        "/proc/a.jsonl": "can't be written",
    }.items():
        with pytest.raises(UserError, match=message):
            check_file(path, "--output_file")
    before = listing(place)
    for path in ("new.jsonl", "file", "used/new.jsonl", "dangling"):
        check_file(path, "--output_file")
    assert listing(place) == before and (place / "file").read_text() == "kept"


def test_a_full_disk_is_said_with_the_need_before_work_begins(tmp_path, monkeypatch):
    check_space(tmp_path / "new" / "runs", 1, "a checkpoint", "free some space")
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda _: disk.shutil._ntuple_diskusage(10**9, 10**9, 300_000_000))
    with pytest.raises(
        UserError, match="runs: needs 812 MB for two checkpoints, 300 MB free; lower --save_total_limit"
    ):
        check_space(tmp_path / "runs", 812_000_000, "two checkpoints", "lower --save_total_limit")


def test_sizes_are_read_as_those_of_disks():
    assert [size_text(size) for size in (12, 2_300, 812_000_000, 1_240_000_000)] == [
        "12 bytes",
        "2.3 kB",
        "812 MB",
        "1.24 GB",
    ]


FAULTS = {  # what a library raises, the number of the system
    "system": (OSError(errno.EROFS, "Read-only file system"), errno.EROFS),
    "safetensors and tokenizers": (Exception("I/O error: No space left on device (os error 28)"), errno.ENOSPC),
    "torch as it opens": (RuntimeError("open file failed with strerror: Read-only file system"), errno.EROFS),
    "torch while it writes": (
        RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 64 vs 0"),
        errno.EIO,
    ),
    "torch at the end": (RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed"), errno.EIO),
    "torch at its own": (RuntimeError("basic_ios::clear: iostream error"), errno.EIO),
    "a mistake of ours": (RuntimeError("shape mismatch"), None),
    "a library's OSError without a number": (OSError("no file named model.safetensors"), None),
}


@pytest.mark.parametrize("name", FAULTS)
def test_the_number_of_a_fault_is_known_in_the_words_of_each_library(name):
    error, number = FAULTS[name]
    assert errno_of(error) == number


def test_a_fault_while_writing_names_the_file_its_need_and_what_is_free(tmp_path, monkeypatch):
    monkeypatch.setattr(disk, "free_bytes", lambda _: 300_000_000)
    path = tmp_path / "model.safetensors"
    with pytest.raises(OSError) as caught, writing(path, need=812_000_000, note="earlier ones are whole"):
        raise Exception("I/O error: No space left on device (os error 28)")
    assert fault_line(caught.value) == (
        f"{path}: No space left on device, needs 812 MB, 300 MB free; earlier ones are whole; "
        "free some space and run the same command again"
    )
    with pytest.raises(OSError) as caught, writing(path, need=812_000_000):  # torch names no cause
        raise RuntimeError("unexpected pos 64 vs 0")
    assert caught.value.errno == errno.ENOSPC
    with pytest.raises(OSError) as caught, writing(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "other"))
    assert fault_line(caught.value) == f"{tmp_path}/other: Permission denied; change its permissions, or name another"
    with pytest.raises(OSError) as caught, writing(tmp_path / "checkpoint-4", note="earlier ones are whole"):
        with writing(path, need=812_000_000):
            raise OSError(errno.ENOSPC, "No space left on device")
    assert str(path) in str(caught.value) and "needs 812 MB, 300 MB free; earlier ones are whole" in str(caught.value)
    with pytest.raises(ZeroDivisionError), writing(path):
        raise ZeroDivisionError


def test_a_file_whose_writing_fails_stays_as_it_was_without_a_temporary_one(tmp_path, monkeypatch):
    path = tmp_path / "run.yaml"
    write_text(path, "old")
    for number in (errno.ENOSPC, errno.EIO):

        def replace(*_, number=number):
            raise OSError(number, os.strerror(number), str(temporary_name(path)), str(path))

        monkeypatch.setattr(os, "replace", replace)
        with pytest.raises(OSError, match="run.yaml") as caught:
            write_text(path, "new")
        assert caught.value.errno == number and caught.value.filename == str(path)
    assert path.read_text() == "old" and listing(tmp_path) == ["run.yaml"]


def test_a_fault_of_the_system_is_one_line_and_exit_code_2_and_our_own_keeps_its_traceback(capsys):
    def fail(error):
        def main(argv):
            raise error

        return run(main, [])

    assert fail(OSError(errno.EMFILE, "Too many open files", "rows.jsonl")) == 2
    assert capsys.readouterr().err == "rows.jsonl: Too many open files; raise the limit of open files: ulimit -n 4096\n"
    assert fail(Exception("No space left on device (os error 28)")) == 2
    assert (
        capsys.readouterr().err
        == "No space left on device (os error 28); free some space and run the same command again\n"
    )
    assert fail(OSError("no file named model.safetensors\nin m")) == 2
    assert capsys.readouterr().err.startswith("no file named model.safetensors; ")
    with pytest.raises(ZeroDivisionError):
        fail(ZeroDivisionError())


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_output_that_can_not_be_printed_is_one_line():
    program = "import sys; from ftkit.config.parser import run; sys.exit(run(lambda argv: print('scores')))"
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-c", program], stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.endswith("; free some space and run the same command again\n")


@pytest.mark.skipif(not shutil.which("unshare"), reason="no name spaces here")
def test_a_disk_that_can_only_be_read_is_refused_and_one_that_is_full(tmp_path):
    (tmp_path / "disk").mkdir()
    program = "from ftkit.config.files import check_folder; check_folder('disk/runs/a')"
    line = f'{sys.executable} -c "{program}" 2>&1 | tail -1'
    disks = (
        "mount -t tmpfs -o ro tmpfs disk && {0}; mount -t tmpfs -o size=4k tmpfs disk && dd if=/dev/zero of=disk/x; {0}"
    )
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", disks.format(line)], capture_output=True, text=True, cwd=tmp_path
    )
    if "can't be written" not in done.stdout:
        pytest.skip("mounting is not allowed here")
    refused = [line for line in done.stdout.split("\n") if "UserError" in line]
    assert len(refused) == 2 and "(Read-only file system); choose another --output_dir" in refused[0]
    assert "(No space left on device); choose another --output_dir" in refused[1]


@pytest.mark.parametrize("kind", ["missing", "empty", "link"])
def test_a_staged_folder_appears_whole_or_not_at_all(kind, tmp_path):
    out = tmp_path / "out"
    if kind != "missing":
        (tmp_path / "real").mkdir()
        (tmp_path / "real").rename(out) if kind == "empty" else out.symlink_to("real")
    before = listing(tmp_path)
    with pytest.raises(OSError, match="out") as caught, staged_folder(out) as staging:
        (staging / "part").write_text("x")
        raise Exception("No space left on device (os error 28)")
    assert caught.value.filename == str(out) and listing(tmp_path) == before
    with staged_folder(out) as staging:
        (staging / "sub").mkdir()
        (staging / "sub" / "whole").write_text("x")
    assert listing(out) == ["sub", "sub/whole"] and out.is_symlink() == (kind == "link")
    with pytest.raises(UserError, match="out: exists and is not empty"), staged_folder(out):
        pass


def test_room_is_asked_for_before_weights_are_written(tmp_path, monkeypatch):
    monkeypatch.setattr(disk, "free_bytes", lambda _: 300_000_000)
    require_room(tmp_path, 300_000_000)
    with pytest.raises(OSError) as caught:
        require_room(tmp_path, 812_000_000)
    assert fault_line(caught.value).startswith(f"{tmp_path}: No space left on device, needs 812 MB, 300 MB free; free")
