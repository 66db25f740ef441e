"""`ftkit push` prints what it sends and what not, ends a mistake with one line and exit code 2, and never shows a token."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import pytest

from ftkit.commands.push import main
from ftkit.config.parser import run

spec = importlib.util.spec_from_file_location("hub_stand_in", Path(__file__).parents[1] / "publish" / "hub_stand_in.py")
stand_in = sys.modules["hub_stand_in"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(stand_in)
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>' to upload raw bytes:DeprecationWarning")


@pytest.fixture
def folder(tiny_folder, tmp_path) -> Path:
    """A model with a pickle beside it."""
    copy = Path(shutil.copytree(tiny_folder, tmp_path / "my-model"))
    (copy / "training_args.bin").write_bytes(b"pickle")
    return copy


@pytest.fixture
def hub(monkeypatch):
    """A stand-in that huggingface_hub takes for the Hub."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_TOKEN", stand_in.WRITE_TOKEN)
    with stand_in.HubStandIn() as server:
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", server.endpoint)
        yield server
    huggingface_hub.utils.close_session()


def test_a_push_says_what_was_sent_and_where_it_is(hub, folder, capsys):
    assert run(main, [str(folder), "owner/name", "--private", "--no_check"]) == 0
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert lines[0].startswith("6 files, ") and lines[-1] == f"pushed: {hub.endpoint}/owner/name"
    assert any(line.startswith("  training_args.bin") and "pickle" in line for line in lines)
    assert "training_args.bin" not in hub.files("owner/name") and hub.repositories["owner/name"].private
    assert stand_in.WRITE_TOKEN not in said.out + said.err


def test_a_dry_run_asks_nobody(hub, folder, capsys):
    assert run(main, [str(folder), "owner/name", "--dry_run"]) == 0
    assert not hub.requests
    assert "nothing was sent (--dry_run)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["owner/name", "--token", "hf_abc"], "unknown argument --token"),
        (["owner/name", "--privat"], "unknown argument --privat; did you mean --private?"),
        (["o/n/m"], '"o/n/m" is not a repository on the Hub'),
        (["stranger/name"], "the token may not write there (403: "),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(hub, folder, capsys, arguments, message):
    assert run(main, [str(folder), *arguments]) == 2
    said = capsys.readouterr()
    assert message in said.err and len(said.err.splitlines()) == 1 and not said.out


def test_a_folder_that_is_not_there_is_one_line(hub, tmp_path, capsys):
    assert run(main, [str(tmp_path / "nowhere"), "owner/name"]) == 2
    assert "no such folder; give the output folder" in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_pushes_and_loads_back_with_the_environments_settings_alone(folder, tmp_path):
    with stand_in.HubStandIn() as server:
        environment = {
            **os.environ, "HF_ENDPOINT": server.endpoint, "HF_TOKEN": stand_in.WRITE_TOKEN, "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(tmp_path / "home"),
        }  # fmt: skip
        program = (
            "import sys; from ftkit.commands.push import main; from ftkit.config.parser import run; sys.exit(run(main))"
        )
        command = [sys.executable, "-c", program, str(folder), "owner/name"]
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "6 files equal by SHA-256, logits equal on" in done.stdout
        assert "Warning" not in done.stderr and stand_in.WRITE_TOKEN not in done.stdout + done.stderr
        environment["HF_TOKEN"] = "hf_" + "x" * 34
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done.stderr
        assert "does not accept the token (401)" in done.stderr and "hf_x" not in done.stderr
