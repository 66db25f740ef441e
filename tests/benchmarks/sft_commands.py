"""C4: `ftkit sft` against `trl sft`, each as its user starts it, on the same rows, the same text, the same trained tokens.

    python tests/benchmarks/run.py --only C4 --rows instruction-data.json

Useful tokens (padding not counted) a second over the updates after the first two, from time stamps of each command's
own trainer. TRL gets prompt and completion as ftkit renders them, so it trains the same tokens.
"""

import json
import math
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import measuring
from measuring import Options

NUM_TRAIN, NUM_TEST = 800, 40  # rows of the file, in order
WARM_UP_UPDATES = 2
TIMEOUT_SECONDS = 900
SCHEDULE = [
    "--learning_rate", "2e-4", "--lr_scheduler_type", "constant", "--logging_steps", "1", "--save_strategy", "no",
    "--eval_strategy", "no", "--seed", "42", "--report_to", "none",
]  # fmt: skip
COMMON = ["--use_peft", "--lora_r", "8", "--lora_target_modules", "all-linear", *SCHEDULE]
OURS, DEFAULTS, TUNED, LITGPT = "ftkit sft", "trl sft --use_cpu", "trl sft, tuned", "litgpt finetune_lora"
PRECISIONS = {  # the tuned TRL takes the fastest
    "fp32": ["--bf16", "False", "--dtype", "float32"],
    "bf16 autocast, fp32 base": ["--bf16", "True", "--dtype", "float32"],
    "bf16, bf16 base": ["--bf16", "True", "--dtype", "bfloat16"],
}


@dataclass
class Run:
    """What one command did. speed: useful tokens/s after the warm-up; minutes: of the whole process.

    loading_mib, training_mib: peaks before and after the first update began. steps: the stamps of its updates.
    """

    speed: float
    tokens_per_update: float
    minutes: float
    output_dir: Path
    loading_mib: float = math.nan
    training_mib: float = math.nan
    steps: list[dict] = field(default_factory=list)

    @property
    def peak_mib(self) -> float:
        return max(self.loading_mib, self.training_mib)


def write_rows(rows_file: Path, model: str, folder: Path, num_train: int = NUM_TRAIN) -> tuple[Path, Path]:
    """(Alpaca folder for ftkit, prompt/completion folder for TRL): the same rows and, checked, the same token ids."""
    from sft_smollm2 import write_split

    from ftkit.data.reading.loading import load_rows
    from ftkit.data.templates.templates import install_template
    from ftkit.data.tokens.tokenization import render_row, tokenize_rows
    from ftkit.model.loading import load_tokenizer

    write_split(rows_file, num_train, NUM_TEST, folder / "alpaca")
    tokenizer = load_tokenizer(model)
    info = install_template(tokenizer, "alpaca")
    lines = []
    for row in load_rows(str(folder / "alpaca")).train:
        rendered = render_row(row, tokenizer, info)
        ((start, end),) = rendered.spans
        prompt, completion = rendered.text[:start], rendered.text[start:end]
        wanted = tokenize_rows([row], tokenizer, info, None).rows[0]
        ids, num_prompt = tokenizer(prompt + completion)["input_ids"], len(tokenizer(prompt)["input_ids"])
        assert ids == wanted["input_ids"] and [-100] * num_prompt + ids[num_prompt:] == wanted["labels"], row["source"]
        lines.append(json.dumps({"prompt": prompt, "completion": completion}) + "\n")
    (folder / "completions").mkdir()
    (folder / "completions" / "train.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder / "alpaca", folder / "completions"


def run_command(module: str, arguments: list, folder: Path, updates: int, common: list = COMMON) -> Run:
    """Run a trainer's module in a fresh process and read its stamps."""
    output_dir = Path(tempfile.mkdtemp(dir=folder)) / "out"
    stamps = output_dir.with_name("stamps.jsonl")
    launch = str(Path(__file__).with_name("launch.py"))
    command = [sys.executable, launch, str(stamps), module, *map(str, arguments), *common]
    command += ["--max_steps", str(updates), "--output_dir", str(output_dir)]
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS)
    if done.returncode:
        raise SystemExit(f"{shlex.join(command)} failed:\n{done.stderr[-3000:]}")
    *steps, last = [json.loads(line) for line in stamps.read_text().splitlines()]
    first = steps[WARM_UP_UPDATES - 1]
    speed = (steps[-1]["tokens"] - first["tokens"]) / (steps[-1]["seconds"] - first["seconds"])
    tokens = steps[-1]["tokens"] / len(steps)
    minutes = (time.perf_counter() - start) / 60
    measuring.say(f"{module}: {speed:.0f} useful tokens/s, {tokens:.0f} tokens an update, {minutes:.1f} minutes")
    return Run(speed, tokens, minutes, output_dir, last["loading_mib"], last["training_mib"], steps)


