"""Runs the benchmarks and writes their sections of RESULTS.md. With nothing else on the machine:

    python tests/benchmarks/run.py --rows instruction-data.json

C1 and C2 a training step, C3 the LM head, C4 `ftkit sft` against `trl sft`, C5 LoRA, C6 QLoRA, C7 saving; G1 to G4 and G8 are the
same on one GPU and are skipped, with a line each, where there is none. `--only C3,C4` chooses, `--quick` shows in a few
minutes that all of them work (it writes nothing).
"""

import argparse
import importlib
import os
import shlex
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
    "G1": ("gpu_pretraining", "pretraining GPT-2 124M on one GPU"),
    "G2": ("gpu_tuning", "fine-tuning a 1B shape with packing on one GPU"),
    "G3": ("gpu_tuning", "LoRA and QLoRA on an 8B shape on one GPU"),
    "G4": ("gpu_pretraining", "the LM head alone on one GPU"),
    "G8": ("gpu_tuning", "QLoRA nf4 against LoRA bf16 on one GPU"),
}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="keys, separated by commas; all without it")
    parser.add_argument("--rounds", type=int, default=11, help="alternating rounds within a process")
    parser.add_argument("--sft_rounds", type=int, default=5, help="alternating rounds of whole commands (C4)")
    parser.add_argument("--updates", type=int, default=6, help="updates of each command in C4, two of them warm-up")
    parser.add_argument("--rows", type=Path, help="Alpaca rows for C4, a .json list")
    parser.add_argument("--litgpt_python", help="a Python that has litgpt, as one more peer in C4")
    parser.add_argument("--compile", action="store_true", help="C1 and C2 under torch.compile as well")
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

    if key.startswith("G") and not torch.cuda.is_available():
        return "no CUDA device"
    if key == "C4" and not args.rows:
        return "needs --rows FILE, a .json list of Alpaca rows"
    return None


def main() -> None:
    args = parse()
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
