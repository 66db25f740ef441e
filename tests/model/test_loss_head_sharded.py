"""Under FSDP2 over two processes the compact head trains as full logits do in one process: losses and final weights."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from trl.trainer import utils as trl_utils

if not hasattr(trl_utils, "add_fused_lm_head"):
    pytest.skip("TRL before 1.16 has no head to take over", allow_module_level=True)

pytestmark = pytest.mark.processes
SCRIPT = Path(__file__).with_name("sharded_head_runs.py")
spec = importlib.util.spec_from_file_location("sharded_head_runs", SCRIPT)
runs = importlib.util.module_from_spec(spec)
spec.loader.exec_module(runs)


@pytest.fixture(scope="module")
def sharded(tmp_path_factory):
    path = tmp_path_factory.mktemp("sharded") / "runs.pt"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environ = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, SCRIPT, path], capture_output=True, text=True, env=environ, timeout=240)
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-5000:]
    return torch.load(path)


@pytest.mark.parametrize("run", runs.RUNS, ids=lambda run: " ".join(map(str, run)))
def test_two_shards_train_as_one_process(run, sharded):
    losses, weights, warnings = sharded[run]
    expected_losses, expected_weights = runs.train_alone(*run[:3])
    assert losses == pytest.approx(expected_losses, rel=1e-5)
    assert weights.keys() == expected_weights.keys()
    for name, weight in weights.items():
        assert (weight - expected_weights[name]).norm() <= 1e-5 * expected_weights[name].norm(), name
    assert not warnings  # the head was ours throughout
