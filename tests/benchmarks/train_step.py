"""C1 and C2: a training step of a GPT-2 shape, forward, backward and AdamW, against transformers and a plain loop.

    python tests/benchmarks/run.py --only C1,C2

All models start from the same weights and see the same batch, so their losses must stay together; that is checked.
"""

import contextlib
import statistics
import sys
import tempfile
from dataclasses import dataclass

import measuring
from measuring import Options

# B batch, T tokens


@dataclass(frozen=True)
class Shape:
    vocab_size: int
    batch: int = 2
    tokens: int = 512
    hidden_size: int = 384
    num_layers: int = 6
    num_heads: int = 6
    context: int = 1024

    @property
    def flops(self) -> float:
        """Of the matrix products of a step, forward and backward, attention scores in full (arXiv:2204.02311, B)."""
        weights = self.num_layers * 12 * self.hidden_size**2 + self.vocab_size * self.hidden_size
        per_token = 6 * weights + 12 * self.num_layers * self.hidden_size * self.tokens
        return per_token * self.batch * self.tokens


SHAPES = {"C1": Shape(vocab_size=8192), "C2": Shape(vocab_size=50257)}
QUICK = Shape(vocab_size=512, tokens=64, hidden_size=48, num_layers=2, num_heads=2, context=64)
LEARNING_RATE = 1e-4
LOSS_TOLERANCE = {"float32": 1e-4, "bfloat16": 2e-2}  # relative, after all steps
OURS, PLAIN, TUNED = "ftkit", "plain loop", "transformers, tuned"
METHODS = {
    OURS: "FTGPT, compact head, fused AdamW",
    "ftkit, whole logits": "FTGPT, labels given to forward, fused AdamW",
    PLAIN: "plain_gpt.py, whole logits, fused AdamW",
    TUNED: "GPT2LMHeadModel, sdpa, no dropout, fused AdamW",
    "transformers, defaults": "GPT2LMHeadModel, dropout 0.1, torch.optim.AdamW as it comes",
}
NOT_COMPARABLE = "transformers, defaults"  # dropout: its loss is another


def gpt2(shape: Shape, dropout: float = 0.0):
    """A GPT2LMHeadModel of the shape with the seed's weights."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(measuring.SEED)
    config = GPT2Config(
        vocab_size=shape.vocab_size, n_embd=shape.hidden_size, n_layer=shape.num_layers, n_head=shape.num_heads,
        n_positions=shape.context, resid_pdrop=dropout, embd_pdrop=dropout, attn_pdrop=dropout, bos_token_id=0,
        eos_token_id=0,
    )  # fmt: skip
    return GPT2LMHeadModel._from_config(config, attn_implementation="sdpa").train()


def ftgpt(shape: Shape, same_weights: bool = True):
    """FTGPT with the same weights, through ftkit's own import, or with fresh ones and no detour over files."""
    from ftkit.model.configuration_ftgpt import FTGPTConfig
    from ftkit.model.loading import load_model
    from ftkit.model.modeling_ftgpt import FTGPTForCausalLM
    from ftkit.model.weights.conversion import import_weights

    if not same_weights:
        config = FTGPTConfig.gpt2(
            vocab_size=shape.vocab_size, hidden_size=shape.hidden_size, num_hidden_layers=shape.num_layers,
            num_attention_heads=shape.num_heads, max_position_embeddings=shape.context, attention_dropout=0.0,
            residual_dropout=0.0, embedding_dropout=0.0,
        )  # fmt: skip
        return FTGPTForCausalLM._from_config(config, attn_implementation="sdpa").train()
    with tempfile.TemporaryDirectory() as folder:
        gpt2(shape).save_pretrained(f"{folder}/gpt2")
        import_weights(f"{folder}/gpt2", f"{folder}/ftgpt")
        return load_model(f"{folder}/ftgpt", attn_implementation="sdpa").train()


def loss_function(method: str, shape: Shape, compiled: bool, same_weights: bool):
    """(module, input_ids -> loss) of a method."""
    import torch

    if method == PLAIN:
        from plain_gpt import PlainGPT

        sizes = (shape.vocab_size, shape.hidden_size, shape.num_layers, shape.num_heads, shape.context)
        module = PlainGPT(*sizes)
        if same_weights:
            module.copy_gpt2(gpt2(shape).state_dict())
        return module, torch.compile(module) if compiled else module
    if method.startswith("transformers"):
        module = gpt2(shape, dropout=0.1 if method.endswith("defaults") else 0.0)
        return module, _labelled(torch.compile(module) if compiled else module)
    module = ftgpt(shape, same_weights)
    if method != OURS:
        return module, _labelled(torch.compile(module) if compiled else module)
    from trl.trainer.utils import add_fused_lm_head

    from ftkit.model.fast.loss_head import use_compact_loss_head

    add_fused_lm_head(module)
    use_compact_loss_head(module)
    if compiled:
        module.model.compile()
    return module, lambda ids: module(input_ids=ids, labels=ids, fused_lm_head=True, use_cache=False).loss


def _labelled(module):
    return lambda ids: module(input_ids=ids, labels=ids, use_cache=False).loss


