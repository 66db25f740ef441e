"""`ftkit pretrain` beside a bare loop on the same model and blocks; and FTGPT beside nanoGPT's architecture.

    python tests/benchmarks/pretraining.py speed --shape C1 --rounds 7
    python tests/benchmarks/pretraining.py peers --corpus CORPUS --tokenizer runs/tokenizer --max_tokens 1.5e6

speed: tokens/s from the end of the first to the end of the last update, alternating, ratio with its 95 % interval.
peers: the same tokens, tokenizer and number of parameters, three seeds; difference of held-out bits per byte.
"""

import argparse
import json
import math
import os
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import measuring
import numpy as np

SHAPES = {"C1": 8192, "C2": 50257}  # vocabulary; otherwise 6 layers x 384, 2 x 512 tokens
UPDATES = 12  # in a round, the first of them warm-up
SEEDS = (0, 1, 2)
LEARNING_RATE, WEIGHT_DECAY, BETAS, WARMUP = 1.5e-3, 0.1, (0.9, 0.95), 0.05
TINY = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
QUICK_VOCABULARY = 300


def random_tokenizer(folder: Path, vocab_size: int) -> str:
    """A byte-level tokenizer whose vocabulary is filled up to the size with tokens that never come."""
    from ftkit.data.reading.documents import load_documents
    from ftkit.data.tokens.bpe import train_bpe

    tokenizer = train_bpe([row["text"] for row in load_documents("corpus").train], min(vocab_size, 4096))
    tokenizer.add_tokens([f"<unused{number}>" for number in range(vocab_size - len(tokenizer))])
    tokenizer.save_pretrained(folder)
    return str(folder)