def ours(model: str, data: Path, folder: Path, updates: int) -> Run:
    return run_command(
        "ftkit.sft", ["--model_name_or_path", model, "--dataset_name", data, "--template", "alpaca"], folder, updates
    )


def trl(model: str, data: Path, folder: Path, updates: int, flags: list = ()) -> Run:
    arguments = ["--model_name_or_path", model, "--dataset_name", data, "--use_cpu", *flags]
    return run_command("trl.scripts.sft", arguments, folder, updates)


def tuned_flags(block: int, precision: str) -> list[str]:
    """No activation checkpointing, no dropout, whole rows packed into one block of the length ftkit chose, sdpa."""
    return [
        "--gradient_checkpointing", "False", "--packing", "True", "--packing_strategy", "bfd", "--max_length",
        str(block), "--per_device_train_batch_size", "1", "--attn_implementation", "sdpa", "--lora_dropout", "0",
        *PRECISIONS[precision],
    ]  # fmt: skip


def litgpt(python: str, checkpoint: Path, rows: Path, mean_tokens: float, folder: Path, updates: int) -> Run:
    """litgpt's own LoRA recipe on the same rows; it reports milliseconds of an iteration, not tokens."""
    output_dir = Path(tempfile.mkdtemp(dir=folder)) / "out"
    layers = ("query", "key", "value", "projection", "mlp")
    command = [
        python, "-m", "litgpt", "finetune_lora", str(checkpoint), "--data", "JSON", "--data.json_path", str(rows),
        "--data.mask_prompt", "True", "--data.prompt_style", "alpaca", "--data.val_split_fraction", "0.05",
        "--train.micro_batch_size", "8", "--train.global_batch_size", "8", "--train.max_steps", str(updates),
        "--train.log_interval", "1", "--train.lr_warmup_steps", "1", "--eval.initial_validation", "False",
        "--eval.final_validation", "False", "--precision", "32-true", "--lora_r", "8", "--out_dir", str(output_dir),
        *(part for layer in layers for part in (f"--lora_{layer}", "True")),
    ]  # fmt: skip
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS)
    times = [float(ms) / 1000 for ms in re.findall(r"iter time: ([\d.]+) ms", done.stdout + done.stderr)]
    if done.returncode or len(times) <= WARM_UP_UPDATES:
        raise SystemExit(f"{shlex.join(command)} failed:\n{done.stderr[-3000:]}")
    kept = times[WARM_UP_UPDATES:]
    speed = 8 * mean_tokens * len(kept) / sum(kept)
    return Run(speed, 8 * mean_tokens, (time.perf_counter() - start) / 60, output_dir)


def convert_for_litgpt(python: str, model: str, folder: Path) -> Path:
    """A copy of the model's folder in litgpt's form."""
    checkpoint = folder / "SmolLM2-135M-Instruct"
    checkpoint.mkdir()
    for file in Path(model).iterdir():
        (checkpoint / file.name).symlink_to(file.resolve())
    subprocess.run(
        [python, "-m", "litgpt", "convert_to_litgpt", str(checkpoint), "--model_name", checkpoint.name],
        check=True, capture_output=True,
    )  # fmt: skip
    return checkpoint


def fastest_tuned(model: str, data: Path, folder: Path, block: int, updates: int) -> tuple[list[str], str, str]:
    """(flags, precision, what was tried) of TRL's best settings here, by one run each."""
    speeds = {
        precision: trl(model, data, folder, updates, tuned_flags(block, precision)).speed for precision in PRECISIONS
    }
    best = max(speeds, key=speeds.get)
    return tuned_flags(block, best), best, ", ".join(f"{name} {speed:.0f}" for name, speed in speeds.items())


