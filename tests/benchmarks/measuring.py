"""What the benchmarks share: alternating rounds, paired ratios, peak memory of a fresh process, the machine, the report.

A ratio is taken within a round, where both sides ran within seconds of each other, and never between runs. Its interval
is that of the mean log ratio over rounds (Student's t, 95 %).
"""

import math
import os
import platform
import re
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

RESULTS = Path(__file__).with_name("RESULTS.md")
PACKAGES = ("torch", "transformers", "trl", "peft", "bitsandbytes", "datasets", "accelerate")
MAX_ATTEMPTS = 5  # a round is repeated so many times, on average, before noise is accepted
QUIET_SHARE = 0.1  # of a core, that other processes may use during a round
SEED = 0


@dataclass(frozen=True)
class Options:
    """What run.py was asked for. rounds: of each comparison within a process; sft_rounds: of whole commands."""

    rounds: int = 11
    sft_rounds: int = 5
    updates: int = 6  # of each command in C4
    quick: bool = False
    compile: bool = False
    threads: int = 2
    rows: Path | None = None
    litgpt_python: str | None = None


class Ratio(NamedTuple):
    """Geometric mean of paired ratios, and its 95 % interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.2f} ({self.low:.2f} to {self.high:.2f})"


def paired_ratio(numerators: list[float], denominators: list[float]) -> Ratio:
    """How many times larger the first is; the interval is not a number with one round."""
    from scipy.stats import t

    logs = [math.log(a / b) for a, b in zip(numerators, denominators, strict=True)]
    mean = statistics.fmean(logs)
    if len(logs) < 2:
        return Ratio(math.exp(mean), math.nan, math.nan)
    half = t.ppf(0.975, len(logs) - 1) * statistics.stdev(logs) / math.sqrt(len(logs))
    return Ratio(math.exp(mean), math.exp(mean - half), math.exp(mean + half))


def busy_seconds() -> float:
    """Seconds that all cores together have worked for anyone, 0 where the system does not say."""
    path = Path("/proc/stat")
    if not path.exists():
        return 0.0
    fields = [int(field) for field in path.read_text().split("\n")[0].split()[1:]]
    return (sum(fields[:8]) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")


def alternate(
    methods: dict[str, Callable[[], object]], rounds: int, synchronize=lambda: None
) -> dict[str, list[float]]:
    """Seconds of each method in each round, after one warm-up of each; all methods run in every round.

    The order turns from round to round. A round in which others used more than QUIET_SHARE of a core is repeated, at
    most MAX_ATTEMPTS times as many rounds in all; how many were is printed. `synchronize()` waits for a GPU.
    """
    for step in methods.values():
        step()
    synchronize()
    times = {name: [] for name in methods}
    names, attempts = list(methods), 0
    while len(times[names[0]]) < rounds:
        attempts += 1
        busy, own, began = busy_seconds(), time.process_time(), time.perf_counter()
        seconds = {}
        for name in names:
            start = time.perf_counter()
            methods[name]()
            synchronize()
            seconds[name] = time.perf_counter() - start
        others = (busy_seconds() - busy) - (time.process_time() - own)
        left = MAX_ATTEMPTS * rounds - attempts
        if others <= QUIET_SHARE * (time.perf_counter() - began) or left < rounds - len(times[names[0]]):
            for name in methods:
                times[name].append(seconds[name])
        names = names[1:] + names[:1]
    say(f"{rounds} rounds kept, {attempts - rounds} repeated because the machine was busy")
    return times


def spread(values: list[float], scale: float = 1.0, digits: int = 0) -> str:
    """Median and range, scaled: "12 (11 to 14)"."""
    shown = (statistics.median(values), min(values), max(values))
    middle, low, high = (f"{value * scale:.{digits}f}" for value in shown)
    return f"{middle} ({low} to {high})"


def table(header: list[str], rows: list[list]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


# Memory: only a fresh process knows its own peak.


def resident_mib(field: str) -> float:
    """VmRSS (now) or VmHWM (the peak) of this process, in MiB."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(rf"^{field}:\s+(\d+)", status, flags=re.MULTILINE)[1]) / 1024


