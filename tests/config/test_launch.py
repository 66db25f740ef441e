"""What accelerate and torchrun leave in the environment, as seen with accelerate 1.15, and what is made of it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ftkit.config import launch
from ftkit.config.errors import UserError
from ftkit.config.hardware import usable_cores, use_all_cores
from ftkit.config.launch import (
    check_world,
    is_first_process,
    local_rank,
    rank,
    sharding,
    threads_are_chosen,
    world_size,
)  # fmt: skip
from ftkit.data.reading.progress import reading_bar

BY_ACCELERATE = {"ACCELERATE_MIXED_PRECISION": "no", "ACCELERATE_USE_CPU": "True", "OMP_NUM_THREADS": "1"}
ADDRESS = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
TWO = {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2", **ADDRESS}


@pytest.mark.parametrize(
    "environ",
    [{}, BY_ACCELERATE, {**BY_ACCELERATE, **TWO}, TWO, ADDRESS, {**BY_ACCELERATE, **ADDRESS, "PMI_SIZE": "2"}],
    ids=["plain", "accelerate", "accelerate --multi_gpu", "torchrun", "a cluster's address", "mpirun"],
)
def test_the_world_that_was_asked_for_passes(environ):
    check_world(environ)


def test_one_process_in_place_of_several_is_refused():
    with pytest.raises(UserError, match="accelerate started one; on a CPU launch with torchrun --nproc_per_node N"):
        check_world({**BY_ACCELERATE, **ADDRESS})


def test_processes_of_mpirun_need_a_place_to_meet():
    with pytest.raises(UserError, match="don't know where to meet; set MASTER_ADDR to the machine of the first"):
        check_world({"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "0"})


def test_sharding_on_a_cpu_is_refused(monkeypatch):
    name = "ACCELERATE_USE_FSDP"
    monkeypatch.setattr(launch, "has_accelerator", lambda: False)
    with pytest.raises(UserError, match="FSDP was asked for on a CPU: every process would hold the whole model"):
        check_world({**BY_ACCELERATE, **TWO, name: "true"})
    check_world({**BY_ACCELERATE, **TWO, name: "false"})
    monkeypatch.setattr(launch, "has_accelerator", lambda: True)
    check_world({**BY_ACCELERATE, **TWO, name: "true"})
    with pytest.raises(UserError, match="FSDP"):
        check_world({**BY_ACCELERATE, **TWO, name: "true"}, use_cpu=True)


@pytest.mark.parametrize(
    ("environ", "numbers"),
    [
        ({}, (0, 0, 1)),
        ({"LOCAL_RANK": "-1"}, (0, 0, 1)),
        ({"RANK": "5", "LOCAL_RANK": "1", "WORLD_SIZE": "8"}, (5, 1, 8)),
        ({"PMI_RANK": "5", "MPI_LOCALRANKID": "1", "PMI_SIZE": "8"}, (5, 1, 8)),
        ({"OMPI_COMM_WORLD_RANK": "5", "OMPI_COMM_WORLD_LOCAL_RANK": "1", "OMPI_COMM_WORLD_SIZE": "8"}, (5, 1, 8)),
        ({"MV2_COMM_WORLD_RANK": "5", "MV2_COMM_WORLD_LOCAL_RANK": "1", "MV2_COMM_WORLD_SIZE": "8"}, (5, 1, 8)),
        ({"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "8"}, (0, 0, 8)),
    ],
    ids=["none", "torch's none", "torchrun", "Intel MPI", "Open MPI", "MVAPICH", "the first of mpirun"],
)
def test_each_launcher_says_which_process_this_is(environ, numbers):
    assert (rank(environ), local_rank(environ), world_size(environ)) == numbers
    assert is_first_process(environ) is (numbers[0] == 0)


def test_only_the_first_process_of_mpirun_shows_a_bar(monkeypatch, tmp_path):
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    path = tmp_path / "rows.jsonl"
    path.write_text("{}\n")
    for number in ("0", "1"):
        monkeypatch.setenv("OMPI_COMM_WORLD_RANK", number)
        with reading_bar([path]) as progress:
            assert (progress is not None) is (number == "0")


@pytest.mark.parametrize("value", ["true", "True", "1"])
def test_sharding_is_read_in_one_way(value):
    assert sharding({"ACCELERATE_USE_FSDP": value})
    assert not sharding({}) and not sharding({"ACCELERATE_USE_FSDP": "false"})
    with pytest.raises(UserError, match="DeepSpeed is not supported; FSDP2 splits weights too"):
        check_world({"ACCELERATE_USE_DEEPSPEED": value, "ACCELERATE_USE_FSDP": "false"})


def test_no_other_module_reads_a_launchers_variables():
    package = Path(launch.__file__).resolve().parents[1]
    names = {*launch.RANKS, *launch.LOCAL_RANKS, *launch.WORLD_SIZES, "ACCELERATE_USE_"}
    found = [
        (path.name, name)
        for path in package.rglob("*.py")
        if path.name not in ("launch.py", "load_back.py")  # the latter hides them from a fresh process
        for name in names
        if re.search(f"[\"']{name}", path.read_text(encoding="utf-8"))
    ]
    assert not found


def test_the_number_of_processes_is_what_the_launcher_says():
    assert [world_size(environ) for environ in ({}, TWO, {"OMPI_COMM_WORLD_SIZE": "4"})] == [1, 2, 4]


def test_threads_set_by_the_person_are_kept():
    assert not threads_are_chosen({})
    assert threads_are_chosen({"OMP_NUM_THREADS": "3"})


@pytest.mark.parametrize("chosen", [False, True])
def test_threads_set_by_a_launcher_are_not_the_persons(chosen):
    child = "from ftkit.config.launch import threads_are_chosen; print(threads_are_chosen())"
    launcher = (
        "import os, subprocess, sys; os.environ.update(OMP_NUM_THREADS='1', ACCELERATE_MIXED_PRECISION='no'); "
        f"subprocess.run([sys.executable, '-c', {child!r}])"
    )
    environ = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    environ |= {"OMP_NUM_THREADS": "1"} if chosen else {}
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", launcher], env=environ, cwd=root, capture_output=True, text=True)
    assert done.stdout.strip() == str(chosen), done.stderr


@pytest.mark.parametrize("variable", ["LOCAL_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS"])
def test_processes_of_one_machine_share_its_cores(monkeypatch, variable):
    before = torch.get_num_threads()
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    try:
        assert use_all_cores() == usable_cores()
        monkeypatch.setenv(variable, str(usable_cores()))
        assert use_all_cores() == 1
        monkeypatch.setenv(variable, str(10 * usable_cores()))
        assert use_all_cores() == 1
    finally:
        torch.set_num_threads(before)


def test_a_process_that_belongs_to_no_run_inherits_nothing_of_its_launcher():
    assert launch.without_launcher({**TWO, "PMI_RANK": "1", "HOME": "/home/me"}) == {"HOME": "/home/me"}
