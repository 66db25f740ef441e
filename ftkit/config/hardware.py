"""What a machine is good at: this one, from a probe of a few milliseconds, or another by name or from a file."""

import dataclasses
import importlib.util
import os
import platform
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ftkit.config.errors import UserError, did_you_mean
from ftkit.config.launch import local_rank, local_world_size, threads_are_chosen, world_size

PROBE_SIZE = 768  # rows of the square matrices multiplied by the probe: about 1 GFLOP per product
FIRST_PROBE_SIZE = 192  # tried before; most CPUs emulate bf16, and take seconds for the larger ones
EMULATED_SPEEDUP = 0.25  # below it bf16 is taken to be emulated, and the larger ones are spared
QUANTIZING_DEVICES = ("cpu", "cuda", "xpu")  # bitsandbytes has kernels for these


@dataclass(frozen=True)
class Hardware:
    """device: "cuda", "mps", "xpu" or "cpu", the one that trains. memory_gib: of one such device. bf16_speedup: bf16
    over fp32 GEMM speed. num_devices: processes that train, one device each. bitsandbytes: whether it can be used.
    """

    device: str
    name: str
    num_cores: int
    memory_gib: float
    bf16_speedup: float
    num_devices: int = 1
    bitsandbytes: bool = True

    @property
    def bf16(self) -> bool:
        """Whether bf16 arithmetic pays: at least 1.2 times the speed of fp32."""
        return self.bf16_speedup >= 1.2

    @property
    def is_cpu(self) -> bool:
        """Whether there is no accelerator, or none is to be used."""
        return self.device == "cpu"

    @property
    def kind(self) -> tuple[str, str, int]:
        """What must be equal for decisions to be taken over from a run: device, its name, number of processes."""
        return self.device, self.name, self.num_devices

    def describe(self) -> str:
        """One line for a person."""
        precision = f"bf16 runs at {self.bf16_speedup:.2g}x the speed of fp32"
        several = f"{self.num_devices} x " if self.num_devices > 1 else ""
        return f"{several}{self.name}, {self.num_cores} cores, {self.memory_gib:.0f} GiB; {precision}"


PRESETS = {
    "h100-80gb": Hardware("cuda", "NVIDIA H100 80GB HBM3", 16, 79.6, 12.0),
    "rtx4090-24gb": Hardware("cuda", "NVIDIA GeForce RTX 4090", 16, 23.6, 2.0),
    "2xa100-80gb": Hardware("cuda", "NVIDIA A100-SXM4-80GB", 16, 79.3, 14.0, num_devices=2),
    "apple-16gb": Hardware("mps", "Apple M2", 8, 16.0, 1.0, bitsandbytes=False),
    "cpu-2": Hardware("cpu", "CPU with two cores", 2, 8.0, 0.6),
}


def named_hardware(name: str) -> Hardware:
    """The machine of --hardware: a preset, or a YAML file with Hardware's fields.

    Raises UserError for an unknown name, and a file that lacks a field or has one too many.
    """
    if name in PRESETS:
        return PRESETS[name]
    if not name.endswith((".yaml", ".yml")):
        known = ", ".join(PRESETS)
        raise UserError(f"--hardware {name}{did_you_mean(name, PRESETS)}; known are {known}, or a FILE.yaml")
    import yaml

    try:
        values = yaml.safe_load(Path(name).read_text(encoding="utf-8"))
        return Hardware(**values)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, TypeError) as error:
        fields = ", ".join(field.name for field in dataclasses.fields(Hardware))
        raise UserError(f"{name}: not a description of hardware ({error}); it needs {fields}") from error


def usable_cores() -> int:
    """Cores this process may use: the affinity mask, cut by a container's CPU quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = Path("/sys/fs/cgroup/cpu.max")
    if quota.is_file():
        limit, period = quota.read_text().split()
        if limit != "max":
            cores = min(cores, max(1, int(limit) // int(period)))
    return cores


def cpu_name() -> str:
    """The processor's model, as the system names it."""
    described = Path("/proc/cpuinfo")
    lines = described.read_text().split("\n") if described.is_file() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def bf16_speedup(device: str) -> float:
    """How many times as fast as fp32 a device multiplies matrices in bf16."""
    import torch

    for size in (FIRST_PROBE_SIZE, PROBE_SIZE):
        speedup = gemm_seconds(torch.float32, device, size) / gemm_seconds(torch.bfloat16, device, size)
        if speedup < EMULATED_SPEEDUP:
            break
    return speedup


def gemm_seconds(dtype, device: str, size: int) -> float:
    """Fastest of three products of two square matrices of `size` rows."""
    import torch

    matrix = torch.ones(size, size, dtype=dtype, device=device)
    matrix @ matrix
    times = []
    for _ in range(3):
        start = time.perf_counter()
        (matrix @ matrix)[0, 0].item()  # .item() waits for the device
        times.append(time.perf_counter() - start)
    return min(times)


@lru_cache(maxsize=2)
def probe(*, use_cpu: bool = False) -> Hardware:
    """Look at this process's accelerator, or at the CPU where there is none or `use_cpu` says so."""
    import psutil
    import torch

    accelerator = None if use_cpu or not torch.accelerator.is_available() else torch.accelerator.current_accelerator()
    kind = accelerator.type if accelerator else "cpu"
    device = f"cuda:{local_rank()}" if kind == "cuda" else kind
    speedup = bf16_speedup(device)
    name, memory = cpu_name() if kind == "cpu" else kind, psutil.virtual_memory().total
    if kind == "cuda":
        properties = torch.cuda.get_device_properties(local_rank())
        name, memory = properties.name, properties.total_memory
    can_quantize = kind in QUANTIZING_DEVICES and importlib.util.find_spec("bitsandbytes") is not None
    return Hardware(kind, name, usable_cores(), memory / 2**30, speedup, world_size(), can_quantize)


def use_all_cores() -> int:
    """Give torch this process's share of the cores, unless the person set OMP_NUM_THREADS; return the threads' number.

    The processes that a launcher started on this machine share the cores evenly.
    """
    import torch

    if not threads_are_chosen():
        torch.set_num_threads(max(1, usable_cores() // local_world_size()))
    return torch.get_num_threads()
