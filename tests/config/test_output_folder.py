"""What a folder holds is known from what a run left there, and one process at a time writes it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ftkit.config.errors import UserError
from ftkit.config.output_folder import (
    RunNote,
    State,
    check_new_folder,
    clear,
    held,
    note_path,
    read_note,
    state_of,
    write_note,
)

HOLD = """
import sys
from ftkit.config.output_folder import held
with held(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    return folder


def test_a_folder_that_is_not_there_or_holds_hidden_leftovers_is_empty(tmp_path):
    assert state_of(tmp_path / "new") is State.EMPTY
    leftovers = (".run.yaml.123", ".staging/checkpoint-2/a", ".deleting-checkpoint-2/b", ".ftkit/lock")
    assert state_of(touch(tmp_path, *leftovers)) is State.EMPTY
    check_new_folder(tmp_path)


def test_a_run_is_unfinished_until_it_notes_its_end(tmp_path):
    write_note(tmp_path, RunNote("sft", {"rows": "1"}))
    assert state_of(tmp_path) is State.UNFINISHED
    write_note(tmp_path, RunNote("sft", {"rows": "1"}, is_finished=True))
    assert state_of(tmp_path) is State.FINISHED
    assert read_note(tmp_path).fingerprint == {"rows": "1"}


def test_a_run_without_a_note_is_finished_where_it_has_its_card(tmp_path):
    assert state_of(touch(tmp_path, "run.yaml")) is State.UNFINISHED
    assert state_of(touch(tmp_path, "README.md")) is State.FINISHED


def test_a_checkpoint_alone_is_of_an_unfinished_run(tmp_path):
    assert state_of(touch(tmp_path, "checkpoint-2/manifest.json")) is State.UNFINISHED


def test_files_of_something_else_are_known(tmp_path):
    assert state_of(touch(tmp_path, "thesis.tex")) is State.OTHER
    with pytest.raises(UserError, match="already holds files"):
        check_new_folder(tmp_path)
    with pytest.raises(UserError, match="is a file; give --output_dir a folder"):
        state_of(tmp_path / "thesis.tex")


@pytest.mark.parametrize("text", ["", "[]", "{", '{"schema": 1}', "null"])
def test_a_note_that_cannot_be_read_is_refused_by_name(tmp_path, text):
    note_path(tmp_path).parent.mkdir()
    note_path(tmp_path).write_text(text)
    with pytest.raises(UserError, match="run.json: not as a run writes it"):
        state_of(tmp_path)


def test_clearing_leaves_what_a_person_put_there(tmp_path):
    touch(tmp_path, "run.yaml", "checkpoint-2/a", "model-00001-of-00002.safetensors", "before/results.json", "loss.png")
    touch(tmp_path, "notes.txt", "data.jsonl", "holiday.png", "merged.safetensors", ".ftkit/run.json")
    clear(tmp_path)
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert left == [".ftkit/run.json", "data.jsonl", "holiday.png", "merged.safetensors", "notes.txt"]


def test_a_second_process_is_refused_until_the_first_ends_however_it_ends(tmp_path):
    out = tmp_path / "out"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(out)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=f"out: process {other.pid} on .* is writing there; wait for it") as error:
            with held(out):
                pass
        assert "\n" not in str(error.value)
        other.kill()
    with held(out):
        assert (out / ".ftkit/lock").read_text().startswith(f"process {os.getpid()} on ")


def test_a_folder_that_stays_empty_is_not_left_behind(tmp_path):
    with held(tmp_path / "out"):
        assert (tmp_path / "out").is_dir()
    assert not (tmp_path / "out").exists()
    with held(tmp_path):
        touch(tmp_path, "kept")
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_a_file_system_without_locks_is_said(tmp_path, monkeypatch, caplog):
    import fcntl

    def unsupported(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "lockf", unsupported)
    with held(tmp_path / "out"):
        pass
    assert "its file system has no locks (Operation not supported)" in caplog.text
