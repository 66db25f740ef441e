"""G1 and G4, on one GPU: pretraining GPT-2 124M in bf16 under torch.compile, and the LM head alone.

python tests/benchmarks/run.py --only G1,G4
"""

import gc
import importlib.util

import loss_head
import measuring
import train_step
from measuring import Options
from train_step import Shape

PEAK_TFLOPS = 989  # dense bf16 of an H100 SXM, as its data sheet says
G1_SHAPE = Shape(vocab_size=50304, batch=16, tokens=1024, hidden_size=768, num_layers=12, num_heads=12)
STEPS_A_ROUND = 10
METHODS = [train_step.OURS, "ftkit, whole logits", train_step.PLAIN, train_step.TUNED]
G4_SHAPE = (16384, 2048, 248_000, 1.0)  # positions, hidden size, vocabulary, share of labels kept


def report(key: str, options: Options, shape=None) -> str:
    """The section's body; on a CPU, where --quick shows that the code works."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    if key == "G1":
        return report_pretraining(options, device, shape or (train_step.QUICK if options.quick else G1_SHAPE))
    return report_head(options, device, shape or (loss_head.SHAPES["quick"] if options.quick else G4_SHAPE))


def synchronize() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def peak_gib(work) -> float:
    """Most GPU memory while `work` runs, above what was allocated before."""
    import torch

    gc.collect()
    if not torch.cuda.is_available():
        work()
        return float("nan")
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    work()
    return (torch.cuda.max_memory_allocated() - before) / 2**30


def report_pretraining(options: Options, device: str, shape: Shape) -> str:
    import torch

    torch.set_float32_matmul_precision("high")

    def make(name):
        return train_step.make_step(name, shape, "bfloat16", compiled=device == "cuda", device=device)

    peaks = {}
    for name in METHODS:  # one after the other: together they would not be told apart
        peaks[name] = peak_gib(lambda name=name: [step() for step in [make(name)] for _ in range(3)])
    steps = {name: make(name) for name in METHODS}
    several = {name: lambda name=name: [steps[name]() for _ in range(STEPS_A_ROUND)] for name in METHODS}
    times = measuring.alternate(several, options.rounds, synchronize)
    tokens = shape.batch * shape.tokens * STEPS_A_ROUND
    rows = [
        [
            name,
            measuring.spread([tokens / value for value in seconds]),
            f"{shape.flops * STEPS_A_ROUND / sorted(seconds)[len(seconds) // 2] / PEAK_TFLOPS / 1e12:.1%}",
            "" if name == train_step.OURS else measuring.paired_ratio(seconds, times[train_step.OURS]),
            f"{peaks[name]:.2f}",
        ]
        for name, seconds in times.items()
    ]
    header = [
        "method",
        "tokens/s, median (range)",
        f"of {PEAK_TFLOPS} TFLOP/s",
        "ftkit is faster by (95 %)",
        "peak GiB",
    ]
    intro = (
        f"GPT-2 shape of {shape.num_layers} layers x {shape.hidden_size}, {shape.batch} x {shape.tokens} tokens, "
        f"vocabulary {shape.vocab_size:,}, bf16 autocast, torch.compile, fused AdamW; {options.rounds} alternating rounds "
        f"of {STEPS_A_ROUND} steps."
    )
    return f"{intro}\n\n{measuring.table(header, rows)}"


def kept_kernels() -> dict:
    """Heads of other packages, where they are installed."""
    found = {}
    if importlib.util.find_spec("cut_cross_entropy"):
        from cut_cross_entropy import linear_cross_entropy

        found["cut cross-entropy"] = lambda hidden, weight, labels: linear_cross_entropy(hidden, weight, labels)
    if importlib.util.find_spec("liger_kernel"):
        from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss

        liger = LigerFusedLinearCrossEntropyLoss()
        found["Liger"] = lambda hidden, weight, labels: liger(weight, hidden, labels)
    return found


def report_head(options: Options, device: str, shape: tuple) -> str:
    methods = loss_head.METHODS | kept_kernels()
    tensors = loss_head.inputs(shape, frozen=False, dtype="bfloat16", device=device)

    def step(name):
        hidden, weight, labels = tensors
        hidden.grad = weight.grad = None
        methods[name](hidden, weight, labels).backward()

    peaks = {name: peak_gib(lambda name=name: step(name)) for name in methods}
    times = measuring.alternate({name: lambda name=name: step(name) for name in methods}, options.rounds, synchronize)
    rows = [
        [
            name,
            measuring.spread(seconds, 1e3, digits=1),
            "" if name == "ftkit" else measuring.paired_ratio(seconds, times["ftkit"]),
            f"{peaks[name]:.2f}",
        ]
        for name, seconds in times.items()
    ]
    positions, hidden_size, vocab_size, _ = shape
    header = ["method", "ms, median (range)", "ftkit is faster by (95 %)", "peak GiB above the inputs"]
    intro = f"{positions:,} x {hidden_size} x {vocab_size:,}, bf16, trained head, forward and backward; "
    intro += f"{options.rounds} alternating rounds."
    return f"{intro}\n\n{measuring.table(header, rows)}"