def report(key: str, options: Options) -> str:
    """The section's body. The first run of each command is the warm-up and is not counted."""
    from ftkit.model.loading import find_bundled_smollm2, local_model_folder

    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    os.environ["HF_HUB_OFFLINE"] = "1"
    model = local_model_folder(str(find_bundled_smollm2()))
    updates = options.updates
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        os.environ["HF_DATASETS_CACHE"] = str(folder / "cache")
        alpaca, completions = write_rows(options.rows, model, folder)
        warm = ours(model, alpaca, folder, updates)
        block = warm.steps[-1]["max_length"]
        flags, precision, tried = fastest_tuned(model, completions, folder, block, updates)
        commands = {
            OURS: lambda: ours(model, alpaca, folder, updates),
            DEFAULTS: lambda: trl(model, completions, folder, updates),
            TUNED: lambda: trl(model, completions, folder, updates, flags),
        }
        if options.litgpt_python:
            checkpoint = convert_for_litgpt(options.litgpt_python, model, folder)
            rows = folder / "litgpt.json"
            read = [json.loads(line) for line in (alpaca / "train.jsonl").read_text().splitlines()]
            rows.write_text(json.dumps([{k: row[k] for k in ("instruction", "input", "output")} for row in read]))
            mean = mean_length(model, completions)
            commands[LITGPT] = lambda: litgpt(options.litgpt_python, checkpoint, rows, mean, folder, updates)
        runs = {name: [] for name in commands}
        for _ in range(options.sft_rounds):
            for name, command in commands.items():
                runs[name].append(command())
        losses = final_losses(model, alpaca, {name: found[-1] for name, found in runs.items()})
    ours_settings = runs[OURS][-1].steps[-1]
    precision_of_ours = f"bf16 {'on' if ours_settings['bf16'] else 'off'}, base {ours_settings['dtype']}"
    intro = (
        f"SmolLM2-135M-Instruct, LoRA r=8 on all linear layers, the first {NUM_TRAIN} rows, template alpaca, answers "
        f"trained; {updates} updates a run, the first {WARM_UP_UPDATES} not timed, {options.sft_rounds} alternating "
        f"rounds of whole processes after one of each. ftkit decided for itself: packed blocks of {block}, "
        f"{precision_of_ours}. Tuned: no checkpointing, bfd packing into 1 x {block}, sdpa, {precision} (tokens/s tried: "
        f"{tried}). Answer loss: after the last run, on {NUM_TEST} held-out rows, nats a token."
    )
    return f"{intro}\n\n{result_table(runs, losses)}"


def result_table(runs: dict[str, list[Run]], losses: dict[str, str]) -> str:
    speeds = {name: [run.speed for run in found] for name, found in runs.items()}
    rows = [["base, not trained", "", "", "", "", "", losses["base"]]]
    for name, found in runs.items():
        ratio = "" if name == OURS else measuring.paired_ratio(speeds[OURS], speeds[name])
        rows.append(
            [
                name,
                measuring.spread(speeds[name]),
                ratio,
                measuring.spread([run.tokens_per_update for run in found]),
                f"{max(run.peak_mib for run in found):.0f}",
                measuring.spread([run.minutes for run in found], digits=1),
                losses.get(name, ""),
            ]
        )
    header = [
        "command", "useful tokens/s, median (range)", "ftkit is faster by (95 %)", "tokens an update", "peak MiB",
        "minutes in all", "answer loss (95 %), change from the base",
    ]  # fmt: skip
    return measuring.table(header, rows)


def mean_length(model: str, completions: Path) -> float:
    from ftkit.model.loading import load_tokenizer

    tokenizer = load_tokenizer(model)
    rows = [json.loads(line) for line in (completions / "train.jsonl").read_text().splitlines()]
    return sum(len(tokenizer(row["prompt"] + row["completion"])["input_ids"]) for row in rows) / len(rows)


def final_losses(model: str, alpaca: Path, last_runs: dict[str, Run]) -> dict[str, str]:
    """Table cells by command, and of the base: answer loss on the held-out rows."""
    from sft_smollm2 import describe, score

    base = score(model, "alpaca", alpaca)
    losses = {"base": describe(base).removesuffix(" | ")}
    for name, run in last_runs.items():
        if (run.output_dir / "adapter_config.json").is_file():
            losses[name] = describe(score(model, "alpaca", alpaca, str(run.output_dir)), base).replace(" | ", "; ")
    return losses
