"""The processes that share a benchmark, as mpirun starts them: whose variables torch does not read."""

import os
import subprocess
import sys

import pytest

CODE = """
from ftkit.config.launch import is_first_process
from ftkit.evaluation.bench.subject import open_world
with open_world() as world:
    world.wait()
    print(world.rank, world.size, is_first_process())
"""


@pytest.mark.slow
def test_two_processes_of_mpirun_find_each_other():
    lent = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    lent |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29517", "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", CODE], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=lent | {
                "OMPI_COMM_WORLD_RANK": str(rank), "OMPI_COMM_WORLD_SIZE": "2",
                "OMPI_COMM_WORLD_LOCAL_RANK": str(rank), "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
            },
        )
        for rank in range(2)
    ]  # fmt: skip
    outcomes = [process.communicate(timeout=300) for process in processes]
    assert [out.strip() for out, _ in outcomes] == ["0 2 True", "1 2 False"], outcomes[0][1]
