"""Runs the benchmarks and writes their sections of RESULTS.md. With nothing else on the machine:

    python tests/benchmarks/run.py --rows instruction-data.json

C1 and C2 a training step, C3 the LM head, C4 `ftkit sft` against `trl sft`, C5 LoRA, C6 QLoRA, C7 saving, C8 and C12
serving, C11 GRPO, C13 1.58 bits; G1 to G5 and G8 are the same on one GPU and are skipped, with a line each, where there is none. `--only C3,C4` chooses, `--quick` shows in a few
minutes that all of them work (it writes nothing), those of a GPU on a CPU too. On a GPU that is lent for some minutes:

    python tests/benchmarks/run.py --gpu_seconds 480

runs them in order of worth, each within its own limit and what is left, and writes each section when it is done.
"""

import argparse
import importlib
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

import measuring

BENCHMARKS = {  # key: (module, title)
    "C1": ("train_step", "a training step, vocabulary 8,192"),
    "C2": ("train_step", "a training step, vocabulary 50,257"),
    "C3": ("loss_head", "the LM head and its loss alone"),
    "C4": ("sft_commands", "supervised fine-tuning through the commands"),
    "C5": ("lora_step", "LoRA on a 124M shape"),
    "C6": ("qlora", "QLoRA: memory and merge"),
    "C7": ("saving", "a checkpoint against Trainer's own"),
    "C8": ("serving", "one answer at a time through ftkit serve"),
    "C11": ("grpo_speed", "sampling and updates of GRPO beside TRL's trainer"),
    "C12": ("serving", "many adapters and clients at once"),
    "C13": ("ternary", "1.58 bits beside QLoRA"),
    "G1": ("gpu_pretraining", "pretraining GPT-2 124M on one GPU"),
    "G2": ("gpu_tuning", "fine-tuning a 1B shape with packing on one GPU"),
    "G3": ("gpu_tuning", "LoRA and QLoRA on an 8B shape on one GPU"),
    "G4": ("gpu_pretraining", "the LM head alone on one GPU"),
    "G5": ("gpu_attention", "packed documents kept apart on one GPU"),
    "G8": ("gpu_tuning", "QLoRA nf4 against LoRA bf16 on one GPU"),
}
GPU_LIMITS = {"G2": 180, "G3": 200, "G5": 60, "G1": 90, "G4": 40, "G8": 90}  # seconds, in order of worth
LEAST_SECONDS = 15  # a part is not begun with less


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="keys, separated by commas; all without it")
    parser.add_argument("--rounds", type=int, default=11, help="alternating rounds within a process")
    parser.add_argument("--sft_rounds", type=int, default=5, help="alternating rounds of whole commands (C4)")
    parser.add_argument("--updates", type=int, default=6, help="updates of each command in C4, two of them warm-up")
    parser.add_argument("--rows", type=Path, help="Alpaca rows for C4, a .json list")
    parser.add_argument("--litgpt_python", help="a Python that has litgpt, as one more peer in C4")
    parser.add_argument("--compile", action="store_true", help="C1 and C2 under torch.compile as well")
    parser.add_argument("--gpu_seconds", type=float, help="all parts of a GPU within so many seconds, one round each")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--quick", action="store_true", help="one round of toy sizes, nothing written")
    parser.add_argument("--output", type=Path, default=measuring.RESULTS, help="the file whose sections are replaced")
    return parser.parse_args()


def chosen(only: str | None) -> list[str]:
    keys = only.upper().split(",") if only else list(BENCHMARKS)
    unknown = [key for key in keys if key not in BENCHMARKS]
    if unknown:
        raise SystemExit(f"--only {unknown[0]}: no such benchmark; allowed: {', '.join(BENCHMARKS)}")
    return keys


def quiet() -> None:
    """No progress bars and no library chatter between the figures."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")


def skip_reason(key: str, args: argparse.Namespace) -> str | None:
    import torch

    if key.startswith("G") and not args.quick and not torch.cuda.is_available():
        return "no CUDA device"
    if key == "C4" and not args.rows:
        return "needs --rows FILE, a .json list of Alpaca rows"
    return None


def run_on_gpu(args: argparse.Namespace) -> None:
    """Each part in a process of its own, so that one which hangs, fails or is too slow takes nothing from the others."""
    deadline = time.monotonic() + args.gpu_seconds
    given = ["--rounds", "5", "--sft_rounds", "1", "--output", str(args.output), *(["--quick"] if args.quick else [])]
    for key, most in GPU_LIMITS.items():
        seconds = min(most, deadline - time.monotonic())
        if seconds < LEAST_SECONDS:
            measuring.say(f"{key}: not begun, {max(0, seconds):.0f} s are left")
            continue
        try:
            done = subprocess.run([sys.executable, __file__, "--only", key, *given], timeout=seconds)
            outcome = "done" if done.returncode == 0 else f"failed, exit code {done.returncode}"
        except subprocess.TimeoutExpired:
            outcome = f"not done within {seconds:.0f} s"
        measuring.say(f"{key}: {outcome}; {deadline - time.monotonic():.0f} s are left")


def main() -> None:
    args = parse()
    if args.gpu_seconds:
        return run_on_gpu(args)
    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    import torch

    torch.set_num_threads(args.threads)
    quiet()
    options = measuring.Options(
        rounds=1 if args.quick else args.rounds, sft_rounds=1 if args.quick else args.sft_rounds,
        updates=3 if args.quick else args.updates, quick=args.quick, compile=args.compile, threads=args.threads,
        rows=args.rows, litgpt_python=args.litgpt_python,
    )  # fmt: skip
    command = f"python tests/benchmarks/run.py {shlex.join(sys.argv[1:])}"
    for key in chosen(args.only):
        module, title = BENCHMARKS[key]
        reason = skip_reason(key, args)
        if reason:
            measuring.say(f"{key}: skipped, {reason}")
            continue
        measuring.say(f"{key}: {title}")
        start = time.perf_counter()
        machine = measuring.machine(args.threads)
        body = importlib.import_module(module).report(key, options)
        minutes = (time.perf_counter() - start) / 60
        text = f"    {command}\n\n{body}\n\n{machine} {minutes:.1f} minutes."
        print(f"\n## {key}: {title}\n\n{text}\n", flush=True)
        if not args.quick:
            measuring.write_section(key, title, text, args.output)


if __name__ == "__main__":
    main()
