"""The probe describes this machine, and cores are cut by a container's quota."""

import os
from types import SimpleNamespace

import pytest
import torch

from ftkit.config import hardware


def test_probe_finds_the_device_torch_finds():
    found = hardware.probe()
    assert (found.device != "cpu") == torch.accelerator.is_available()
    assert found.memory_gib > 0 and found.bf16_speedup > 0
    assert "bf16" in found.describe()


def test_bf16_is_used_only_where_it_is_faster():
    make = lambda speedup: hardware.Hardware("cpu", "x", 1, 1.0, speedup)  # noqa: E731
    assert [make(speedup).bf16 for speedup in (0.5, 1.0, 1.3)] == [False, False, True]


@pytest.mark.parametrize(
    ("bf16_seconds", "sizes", "speedup"), [(50.0, [192, 192], 0.02), (0.5, [192, 192, 768, 768], 2.0)]
)
def test_large_matrices_are_multiplied_only_where_bf16_is_not_emulated(monkeypatch, bf16_seconds, sizes, speedup):
    measured = []

    def gemm_seconds(dtype, device, size):
        measured.append(size)
        return bf16_seconds if dtype == torch.bfloat16 else 1.0

    monkeypatch.setattr(hardware, "gemm_seconds", gemm_seconds)
    assert (hardware.bf16_speedup("cpu"), measured) == (speedup, sizes)


def test_a_cpu_quota_cuts_the_cores(monkeypatch, tmp_path):
    quota = tmp_path / "cpu.max"
    monkeypatch.setattr(hardware, "Path", lambda _: quota)
    quota.write_text("100000 100000\n")
    assert hardware.usable_cores() == 1
    quota.write_text("max 100000\n")
    assert hardware.usable_cores() == len(os.sched_getaffinity(0))


def test_omp_num_threads_is_respected(monkeypatch):
    before = torch.get_num_threads()
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert hardware.use_all_cores() == before


def test_each_process_of_a_machine_measures_its_own_gpu(monkeypatch):
    measured = set()
    monkeypatch.setattr(hardware, "gemm_seconds", lambda dtype, device, size: measured.add(str(device)) or 1.0)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
    about = lambda index: SimpleNamespace(name=f"GPU {index}", total_memory=2**30)  # noqa: E731
    monkeypatch.setattr(torch.cuda, "get_device_properties", about)
    monkeypatch.setenv("LOCAL_RANK", "1")
    found = hardware.probe.__wrapped__()
    assert (found.device, found.name, measured) == ("cuda", "GPU 1", {"cuda:1"})