def make_step(method: str, shape: Shape, dtype="float32", compiled=False, device="cpu", same_weights=True):
    """A function without arguments that makes one update and returns the loss before it."""
    import torch
    from plain_gpt import plain_step

    module, loss = loss_function(method, shape, compiled, same_weights)
    module.to(device)
    fused = {} if method == NOT_COMPARABLE else {"fused": True}
    optimizer = torch.optim.AdamW(module.parameters(), lr=LEARNING_RATE, **fused)
    generator = torch.Generator().manual_seed(measuring.SEED)
    ids_BT = torch.randint(0, shape.vocab_size, (shape.batch, shape.tokens), generator=generator).to(device)

    def scored(ids):
        low = torch.autocast(device, dtype=getattr(torch, dtype)) if dtype != "float32" else contextlib.nullcontext()
        with low:
            return loss(ids)

    return lambda: plain_step(scored, optimizer, ids_BT)


def check_losses(losses: dict[str, list[float]], tolerance: float) -> float:
    """Largest relative difference of the losses of comparable methods, at any step; stop when they part."""
    comparable = [values for name, values in losses.items() if name != NOT_COMPARABLE]
    differences = [max(step) / min(step) - 1 for step in zip(*comparable, strict=True)]
    if differences[0] > tolerance or max(differences) > 50 * tolerance:
        raise SystemExit(f"the losses part: {differences[0]:.1e} at the first step, {max(differences):.1e} at the last")
    return max(differences)


def time_steps(shape: Shape, dtype: str, rounds: int, compiled: bool) -> tuple[dict[str, list[float]], str]:
    """Seconds of each method in each round, and how far their losses have parted, in words."""
    losses = {name: [] for name in METHODS}
    steps = {name: make_step(name, shape, dtype, compiled) for name in METHODS}

    def recorded(name):
        return lambda: losses[name].append(steps[name]().item())

    times = measuring.alternate({name: recorded(name) for name in METHODS}, rounds)
    difference = check_losses(losses, LOSS_TOLERANCE[dtype])
    return times, f"losses within {difference:.0e} of each other over {len(losses[OURS])} steps (dropout aside)"


def report(key: str, options: Options) -> str:
    """The section's body: fp32, bf16 where its products are faster, both compiled on demand, and peak memory."""
    shape = QUICK if options.quick else SHAPES[key]
    peaks = {dtype: measuring.gemm_gflops(dtype) for dtype in ("float32", "bfloat16")}
    variants = [("float32", False)]
    if peaks["bfloat16"] > 1.2 * peaks["float32"]:
        variants.append(("bfloat16", False))
    variants += [(dtype, True) for dtype, _ in variants] if options.compile else []
    memory = {name: measuring.in_child(__file__, name, key, int(options.quick)) for name in METHODS}
    parts = [
        f"GPT-2 shape of {shape.num_layers} layers x {shape.hidden_size}, {shape.num_heads} heads, {shape.batch} x "
        f"{shape.tokens} tokens, vocabulary {shape.vocab_size:,}; a step is forward, backward and AdamW; "
        f"{options.rounds} alternating rounds. Peak MiB: above the imports, three fp32 steps in a fresh process.",
        "\n".join(f"- {name}: {what}" for name, what in METHODS.items()),
    ]
    for dtype, compiled in variants:
        times, losses = time_steps(shape, dtype, options.rounds, compiled)
        precision = "bf16 autocast" if dtype == "bfloat16" else "fp32"
        title = f"{precision}{', torch.compile' if compiled else ''}; GEMM peak {peaks[dtype]:.0f} GFLOP/s; {losses}:"
        parts += [title, speed_table(times, shape, peaks[dtype], {} if dtype == "bfloat16" or compiled else memory)]
    parts.append(
        f"Memory: ftkit takes {memory[OURS] / memory[TUNED]:.2f}x of transformers, tuned, and "
        f"{memory[OURS] / memory[PLAIN]:.2f}x of the plain loop."
    )
    return "\n\n".join(parts)


def speed_table(times: dict[str, list[float]], shape: Shape, peak_gflops: float, memory: dict[str, float]) -> str:
    tokens = shape.batch * shape.tokens
    rows = [
        [
            name,
            measuring.spread([tokens / value for value in seconds]),
            f"{shape.flops / statistics.median(seconds) / 1e9 / peak_gflops:.0%}",
            "" if name == OURS else measuring.paired_ratio(seconds, times[OURS]),
            f"{memory[name]:.0f}" if memory else "",
        ]
        for name, seconds in times.items()
    ]
    header = ["method", "tokens/s, median (range)", "of GEMM peak", "ftkit is faster by (95 %)", "peak MiB"]
    return measuring.table(header, rows)


def print_peak(method: str, key: str, quick: str) -> None:
    """Child process: MiB above the imports of building the model and three steps."""
    import trl.trainer.utils  # noqa: F401
    from transformers import GPT2LMHeadModel  # noqa: F401

    import ftkit.model.fast.loss_head  # noqa: F401
    import ftkit.model.loading
    import ftkit.model.weights.conversion  # noqa: F401

    shape = QUICK if quick == "1" else SHAPES[key]
    make_step(method, QUICK, same_weights=False)()  # the first call imports more

    def work():
        step = make_step(method, shape, same_weights=False)
        for _ in range(3):
            step()

    print(measuring.peak_of(work))


if __name__ == "__main__":
    print_peak(*sys.argv[2:])
