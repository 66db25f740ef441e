"""Signals to real processes as people and schedulers send them: to one or a whole group, through launchers, with data workers."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import ftkit
from ftkit.training.checkpoints import list_checkpoints, verify_checkpoint

ROOT = Path(ftkit.__file__).parents[1]
SECONDS = 300  # for a busy machine
CASES = [  # command, signal, whether the group gets it, exit codes: of a launcher that died of it, its own
    ([sys.executable, "-m", "ftkit.sft"], signal.SIGTERM, True, 143),
    ([sys.executable, "-m", "ftkit", "sft"], signal.SIGINT, True, 130),
    (["accelerate", "launch", "--cpu", "--num_processes", "1", "ftkit/sft.py"], signal.SIGTERM, False, -signal.SIGTERM),
    (["torchrun", "--nproc_per_node", "2", "--master_port", "29613", "-m", "ftkit.sft"], signal.SIGTERM, False, 1),
]


def wait_for(condition) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.parametrize("command, number, to_group, code", CASES, ids=["module", "ftkit", "accelerate", "torchrun"])
def test_a_signalled_process_saves_and_ends(command, number, to_group, code, tmp_path, tiny_folder, word_rows):
    rows, out, log = tmp_path / "rows.jsonl", tmp_path / "out", tmp_path / "log"
    rows.write_text("".join(json.dumps(row) + "\n" for row in word_rows))
    flags = f"""--model_name_or_path {tiny_folder} --dataset_name {rows} --template alpaca --output_dir {out} --use_peft
        --max_steps 4000 --logging_steps 1 --per_device_train_batch_size 2 --packing false --bf16 false --use_cpu
        --dataloader_num_workers 2""".split()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with log.open("w") as file:
        process = subprocess.Popen(
            [*command, *flags], cwd=ROOT, env=environment, stdout=file, stderr=file, start_new_session=True
        )
    metrics = out / "metrics.jsonl"
    wait_for(lambda: process.poll() is not None or metrics.is_file() and metrics.read_text().count("\n") > 2)
    if to_group:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    assert process.wait(SECONDS) == code, log.read_text()
    wait_for(lambda: "the same command goes on" in log.read_text())  # a launcher may end before the run does
    (checkpoint,) = list_checkpoints(out)[-1:]
    step = checkpoint.name.rpartition("-")[2]
    text = log.read_text()
    assert f"stopped at update {step} of 4000; checkpoint-{step} is whole; the same command goes on" in text
    assert verify_checkpoint(checkpoint) == []
    assert "ftkit/" not in text.partition("Traceback")[2]  # torchrun shows one of its own
