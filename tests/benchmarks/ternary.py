"""C13: fine-tuning to 1.58 bits beside all weights, LoRA and QLoRA, of the bundled base through `ftkit sft`.

python tests/benchmarks/run.py --only C13

Three seeds of each: answer loss on the same held-out rows, peak memory of a fresh process, what has to be shipped.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import measuring
from measuring import Options

SEEDS, UPDATES = (1, 2, 3), 1000
TERNARY, AT_ONCE, QLORA = "1.58 bits", "1.58 bits, at once", "QLoRA nf4, r=16"
LORA = ["--use_peft", "--lora_r", "16", "--lora_alpha", "32"]
RUNS = {
    "all weights, fp32": [],
    TERNARY: ["--ternary"],
    AT_ONCE: ["--ternary", "--ternary_warmup", "0"],
    "LoRA, r=16": LORA,
    QLORA: [*LORA, "--load_in_4bit"],
}
COMMON = [
    "--model_name_or_path", "base", "--dataset_name", "instructions", "--template", "alpaca", "--packing", "False",
    "--per_device_train_batch_size", "8", "--gradient_accumulation_steps", "1", "--bf16", "False", "--dtype", "float32",
    "--save_strategy", "no", "--eval_on_start", "False", "--num_samples", "0", "--before_after", "False",
]  # fmt: skip


def report(key: str, options: Options) -> str:
    """The section's body: a row for each way, means over seeds with the lowest and highest."""
    import sft_commands

    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    seeds, updates = (SEEDS[:1], 4) if options.quick else (SEEDS, UPDATES)
    rows, before = [], []
    with tempfile.TemporaryDirectory() as temporary:
        for name, flags in RUNS.items():
            losses, peaks, minutes, out = [], [], [], None
            for seed in seeds:
                given = [*COMMON, *flags, "--seed", str(seed)]
                run = sft_commands.run_command("ftkit.sft", given, Path(temporary), updates, common=[])
                out = run.output_dir
                losses.append(answer_loss(out / "results.json"))
                before.append(answer_loss(out / "before/results.json"))
                peaks.append(run.peak_mib)
                minutes.append(run.minutes)
            shipped = shipped_text(name, out, Path(temporary))
            rows.append([name, spread(losses, 3), spread(peaks, 0), shipped, spread(minutes, 1)])
    intro = (
        f"The bundled base (4.0 M parameters, {base_megabytes():.1f} MB in bf16), {updates} updates of 8 rows of "
        f"`instructions`, rates as ftkit decides them, {len(seeds)} seeds: mean (lowest to highest). Answer loss in nats "
        f"per token on 200 held-out rows, before {statistics.fmean(before):.3f}. Peaks in MiB above the imports."
    )
    table = measuring.table(["way", "answer loss", "peak MiB", "MB to ship", "minutes"], rows)
    return f"{intro}\n\n{table}"


def answer_loss(path: Path) -> float:
    """The mean loss of the held-out answers, in nats per token."""
    tasks = json.loads(path.read_text(encoding="utf-8"))["tasks"]
    found = [scores["answer_loss"] for scores in (task["scores"] for task in tasks.values()) if "answer_loss" in scores]
    return found[0]["value"] if isinstance(found[0], dict) else found[0]


def shipped_text(name: str, out: Path, folder: Path) -> str:
    """Megabytes of what has to be shipped: a model's weights in bf16, packed ones, or an adapter beside its base."""
    if name in (TERNARY, AT_ONCE):
        packed = folder / f"packed-{len(list(folder.iterdir()))}"
        command = [sys.executable, "-m", "ftkit", "export", str(out), "--format", "ternary", "--dtype", "bfloat16"]
        subprocess.run([*command, "--output_dir", str(packed)], check=True, capture_output=True)
        return f"{weight_megabytes(packed):.2f}"
    if (out / "adapter_config.json").is_file():
        own, base = weight_megabytes(out), four_bit_megabytes() if name == QLORA else base_megabytes()
        return f"{own:.2f} + {base:.2f} of the base"
    return f"{weight_megabytes(out) / 2:.2f}"  # saved in fp32


def weight_megabytes(folder: Path) -> float:
    """Size of a folder's safetensors."""
    return sum(path.stat().st_size for path in folder.glob("*.safetensors")) / 1e6


def base_megabytes() -> float:
    """Of the bundled base, in bf16."""
    from ftkit.config.assets import bundled_base

    return weight_megabytes(Path(bundled_base()))


def four_bit_megabytes() -> float:
    """Of the bundled base with linear layers in nf4, doubly quantised, and the rest in bf16."""
    from ftkit.config.assets import bundled_base
    from ftkit.model.adapters.methods import four_bit_config
    from ftkit.model.loading import load_model

    model = load_model(bundled_base(), dtype="bfloat16", quantization_config=four_bit_config("bfloat16"))
    return model.get_memory_footprint() / 1e6


def spread(values: list[float], digits: int) -> str:
    """mean (lowest to highest)."""
    low, mean, high = (f"{value:.{digits}f}" for value in (min(values), statistics.fmean(values), max(values)))
    return f"{mean} ({low} to {high})"