def reset_peak() -> float:
    """Forget the peak so far and return the resident memory, both in MiB: call it when everything is imported."""
    Path("/proc/self/clear_refs").write_text("5")
    return resident_mib("VmRSS")


def peak_of(work: Callable[[], object]) -> float:
    """MiB that `work` adds at its peak to what this process, which should be a fresh one, holds before."""
    import torch

    torch.ones(64, 64) @ torch.ones(64, 64)  # threads and their buffers
    before = reset_peak()
    work()
    return resident_mib("VmHWM") - before


def in_child(script: str, *arguments) -> float:
    """The number that `python SCRIPT --child ARGUMENTS...` prints last, from a fresh process."""
    command = [sys.executable, script, "--child", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"HF_HUB_OFFLINE": "1"})
    if done.returncode:
        raise SystemExit(f"{shlex.join(command)} failed:\n{done.stderr[-3000:]}")
    return float(done.stdout.split()[-1])


# The machine and the report.


def gemm_gflops(dtype: str, size: int = 2048, seconds: float = 1.0, device: str = "cpu") -> float:
    """Best speed of square matrix products within some seconds: the peak that a training step can be held against.

    size: at most; halved until a product takes no longer than that time, as bf16 does on processors without it.
    """
    import torch

    small = torch.ones(256, 256, device=device).to(getattr(torch, dtype))
    start = time.perf_counter()
    float((small @ small)[0, 0])
    while size > 256 and (time.perf_counter() - start) * (size / 256) ** 3 > 3 * seconds:
        size //= 2
    one = torch.randn(size, size, device=device).to(getattr(torch, dtype))
    one @ one
    best, end = math.inf, time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        product = one @ one
        if device != "cpu":
            product[0, 0].item()  # waits for the device
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best / 1e9


def machine(threads: int) -> str:
    """Processor, memory, GEMM peaks of this minute and versions, as one paragraph."""
    import torch

    cpu = next(
        (line.split(": ")[1] for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.machine(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    parts = [f"{os.cpu_count()} cores of {cpu}, {memory:.0f} GiB, {threads} threads"]
    parts.append(f"GEMM fp32 {gemm_gflops('float32'):.0f} and bf16 {gemm_gflops('bfloat16'):.0f} GFLOP/s")
    if torch.cuda.is_available():
        driver = subprocess.run(
            ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"], capture_output=True, text=True
        ).stdout.strip()
        parts.append(f"{torch.cuda.get_device_name()}, driver {driver}, CUDA {torch.version.cuda}")
        parts.append(f"GEMM bf16 {gemm_gflops('bfloat16', size=8192, device='cuda') / 1000:.0f} TFLOP/s")
    versions = [f"{name} {found}" for name in PACKAGES if (found := _version(name))]
    return f"{'; '.join(parts)}. Python {platform.python_version()}, {', '.join(versions)}. Seed {SEED}."


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def write_section(key: str, title: str, body: str, path: Path = RESULTS) -> None:
    """Put a section between its markers into RESULTS.md, in the place of its last one, and leave all others alone."""
    text = path.read_text(encoding="utf-8") if path.exists() else "# Measured\n"
    start, end = f"<!-- {key} -->", f"<!-- end of {key} -->"
    shown = body.strip("\n")  # an indented command at its beginning stays one
    section = f"{start}\n## {key}: {title}\n\n{shown}\n{end}\n"
    if start in text:
        before, _, rest = text.partition(start)
        after = rest.partition(end)[2].lstrip("\n")
        text = before + section + (f"\n{after}" if after else "")
    else:
        text = text.rstrip() + "\n\n" + section
    path.write_text(text, encoding="utf-8")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
