"""C13: fine-tuning to 1.58 bits beside all weights and QLoRA, of the bundled base through `ftkit sft`.

python tests/benchmarks/run.py --only C13

Three seeds of each: answer loss on the same held-out rows, peak memory, what has to be shipped. Processor time, and not
minutes, is reported: it differs less where others use the machine.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import measuring
from measuring import Options

SEEDS, UPDATES, BATCH, NUM_TEST = (1, 2, 3), 100, 8, 100
TERNARY, QLORA = "1.58 bits", "QLoRA nf4, r=16"
RUNS = {
    "all weights, fp32": [],
    TERNARY: ["--ternary"],
    QLORA: ["--use_peft", "--lora_r", "16", "--lora_alpha", "32", "--load_in_4bit"],
}
COMMON = [
    "--model_name_or_path", "base", "--template", "alpaca", "--packing", "False", "--per_device_train_batch_size",
    str(BATCH), "--gradient_accumulation_steps", "1", "--bf16", "False", "--dtype", "float32", "--save_strategy", "no",
    "--eval_on_start", "False", "--num_samples", "0", "--before_after", "False", "--disable_tqdm",
]  # fmt: skip


def report(key: str, options: Options) -> str:
    """The section's body: a row for each way, means over seeds with the lowest and highest."""
    seeds, updates = (SEEDS[:1], 4) if options.quick else (SEEDS, UPDATES)
    rows, before = [], []
    with tempfile.TemporaryDirectory() as temporary:
        data = write_rows(Path(temporary) / "rows", updates * BATCH)
        for name in RUNS:
            command = [sys.executable, __file__, name, str(data), temporary, str(updates), *map(str, seeds)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            found = json.loads(done.stdout.split("\n")[-2])
            before += found["before"]
            measuring.say(f"{name}: {found}")
            columns = [spread(found["after"], 3), f"{found['peak']:.0f}", found["shipped"], spread(found["seconds"], 0)]
            rows.append([name, *columns])
    intro = (
        f"The bundled base (4.0 M parameters, {base_megabytes():.2f} MB in bf16), {updates} updates of {BATCH} rows of "
        f"`instructions`, rates as ftkit decides them, {len(seeds)} seeds: mean (lowest to highest). Answer loss in nats "
        f"per token on {NUM_TEST} held-out rows, before {spread(before, 3)}. Peaks above the imports."
    )
    table = measuring.table(["way", "answer loss", "peak MiB", "MB to ship", "processor seconds"], rows)
    return f"{intro}\n\n{table}"


def train(name: str, data: str, folder: str, updates: str, *seeds: str) -> None:
    """All seeds of one way, in this process; prints what was measured as a line of JSON."""
    import bitsandbytes  # noqa: F401

    from ftkit.config.settings.sft import SETTINGS  # noqa: F401 - what a run imports
    from ftkit.sft import main

    found = {"before": [], "after": [], "seconds": []}
    memory, out = measuring.reset_peak(), Path()
    for seed in seeds:
        out, start = Path(folder) / f"{name.split()[0]}-{seed}", time.process_time()
        given = ["--dataset_name", data, "--seed", seed, "--max_steps", updates, "--output_dir", str(out)]
        main([*COMMON, *RUNS[name], *given])
        found["seconds"].append(time.process_time() - start)
        found["before"].append(answer_loss(out / "before/results.json"))
        found["after"].append(answer_loss(out / "results.json"))
    peak = measuring.resident_mib("VmHWM") - memory
    print(json.dumps(found | {"peak": peak, "shipped": shipped_text(name, out)}))


def write_rows(folder: Path, num_train: int) -> Path:
    """Rows of `instructions` taken evenly from the whole: as many as are trained on, and held-out ones."""
    from ftkit.config.assets import asset_path

    folder.mkdir()
    for name, most in (("train", num_train), ("test", NUM_TEST)):
        lines = (asset_path("datasets", "instructions") / f"{name}.jsonl").read_text(encoding="utf-8").split("\n")[:-1]
        kept = lines[:: max(1, len(lines) // most)][:most]
        (folder / f"{name}.jsonl").write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
    return folder


def answer_loss(path: Path) -> float:
    """The mean loss of the held-out answers, in nats per token."""
    tasks = json.loads(path.read_text(encoding="utf-8"))["tasks"]
    found = [scores["answer_loss"] for scores in (task["scores"] for task in tasks.values()) if "answer_loss" in scores]
    return found[0]["value"] if isinstance(found[0], dict) else found[0]


def shipped_text(name: str, out: Path) -> str:
    """Megabytes of what has to be shipped: a model's weights in bf16, packed ones, or an adapter beside its base."""
    if name == TERNARY:
        from ftkit.publish.export.export import export_model

        packed = out.with_name("packed")
        export_model(str(out), packed, "ternary", dtype="bfloat16")
        return f"{weight_megabytes(packed):.2f}"
    if name == QLORA:
        return f"{weight_megabytes(out):.2f} + {four_bit_megabytes():.2f} of the base"
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


if __name__ == "__main__":
    train(*sys.argv[1:])