def trainer_seconds(argv: list[str], updates: int) -> float:
    """Seconds of updates 2 to `updates` within `ftkit pretrain`, everything between them included."""
    from transformers import TrainerCallback

    from ftkit.pretrain import RECIPE
    from ftkit.training.methods.pretrain import METHOD, build_trainer

    ends = []

    class Clock(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            ends.append(time.perf_counter())

    timed = replace(METHOD, build_trainer=lambda *args: with_callback(build_trainer(*args), Clock()))
    replace(RECIPE, method=timed).train(RECIPE.parse(argv))
    return ends[updates - 1] - ends[0]


def with_callback(trainer, callback):
    trainer.add_callback(callback)
    return trainer


def bare_seconds(argv: list[str], updates: int) -> float:
    """The same model, blocks and updates in a plain loop: whole logits, fused AdamW, clipping, no logging."""
    import torch
    from torch.utils.data import DataLoader

    from ftkit.data.tokens.blocks import BlockCollator
    from ftkit.pretrain import RECIPE
    from ftkit.runs.lifecycle import decide_run
    from ftkit.runs.opening import begin
    from ftkit.training.methods.pretrain import METHOD

    settings = RECIPE.parse(argv)
    data = METHOD.prepare(settings)
    run = decide_run("pretrain", METHOD, settings, data, begin("pretrain", settings, data))
    torch.manual_seed(settings.training.seed)
    model = METHOD.load(run).train()
    matrices = [parameter for parameter in model.parameters() if parameter.ndim >= 2]
    others = [parameter for parameter in model.parameters() if parameter.ndim < 2]
    groups = [{"params": matrices, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=run.decided.learning_rate, fused=True)
    size = run.config.per_device_train_batch_size
    loader = iter(
        DataLoader(data.train, batch_size=size, shuffle=True, collate_fn=BlockCollator(False), drop_last=True)
    )
    ends = []
    for _ in range(updates):
        batch = next(loader)
        with torch.autocast("cpu", torch.bfloat16, enabled=run.decided.bf16):
            loss = model(**batch, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        ends.append(time.perf_counter())
    return ends[-1] - ends[0]


def speed(args: argparse.Namespace) -> str:
    """Alternating rounds of both, as text."""
    updates = 3 if args.quick else UPDATES
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tokenizer = random_tokenizer(folder / "tokenizer", QUICK_VOCABULARY if args.quick else SHAPES[args.shape])
        sizes = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 6, "preset": "gpt2"}
        settings = sizes | (TINY if args.quick else {}) | {
            "tokenizer": tokenizer, "dataset_name": "corpus", "block_size": 64 if args.quick else 512,
            "per_device_train_batch_size": 2, "max_steps": updates, "eval_strategy": "no", "save_strategy": "no",
            "bf16": args.bf16, "disable_tqdm": True, "num_samples": 0,
        }  # fmt: skip
        argv = [str(part) for key, value in settings.items() for part in (f"--{key}", value)]
        times = {"ftkit pretrain": [], "bare loop": []}
        methods = {"ftkit pretrain": trainer_seconds, "bare loop": bare_seconds}
        for number in range(args.rounds + 1):  # the first is warm-up
            order = list(methods.items())[:: 1 if number % 2 else -1]
            for method, seconds in order:
                taken = seconds([*argv, "--output_dir", str(folder / f"{method[:4]}{number}")], updates)
                if number:
                    times[method].append(taken)
    tokens = 2 * settings["block_size"] * (updates - 1)
    ratio = measuring.paired_ratio(times["bare loop"], times["ftkit pretrain"])
    rows = [[name, f"{tokens / statistics.median(seconds):.0f}"] for name, seconds in times.items()]
    table = measuring.table(["method", "tokens/s, median"], rows)
    return f"{table}\n\nftkit pretrain over the bare loop, {args.rounds} rounds, bf16 {args.bf16}: {ratio} times its speed."


def peer_models(vocab_size: int, hidden_size: int, num_layers: int, num_heads: int, block_size: int, seed: int):
    """nanoGPT's architecture, and an FTGPT of the llama preset with as many parameters within 2 %."""
    import torch
    from plain_gpt import PlainGPT

    from ftkit.model.configuration_ftgpt import FTGPTConfig
    from ftkit.model.modeling_ftgpt import FTGPTForCausalLM

    torch.manual_seed(seed)
    plain = PlainGPT(vocab_size, hidden_size, num_layers, num_heads, block_size)
    for name, weight in plain.named_parameters():  # as nanoGPT starts: 0.02, the residual projections smaller by depth
        if weight.ndim >= 2:
            is_residual = name.endswith(("attention_out.weight", "mlp_out.weight"))
            torch.nn.init.normal_(weight, 0.0, 0.02 / math.sqrt(2 * num_layers) if is_residual else 0.02)
        elif name.endswith("bias"):
            torch.nn.init.zeros_(weight)
    wanted = sum(weight.numel() for weight in plain.parameters())
    torch.manual_seed(seed)
    rest = wanted - vocab_size * hidden_size - num_layers * 4 * hidden_size**2
    config = FTGPTConfig.llama(
        vocab_size=vocab_size, hidden_size=hidden_size, num_hidden_layers=num_layers, num_attention_heads=num_heads,
        num_key_value_heads=num_heads, intermediate_size=round(rest / (3 * hidden_size * num_layers)),
        max_position_embeddings=block_size, rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
    )  # fmt: skip
    ours = FTGPTForCausalLM(config)
    assert abs(ours.num_parameters() / wanted - 1) < 0.02, (ours.num_parameters(), wanted)
    return {
        "nanoGPT": (plain, plain),
        "FTGPT": (ours, lambda ids: ours(input_ids=ids, labels=ids, use_cache=False).loss),
    }


def train_peer(model, loss_of, train: np.ndarray, test: np.ndarray, batch: int, updates: int, seed: int) -> float:
    """The same plain loop for both; returns the held-out loss in nats a token."""
    import torch

    matrices = [parameter for parameter in model.parameters() if parameter.ndim >= 2]
    others = [parameter for parameter in model.parameters() if parameter.ndim < 2]
    groups = [{"params": matrices, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=LEARNING_RATE, betas=BETAS, fused=True)
    warmup = max(1, round(WARMUP * updates))
    order = np.random.default_rng(seed).permutation(len(train))
    for step in range(updates):
        share = (step - warmup) / max(1, updates - warmup)
        rate = (step + 1) / warmup if step < warmup else 0.1 + 0.45 * (1 + math.cos(math.pi * share))
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * rate
        chosen = order[np.arange(step * batch, (step + 1) * batch) % len(order)]
        with torch.autocast("cpu", torch.bfloat16):
            loss = loss_of(torch.tensor(train[chosen], dtype=torch.long))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    model.eval()
    with torch.no_grad():
        losses = [
            loss_of(torch.tensor(test[i : i + batch], dtype=torch.long)).item() for i in range(0, len(test), batch)
        ]
    return statistics.fmean(losses)


def peers(args: argparse.Namespace) -> str:
    """Held-out bits per byte of both architectures for each seed, and the paired difference."""
    from scipy.stats import t

    from ftkit.data.reading.documents import load_documents
    from ftkit.data.tokens.blocks import block_dataset, tokenize_documents
    from ftkit.model.loading import load_tokenizer

    tokenizer = load_tokenizer(args.tokenizer)
    rows = load_documents(str(args.corpus))
    texts = tokenize_documents([row["text"] for row in rows.train], tokenizer)
    held_out = tokenize_documents([row["text"] for row in rows.test], tokenizer)
    test = block_dataset(held_out, args.block_size, None)["input_ids"][:]
    updates = max(1, round(args.max_tokens / (args.batch * args.block_size)))
    per_byte = held_out.num_tokens / held_out.num_bytes / math.log(2)
    found = {"nanoGPT": [], "FTGPT": []}
    for seed in args.seeds:
        train = block_dataset(texts, args.block_size, seed)["input_ids"][:]
        models = peer_models(len(tokenizer), args.hidden_size, args.layers, args.heads, args.block_size, seed)
        for name, (model, loss_of) in models.items():
            loss = train_peer(model, loss_of, train, test, args.batch, updates, seed)
            found[name].append(loss * per_byte)
            measuring.say(f"seed {seed}, {name}: {loss * per_byte:.4f} bits per byte")
    differences = np.subtract(found["FTGPT"], found["nanoGPT"])
    lines = [[f"seed {seed}", *(f"{found[name][i]:.4f}" for name in found)] for i, seed in enumerate(args.seeds)]
    text = measuring.table(["", *found], lines)
    if len(differences) > 1:
        half = t.ppf(0.975, len(differences) - 1) * differences.std(ddof=1) / math.sqrt(len(differences))
        text += f"\n\nFTGPT less nanoGPT: {differences.mean():.4f} (95 % interval +- {half:.4f}), {updates} updates."
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["speed", "peers"])
    parser.add_argument("--shape", choices=SHAPES, default="C1")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--bf16", default="true", choices=["true", "false"])
    parser.add_argument("--quick", action="store_true", help="toy sizes, to see that it works")
    parser.add_argument("--corpus", type=Path)
    parser.add_argument("--tokenizer")
    parser.add_argument("--max_tokens", type=float, default=1.5e6)
    parser.add_argument("--hidden_size", type=int, default=256)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--block_size", type=int, default=512)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    args = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    print(json.dumps(vars(args), default=str), {"speed": speed, "peers": peers}[args.what](args), sep="\n\n")


if __name__ == "__main__":
    main()
