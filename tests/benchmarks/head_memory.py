"""Memory of a trained LM head and its loss against the vocabulary: ftkit's, and whole logits by torch.

    python tests/benchmarks/head_memory.py

MiB above the inputs at the peak of one forward and backward of 1,024 rows of 384 in float32, in a fresh process each,
less the gradient of the head, which both must make. Linux only: the peak is read from /proc.
"""

import re
import subprocess
import sys

import measuring

VOCABULARIES = (8192, 50257, 131_072, 262_144)
NUM_ROWS, HIDDEN_SIZE = 1024, 384


def peak_mib() -> float:
    with open("/proc/self/status") as file:
        return int(re.search(r"VmHWM:\s+(\d+)", file.read())[1]) / 1024


def measure(vocab_size: int, whole: bool) -> float:
    import torch

    from ftkit.model.fast.chunked_log_probs import HeadSettings, LinearHead, chunked_log_probs
    from ftkit.model.fast.loss_head import rows_at_a_time

    torch.manual_seed(0)
    hidden = torch.randn(NUM_ROWS, HIDDEN_SIZE, requires_grad=True)
    weight = torch.randn(vocab_size, HIDDEN_SIZE, requires_grad=True)
    targets = torch.randint(vocab_size, (NUM_ROWS,))
    settings = HeadSettings(chunk_size=rows_at_a_time(vocab_size))
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the peak so far is forgotten
    before = peak_mib()
    if whole:
        loss = torch.nn.functional.cross_entropy(hidden @ weight.t(), targets)
    else:
        loss = -chunked_log_probs(hidden, LinearHead(weight), targets, settings)[0].mean()
    loss.backward()
    return peak_mib() - before - vocab_size * HIDDEN_SIZE * 4 / 2**20


def main() -> None:
    if len(sys.argv) == 3:
        print(measure(int(sys.argv[1]), sys.argv[2] == "whole"))
        return
    rows = []
    for size in VOCABULARIES:
        commands = [[sys.executable, __file__, str(size), kind] for kind in ("compact", "whole")]
        found = [float(subprocess.check_output(command, stderr=subprocess.DEVNULL)) for command in commands]
        rows.append([f"{size:,}", *(f"{value:.0f}" for value in found)])
    print(measuring.table(["vocabulary", "ftkit, MiB", "whole logits, MiB"], rows))


if __name__ == "__main__":
    main()
