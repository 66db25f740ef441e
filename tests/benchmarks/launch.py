"""Runs a trainer's module as its command does, and notes when each update ended, what it had seen, and the peak memory.

    python tests/benchmarks/launch.py STAMPS.jsonl ftkit.sft --model_name_or_path M ...

The module is what the command starts (`trl sft` starts trl.scripts.sft); a callback is added to transformers' defaults.
Stamps: one line for each update {"step", "seconds", "tokens", "loss"}; the last line holds "loading_mib" and
"training_mib", the peaks before and after the first update began: above the imports, or of the GPU where there is one.
"""

import json
import runpy
import sys
import time
from pathlib import Path

import accelerate  # noqa: F401
import bitsandbytes  # noqa: F401
import datasets  # noqa: F401
import measuring
import peft  # noqa: F401
import torch
import transformers
import transformers.trainer
import trl.scripts.sft  # noqa: F401
from trl import DPOTrainer, SFTTrainer  # noqa: F401


def peak_mib(before: float) -> float:
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    return measuring.resident_mib("VmHWM") - before


def stamp_callback(path: Path, peaks: dict, before: float):
    """A callback class; `tokens` is what TRL logs as num_tokens, all tokens seen so far without padding."""

    class Stamps(transformers.TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            if "loading_mib" in peaks:
                return
            peaks["loading_mib"] = peak_mib(before)
            if torch.cuda.is_available():
                torch.cuda.reset_peak_memory_stats()
            else:
                measuring.reset_peak()

        def on_step_end(self, args, state, control, **kwargs):
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            self.ended = time.perf_counter()

        def on_log(self, args, state, control, logs=None, model=None, **kwargs):
            if logs and "loss" in logs and "num_tokens" in logs:
                write(
                    path, step=state.global_step, seconds=self.ended, tokens=int(logs["num_tokens"]),
                    loss=float(logs["loss"]), bf16=args.bf16, dtype=str(model.dtype).removeprefix("torch."),
                    max_length=args.max_length, packing=bool(args.packing),
                )  # fmt: skip

    return Stamps


def write(path: Path, **record) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")


def main() -> None:
    path, module, *arguments = sys.argv[1:]
    path = Path(path)
    sys.argv = [module, *arguments]
    before, peaks, code = measuring.reset_peak(), {}, 0
    transformers.trainer.DEFAULT_CALLBACKS.append(stamp_callback(path, peaks, before))
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code or 0
    write(path, **peaks, training_mib=peak_mib(before))
    sys.exit(code)


if __name__ == "__main__":
    main()
