"""The judge against a real OpenAI-compatible server: `transformers serve` with SmolLM2-135M-Instruct, on loopback."""

import contextlib
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pytest

from ftkit.commands.judge import main
from ftkit.config.errors import UserError
from ftkit.evaluation.judge.judge import NO_JUDGEMENT, NOT_WHOLE

START_SECONDS = 300
pytestmark = [pytest.mark.slow, pytest.mark.smollm2]
ANSWERS = {
    "What is the capital of France?": ("Paris.", "I like trains."),
    "Write the plural of: mouse": ("mice", "mouses"),
    "How many legs has a spider?": ("A spider has eight legs.", "Blue."),
}


@contextlib.contextmanager
def transformers_serve(folder: str, home: Path, port: int):
    """The server, ready to answer; killed at the end with all its children."""
    (home / "hub").mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", folder]
    command = [*command, "--device", "cpu", "--dtype", "float32", "--host", "127.0.0.1", "--port", str(port)]
    env = os.environ | {"HF_HOME": str(home), "HF_HUB_OFFLINE": "1"}
    with open(home / "server.log", "w") as log:
        server = subprocess.Popen(command, env=env, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_until_ready(server, port, home / "server.log")
        yield server
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait(timeout=30)


def wait_until_ready(server: subprocess.Popen, port: int, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        assert server.poll() is None, log.read_text()[-2000:]
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
            return
        time.sleep(0.5)
    raise AssertionError(f"no answer within {START_SECONDS} s: {log.read_text()[-2000:]}")


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture
def folder(smollm2_gguf) -> str:
    for package in ("fastapi", "uvicorn", "openai"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"needs: pip install {package}")
    from ftkit.model.loading import local_model_folder

    return local_model_folder(str(smollm2_gguf))


def write_answers(path: Path, place: int, num: int = 1) -> str:
    lines = [
        json.dumps({"prompt": f"{prompt} ({copy})", "answer": answers[place]})
        for copy in range(num)
        for prompt, answers in ANSWERS.items()
    ]
    path.write_text("\n".join(lines))
    return str(path)


def test_a_real_server_judges_and_failures_are_counted(tmp_path, folder, port, capsys):
    right, wrong = (write_answers(tmp_path / name, place) for place, name in enumerate(("right.jsonl", "wrong.jsonl")))
    with transformers_serve(folder, tmp_path / "home", port):
        flags = ["--endpoint", f"http://127.0.0.1:{port}/v1", "--model_name_or_path", folder, "--max_new_tokens", "8"]
        repeats = ["--num_repeats", "2", "--temperature", "0.1"]
        run([right, wrong, *flags, "--mode", "score", *repeats, "--output_dir", str(tmp_path / "scores")])
        scores = capsys.readouterr().out
        run([right, wrong, *flags, "--output_dir", str(tmp_path / "pairs")])
        pairs = capsys.readouterr().out
    judgements = [json.loads(line) for line in (tmp_path / "scores/judgements.jsonl").read_text().splitlines()]
    print(scores, pairs, sep="\n")
    failed = sum(bool(one["failure"]) for one in judgements)
    assert len(judgements) == 12 and f"12 judgements asked for, {failed} failed" in scores
    assert all(one["input_tokens"] > 50 and 1 <= one["output_tokens"] <= 8 for one in judgements)
    assert all(one["failure"] in ("", NO_JUDGEMENT["score"], NOT_WHOLE["length"]) for one in judgements)
    assert len((tmp_path / "pairs/judgements.jsonl").read_text().splitlines()) == 6
    assert "6 judgements asked for" in pairs
    assert (tmp_path / "pairs/votes.jsonl").exists() == ("6 judgements asked for, 6 failed" not in pairs)


def run(argv: list[str]) -> None:
    """The command; so small a model may well give no judgement at all."""
    try:
        main(argv)
    except UserError as error:
        assert "nothing was judged" in str(error)


def test_a_real_server_that_is_killed_ends_the_judging_which_then_goes_on(tmp_path, folder, port, capsys):
    answers = write_answers(tmp_path / "right.jsonl", 0, num=10)
    judgements = tmp_path / "judged/judgements.jsonl"
    argv = [
        answers, "--endpoint", f"http://127.0.0.1:{port}/v1", "--model_name_or_path", folder, "--max_new_tokens", "8",
        "--output_dir", str(tmp_path / "judged"), "--num_retries", "1", "--concurrency", "2",
    ]  # fmt: skip
    with transformers_serve(folder, tmp_path / "home", port) as server:

        def kill_after_three():
            while not judgements.is_file() or judgements.read_text().count("\n") < 3:
                time.sleep(0.05)
            os.killpg(server.pid, signal.SIGKILL)

        threading.Thread(target=kill_after_three, daemon=True).start()
        with pytest.raises(UserError, match=r"no use asking further \((no connection|the connection broke)"):
            main(argv)
    lines = [json.loads(line) for line in judgements.read_text().splitlines()]
    answered = {one["key"] for one in lines if one["output_tokens"]}
    assert 3 <= len(answered) < 30
    with transformers_serve(folder, tmp_path / "home", port):
        run(argv)
    assert "30 judgements asked for" in capsys.readouterr().out
    lines = [json.loads(line) for line in judgements.read_text().splitlines()]
    assert len({one["key"] for one in lines if one["output_tokens"]}) == 30
