"""What this machine is good at, from a probe of a few milliseconds, and the defaults that follow from it."""

import os
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ftkit.config.launch import threads_are_chosen

PROBE_SIZE = 768  # rows of the square matrices multiplied by the probe: about 1 GFLOP a product


@dataclass(frozen=True)
class Hardware:
    """device: "cuda", "mps", "xpu" or "cpu". memory_gib: of that device. bf16_speedup: bf16 over fp32 GEMM speed."""

    device: str
    name: str
    num_cores: int
    memory_gib: float
    bf16_speedup: float

    @property
    def bf16(self) -> bool:
        """Whether bf16 arithmetic pays: at least 1.2 times the speed of fp32."""
        return self.bf16_speedup >= 1.2

    def describe(self) -> str:
        """One line for a person."""
        precision = f"bf16 runs at {self.bf16_speedup:.1f}x the speed of fp32"
        return f"{self.name}, {self.num_cores} cores, {self.memory_gib:.0f} GiB; {precision}"


def usable_cores() -> int:
    """Cores this process may use: the affinity mask, cut by a container's CPU quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = Path("/sys/fs/cgroup/cpu.max")
    if quota.is_file():
        limit, period = quota.read_text().split()
        if limit != "max":
            cores = min(cores, max(1, int(limit) // int(period)))
    return cores


def gemm_seconds(dtype, device: str) -> float:
    """Fastest of three products of two PROBE_SIZE x PROBE_SIZE matrices."""
    import torch

    matrix = torch.ones(PROBE_SIZE, PROBE_SIZE, dtype=dtype, device=device)
    matrix @ matrix
    times = []
    for _ in range(3):
        start = time.perf_counter()
        (matrix @ matrix)[0, 0].item()  # .item() waits for the device
        times.append(time.perf_counter() - start)
    return min(times)


@lru_cache(maxsize=1)
def probe() -> Hardware:
    """Look at the accelerator, or the CPU when there is none."""
    import psutil
    import torch

    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    kind = device.type if device else "cpu"
    speedup = gemm_seconds(torch.float32, kind) / gemm_seconds(torch.bfloat16, kind)
    if kind == "cuda":
        properties = torch.cuda.get_device_properties(0)
        return Hardware(kind, properties.name, usable_cores(), properties.total_memory / 2**30, speedup)
    memory_gib = psutil.virtual_memory().total / 2**30
    return Hardware(kind, "no GPU" if kind == "cpu" else kind, usable_cores(), memory_gib, speedup)


def use_all_cores() -> int:
    """Give torch this process's share of the cores, unless the person set OMP_NUM_THREADS; return the threads' number.

    The processes that a launcher started on this machine share the cores evenly.
    """
    import torch

    if not threads_are_chosen():
        torch.set_num_threads(max(1, usable_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))
    return torch.get_num_threads()
