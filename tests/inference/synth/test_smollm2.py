"""SmolLM2 writes rows on this CPU, and a run that is killed with kill -9 ends with the same ones."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from made_up import passages

from ftkit.data.reading.loading import load_rows
from ftkit.inference.synth.citations import check

KINDS = {
    "self-instruct": ["--seeds", "seeds.txt"],
    "reasoning": ["--seeds", "sums.jsonl", "--num_samples", "4"],
    "raft": ["--docs", "docs", "--num_distractors", "2", "--share_without", "0.25"],
}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with seeds, sums and documents."""
    monkeypatch.chdir(tmp_path)
    tasks = ("Name three uses of a paper clip.", "Explain what rain is to a child.", "Write a short poem about tea.",
             "List four animals that live in water.", "What is the difference between a city and a village?")  # fmt: skip
    (tmp_path / "seeds.txt").write_text("\n".join(tasks) + "\n")
    sums = [
        {"question": f"Tom has {n} apples and gets {n + 1} more. How many has he?", "answer": str(2 * n + 1)}
        for n in range(2, 9)
    ]
    (tmp_path / "sums.jsonl").write_text("".join(json.dumps(one) + "\n" for one in sums))
    (tmp_path / "docs").mkdir()
    for number, one in enumerate(passages(12)):
        (tmp_path / f"docs/page{number:02}.md").write_text(f"# {one.heading}\n\n{one.text}\n")
    return tmp_path


def command(kind: str, out: str) -> list[str]:
    flags = ["--model", "smollm2", "--number", "4", "--max_new_tokens", "80", "--batch_size", "4"]
    return [sys.executable, "-m", "ftkit", "synth", "--kind", kind, *KINDS[kind], *flags, "--output_dir", out]


@pytest.mark.slow
@pytest.mark.smollm2
@pytest.mark.processes
@pytest.mark.parametrize("kind", KINDS)
def test_smollm2_writes_rows_and_goes_on_after_kills(kind, here, smollm2_gguf):
    done = subprocess.run(command(kind, "whole"), capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    num_replies = len((here / "whole/.ftkit/replies.jsonl").read_text().strip().split("\n"))
    for share in (0.2, 0.6):
        kill_after(command(kind, "cut"), here / "cut/.ftkit/replies.jsonl", max(1, int(share * num_replies)))
    assert not (here / "cut/README.md").exists()
    done = subprocess.run(command(kind, "cut"), capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    for name in ("train.jsonl", "dropped.jsonl"):
        whole, cut = here / "whole" / name, here / "cut" / name
        assert cut.exists() == whole.exists() and (not whole.exists() or cut.read_bytes() == whole.read_bytes())
    assert len(load_rows("cut").train) == 4
    if kind == "raft":
        check_raft_rows(here / "cut/train.jsonl")


def kill_after(argv: list[str], journal, num_replies: int) -> None:
    """Start a command and kill it when so many replies are there."""
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None:
        if journal.is_file() and journal.read_bytes().count(b"\n") >= num_replies:
            os.kill(process.pid, signal.SIGKILL)
            break
        time.sleep(0.02)
    assert process.wait() == -signal.SIGKILL


def check_raft_rows(path) -> None:
    """Each row that has its passage quotes it, word for word, by its number."""
    texts = {f"page{number:02}.md": one.text for number, one in enumerate(passages(12))}
    for line in path.read_text().strip().split("\n"):
        row = json.loads(line)
        if row["has_passage"]:
            shown = [next(text for name, text in texts.items() if name in source) for source in row["sources"]]
            (quote,) = check(row["messages"][-1]["content"], shown)
            assert quote.is_true and row["sources"][quote.number - 1] == row["provenance"]["passages"][0]
