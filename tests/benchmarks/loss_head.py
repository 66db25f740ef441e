"""C3: time and peak memory of the language-model head with its loss, forward and backward, against full logits and TRL's.

    python tests/benchmarks/run.py --only C3

TRL's head and ours also compute entropy and is_top1, as SFT asks; full logits only the loss.
"""

import sys

import measuring
from measuring import Options

SHAPES = {  # positions, hidden size, vocabulary, share of positions kept
    "gpt2": (512, 384, 50257, 0.5),
    "smollm2": (512, 576, 49152, 0.2),
    "quick": (64, 48, 1000, 0.5),
}
OUTPUTS = ("log_probs", "entropy", "is_top1")
TRL_CHUNK_SIZE = 32768  # trl.trainer.utils._CHUNKED_LOGPROB_CHUNK_SIZE
HEADER = ["method", "ms, median (range)", "ftkit is faster by (95 %)", "peak MiB"]


def full_logits(hidden, weight, labels):
    import torch.nn.functional as F

    return F.cross_entropy(hidden @ weight.t(), labels, ignore_index=-100)


def trl_head(hidden, weight, labels):
    from trl.kernels import ChunkedLogProbFunction

    mask = labels != -100
    scored = ChunkedLogProbFunction.apply(
        hidden, weight, None, labels.clamp(min=0), 1.0, TRL_CHUNK_SIZE, None, 1.0, OUTPUTS
    )
    return -scored[0].masked_fill(~mask, 0).sum() / mask.sum()


def compact_head(hidden, weight, labels):
    from ftkit.model.fast.chunked_log_probs import HeadSettings, LinearHead, chunked_log_probs

    kept = (labels != -100).nonzero().squeeze(-1)
    scored = chunked_log_probs(hidden[kept], LinearHead(weight), labels[kept], HeadSettings(OUTPUTS))
    return -scored[0].sum() / len(kept)


METHODS = {"full logits": full_logits, "TRL": trl_head, "ftkit": compact_head}


def inputs(shape: tuple, frozen: bool, dtype: str = "float32", device: str = "cpu"):
    """(hidden (N, D), weight (V, D), labels (N)), the same at every call."""
    import torch

    positions, hidden_size, vocab_size, keep = shape
    generator = torch.Generator().manual_seed(measuring.SEED)
    like = {"dtype": getattr(torch, dtype), "device": device}
    hidden = torch.randn(positions, hidden_size, generator=generator).to(**like).requires_grad_()
    weight = (torch.randn(vocab_size, hidden_size, generator=generator) * 0.02).to(**like).requires_grad_(not frozen)
    labels = torch.randint(0, vocab_size, (positions,), generator=generator)
    labels[torch.randperm(positions, generator=generator)[round(positions * keep) :]] = -100
    return hidden, weight, labels.to(device)


def step(method: str, hidden, weight, labels) -> None:
    hidden.grad = weight.grad = None
    METHODS[method](hidden, weight, labels).backward()


def gradient_error(shape: tuple, frozen: bool) -> float:
    """Largest difference from the gradients of full logits, as a share of the largest gradient."""
    hidden, weight, labels = inputs(shape, frozen)
    gradients = []
    for method in ("full logits", "ftkit"):
        step(method, hidden, weight, labels)
        gradients.append([x.grad.clone() for x in (hidden, weight) if x.grad is not None])
    return max(((a - b).abs().max() / a.abs().max()).item() for a, b in zip(*gradients, strict=True))


def report_shape(name: str, frozen: bool, rounds: int) -> str:
    shape = SHAPES[name]
    positions, hidden_size, vocab_size, keep = shape
    tensors = inputs(shape, frozen)
    methods = {method: lambda method=method: step(method, *tensors) for method in METHODS}
    times = measuring.alternate(methods, rounds)
    rows = [
        [
            method,
            measuring.spread(seconds, 1e3),
            "" if method == "ftkit" else measuring.paired_ratio(seconds, times["ftkit"]),
            f"{measuring.in_child(__file__, method, name, int(frozen)):.0f}",
        ]
        for method, seconds in times.items()
    ]
    title = (
        f"{positions} x {hidden_size} x {vocab_size:,}, {keep:.0%} of the labels kept, "
        f"{'frozen' if frozen else 'trained'} head; largest gradient difference {gradient_error(shape, frozen):.0e} of "
        "the largest gradient:"
    )
    return f"{title}\n\n{measuring.table(HEADER, rows)}"


def report(key: str, options: Options) -> str:
    """The section's body: each shape with a trained and a frozen head."""
    names = ["quick"] if options.quick else ["gpt2", "smollm2"]
    parts = [report_shape(name, frozen, options.rounds) for name in names for frozen in (False, True)]
    intro = (
        f"fp32, forward and backward, {options.rounds} alternating rounds; MiB above the inputs, in a fresh process."
    )
    return "\n\n".join([intro, *parts])


def print_peak(method: str, name: str, frozen: str) -> None:
    """Child process: growth by one step; the hidden state and the weight themselves are not counted."""
    import trl.kernels  # noqa: F401

    import ftkit.model.fast.chunked_log_probs  # noqa: F401

    step(method, *inputs(SHAPES["quick"], frozen == "1"))  # the first call imports more
    tensors = inputs(SHAPES[name], frozen == "1")
    print(measuring.peak_of(lambda: step(method, *tensors)))


if __name__ == "__main__":
    print_peak(*sys.argv[2:])
