"""Time and peak memory of the language-model head with its loss, forward and backward, against full logits and TRL's.

    python tests/benchmarks/loss_head.py [--rounds 11] [--threads 2]

Rounds alternate between the methods after one warm-up; on Linux, a round during which other processes used more than
6 % of a core is repeated. Memory is the growth of the process's peak resident set, each
method in a fresh process. TRL's head and ours also compute entropy and is_top1, as SFT asks; full logits only the loss.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from trl.kernels import ChunkedLogProbFunction

from ftkit.model.chunked_log_probs import HeadSettings, LinearHead, chunked_log_probs

SHAPES = {  # positions, hidden size, vocabulary, share of positions kept
    "gpt2": (512, 384, 50257, 0.5),
    "smollm2": (512, 576, 49152, 0.2),
}
MAX_ATTEMPTS, QUIET_SHARE = 10, 0.06
OUTPUTS = ("log_probs", "entropy", "is_top1")
TRL_CHUNK_SIZE = 32768  # trl.trainer.utils._CHUNKED_LOGPROB_CHUNK_SIZE


def full_logits(hidden, weight, labels):
    return F.cross_entropy(hidden @ weight.t(), labels, ignore_index=-100)


def trl_head(hidden, weight, labels):
    mask = labels != -100
    scored = ChunkedLogProbFunction.apply(
        hidden, weight, None, labels.clamp(min=0), 1.0, TRL_CHUNK_SIZE, None, 1.0, OUTPUTS
    )
    return -scored[0].masked_fill(~mask, 0).sum() / mask.sum()


def compact_head(hidden, weight, labels):
    kept = (labels != -100).nonzero().squeeze(-1)
    scored = chunked_log_probs(hidden[kept], LinearHead(weight), labels[kept], HeadSettings(OUTPUTS))
    return -scored[0].sum() / len(kept)


METHODS = {"full logits": full_logits, "TRL": trl_head, "compact": compact_head}


def inputs(shape, frozen):
    positions, hidden_size, vocab_size, keep = SHAPES[shape]
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(positions, hidden_size, generator=generator).requires_grad_()
    weight = (torch.randn(vocab_size, hidden_size, generator=generator) * 0.02).requires_grad_(not frozen)
    labels = torch.randint(0, vocab_size, (positions,), generator=generator)
    labels[torch.randperm(positions, generator=generator)[round(positions * keep) :]] = -100
    return hidden, weight, labels


def step(method, hidden, weight, labels):
    hidden.grad = weight.grad = None
    METHODS[method](hidden, weight, labels).backward()


def resident_mib(field):
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1024


def peak_mib(method, shape, frozen):
    """Peak growth in a fresh process; the hidden state and the weight themselves are not counted."""
    command = [sys.executable, __file__, "--peak", method, shape, str(int(frozen))]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def print_peak(method, shape, frozen):
    tensors = inputs(shape, frozen)
    torch.ones(64, 64) @ torch.ones(64, 64)
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak, VmHWM
    before = resident_mib("VmRSS")
    step(method, *tensors)
    print(resident_mib("VmHWM") - before)


def gradient_error(shape, frozen):
    hidden, weight, labels = inputs(shape, frozen)
    gradients = []
    for method in ("full logits", "compact"):
        step(method, hidden, weight, labels)
        gradients.append([x.grad.clone() for x in (hidden, weight) if x.grad is not None])
    return max(((a - b).abs().max() / a.abs().max()).item() for a, b in zip(*gradients, strict=True))


def measure(shape, frozen, rounds):
    tensors = inputs(shape, frozen)
    times = {method: [] for method in METHODS}
    for method in METHODS:
        step(method, *tensors)
    for attempt in range(MAX_ATTEMPTS * rounds):
        busy, own, began = busy_seconds(), time.process_time(), time.perf_counter()
        seconds = {}
        for method in METHODS:
            start = time.perf_counter()
            step(method, *tensors)
            seconds[method] = time.perf_counter() - start
        others = (busy_seconds() - busy) - (time.process_time() - own)
        if others < QUIET_SHARE * (time.perf_counter() - began) or attempt >= (MAX_ATTEMPTS - 1) * rounds:
            for method in METHODS:
                times[method].append(seconds[method])
        if len(times["compact"]) == rounds:
            break
    print(f"{attempt + 1 - rounds} rounds repeated")
    return times


def busy_seconds():
    """Seconds that all cores together have worked for anyone, 0 where the system does not say."""
    path = Path("/proc/stat")
    if not path.exists():
        return 0.0
    fields = [int(field) for field in path.read_text().split("\n")[0].split()[1:]]
    return (sum(fields) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")


def report(shape, frozen, rounds):
    positions, hidden_size, vocab_size, keep = SHAPES[shape]
    print(
        f"\n{positions} x {hidden_size} x {vocab_size}, {keep:.0%} kept, {'frozen' if frozen else 'trained'} head; "
        f"largest gradient difference to full logits {gradient_error(shape, frozen):.0e} of the largest gradient"
    )
    times = measure(shape, frozen, rounds)
    print("| method | ms, median (range) | slower than compact | peak MiB |\n|---|---|---|---|")
    for method, seconds in times.items():
        ratio = statistics.median(a / b for a, b in zip(seconds, times["compact"], strict=True))
        low, high = min(seconds) * 1e3, max(seconds) * 1e3
        print(
            f"| {method} | {statistics.median(seconds) * 1e3:.0f} ({low:.0f} to {high:.0f}) | {ratio:.2f} | "
            f"{peak_mib(method, shape, frozen):.0f} |"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peak", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.peak:
        method, shape, frozen = arguments.peak
        return print_peak(method, shape, frozen == "1")
    print(f"torch {torch.__version__}, {arguments.threads} threads, float32, {arguments.rounds} alternating rounds")
    for shape in SHAPES:
        for frozen in (False, True):
            report(shape, frozen, arguments.rounds)


if __name__ == "__main__":
    main()
