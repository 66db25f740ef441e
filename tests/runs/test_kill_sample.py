"""Twenty points of the kill matrix, others each time: runs that are killed go on by the same command, bit for bit.

The seed is printed where one fails; FTKIT_KILL_SEED=N tries its points again.
"""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from ftkit.config.jsonl import read_jsonl

MATRIX = Path(__file__).resolve().parents[1] / "benchmarks/kill_matrix.py"


@pytest.mark.processes
def test_twenty_random_kills_change_nothing(tmp_path):
    seed = os.environ.get("FTKIT_KILL_SEED") or str(random.SystemRandom().randrange(1_000_000))
    command = [sys.executable, str(MATRIX), "--work", str(tmp_path), "--sample", "20", "--seed", seed]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(MATRIX.parents[2])}
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", env=environment)
    points = read_jsonl(tmp_path / "points.jsonl")
    wrong = [point for point in points if point["invalid"] or point["status"] or point["differences"]]
    assert not wrong, f"FTKIT_KILL_SEED={seed}: {wrong}"
    assert done.returncode == 0 and len(points) == 20, f"FTKIT_KILL_SEED={seed}: {done.stderr[-3000:]}"
    assert sum(len(point["at"]) for point in points) > 20  # some were killed twice
