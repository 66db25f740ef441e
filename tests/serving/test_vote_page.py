"""The page in a browser: votes by keys and clicks reach the file, nothing is asked of others, any width fits."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from browser import needs_browser, visit
from voting import ANSWERS, QUESTIONS, ballot

from ftkit.config.jsonl import write_jsonl
from ftkit.evaluation.judge.votes import read_votes
from ftkit.serving.voting import voting_app

pytestmark = pytest.mark.processes


@needs_browser
def test_votes_by_keys_and_clicks(tmp_path):
    path = tmp_path / "votes.jsonl"
    one = ballot(path)
    found = visit(voting_app(one, "127.0.0.1"), "vote_page.mjs", tmp_path)
    assert (found["requests"], found["complaints"], found["violations"]) == ([], [], [])
    assert max(found["overflows"]) <= 0
    shown = [(pair.answer_a or "(empty answer)", pair.answer_b or "(empty answer)") for pair in one.pairs]
    seen = [(step["left"], step["right"]) for step in found["seen"]]
    assert seen == [shown[0], shown[1], shown[2], shown[1], shown[2], shown[3], shown[3]]
    assert [step["progress"] for step in found["seen"]] == [
        *(f"{number} of 4 pairs voted on" for number in range(3)), "2 of 4 pairs voted on, pair 2 once more",
        "2 of 4 pairs voted on", "3 of 4 pairs voted on", "4 of 4 pairs voted on",
    ]  # fmt: skip
    assert [vote.winner for vote in read_votes(path)] == ["a", "tie", "both_bad", "b"]
    assert len(path.read_text().splitlines()) == 5


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_a_server_that_is_ended_has_kept_its_votes_and_goes_on(tmp_path, end):
    import httpx2

    for model, texts in ANSWERS.items():
        rows = [{"prompt": prompt, "answer": text} for prompt, text in zip(QUESTIONS, texts, strict=True)]
        write_jsonl(tmp_path / f"{model}.jsonl", rows)
    answers = [word for model in ANSWERS for word in ("--answers", f"{model}.jsonl")]
    command = [sys.executable, "-m", "ftkit", "arena", "--serve", "votes.jsonl", *answers, "--port", "0"]
    for number in range(2):
        running = subprocess.Popen(
            command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        )  # fmt: skip
        line = running.stdout.readline()
        assert line.startswith(f"{number} of 4 pairs voted on; vote at http://127.0.0.1:")
        url = line.split()[-1]
        pair = httpx2.get(f"{url}/api/pair").json()["pair"]
        assert httpx2.post(f"{url}/api/votes", json={"pair": pair, "vote": "left"}).json()["num_votes"] == number + 1
        running.send_signal(end)
        _, error = running.communicate(timeout=20)
        assert len(read_votes(tmp_path / "votes.jsonl")) == number + 1
        if end == signal.SIGINT:
            assert running.returncode == 0
            lines = error.strip().split("\n")
            assert lines[-2:] == [
                f"1 new vote, {number + 1} of 4 pairs, in votes.jsonl", "next: ftkit arena votes.jsonl"
            ]  # fmt: skip
            assert "Traceback" not in error
