"""Answer loss, peak memory and speed of `ftkit sft` on real data: LoRA, QLoRA and a full fine-tune of SmolLM2-135M.

    python tests/benchmarks/sft_smollm2.py --rows ../shared/data/instructions/instruction-data.json --num_train 935

Trains one epoch on the first rows with the Alpaca template, and scores the next 110: the base under its own template,
the base under Alpaca, and each run. Each method runs in a process of its own; the table goes to RESULTS.md.
"""

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

METHODS = {
    "LoRA r=8": ["--use_peft", "--lora_r", "8"],
    "QLoRA r=8 (nf4, double quantisation)": ["--use_peft", "--lora_r", "8", "--load_in_4bit"],
    "full": [],
}


def write_split(rows_file: Path, num_train: int, num_test: int, folder: Path) -> None:
    """Write the first rows as FOLDER/train.jsonl and the next ones as FOLDER/test.jsonl."""
    rows = json.loads(rows_file.read_text(encoding="utf-8"))
    folder.mkdir(parents=True)
    for name, part in (("train", rows[:num_train]), ("test", rows[num_train : num_train + num_test])):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part), encoding="utf-8")


def score(model_path: str, template: str, folder: Path, adapter: str | None = None) -> list[tuple[float, int]]:
    """Summed answer loss in nats and answer tokens of each test row."""
    from ftkit.data.reading.loading import load_rows
    from ftkit.data.templates.templates import install_template
    from ftkit.data.tokens.tokenization import tokenize_rows
    from ftkit.inference.scoring import answer_loss
    from ftkit.model.adapters.loading import put_adapter
    from ftkit.model.loading import load_model, load_tokenizer, local_model_folder

    base = local_model_folder(model_path)
    tokenizer = load_tokenizer(base)
    info = install_template(tokenizer, template)
    model = load_model(base)
    if adapter:
        model = put_adapter(model, adapter, tokenizer)
    rows = tokenize_rows(load_rows(str(folder)).test, tokenizer, info, None).rows
    return answer_loss(model, rows, tokenizer.pad_token_id)


def describe(losses: list[tuple[float, int]], base: list[tuple[float, int]] | None = None) -> str:
    """Table cells: the mean loss with its 95 % bootstrap interval, and the paired difference from the base's."""
    from ftkit.metrics.intervals import bootstrap_interval, paired_bootstrap_difference

    sums, tokens = zip(*losses, strict=True)
    low, high = bootstrap_interval(sums, weights=tokens)
    mean = f"{sum(sums) / sum(tokens):.3f} ({low:.3f} to {high:.3f})"
    if base is None:
        return f"{mean} | "
    change = paired_bootstrap_difference([total for total, _ in base], sums, weights=tokens)
    return f"{mean} | {change.difference:.3f} ({change.low:.3f} to {change.high:.3f})"


def main() -> None:
    from ftkit.model.loading import find_bundled_smollm2

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--num_train", type=int, default=935)
    parser.add_argument("--num_test", type=int, default=110)
    parser.add_argument("--flags", nargs=argparse.REMAINDER, default=[], help="further flags of ftkit sft, last")
    args = parser.parse_args()
    model = str(find_bundled_smollm2())
    print(f"{platform.processor() or platform.machine()}, Python {platform.python_version()}; {' '.join(sys.argv)}\n")
    with tempfile.TemporaryDirectory() as temporary:
        data = Path(temporary) / "data"
        write_split(args.rows, args.num_train, args.num_test, data)
        print("| run | answer loss (95 %) | change from the base (95 %, paired) | minutes | tokens/s | peak GiB |")
        print("|---|---|---|---|---|---|")
        for template in ("auto", "alpaca"):
            base = score(model, template, data)  # the last one has the template of the runs
            print(f"| base, template {template} | {describe(base)} | | | |", flush=True)
        for name, flags in METHODS.items():
            out = Path(temporary) / name.split()[0]
            command = [
                sys.executable, "-m", "ftkit.sft", "--model_name_or_path", model, "--dataset_name", str(data),
                "--template", "alpaca", "--num_train_epochs", "1", "--eval_strategy", "no", "--save_strategy", "no",
                "--output_dir", str(out),
                *flags, *args.flags,
            ]  # fmt: skip
            start = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            minutes = (time.perf_counter() - start) / 60
            adapter = str(out) if (out / "adapter_config.json").is_file() else None
            losses = score(model if adapter else str(out), "alpaca", data, adapter)
            records = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
            speeds = sorted(record["useful_tokens_per_second"] for record in records)
            peak = max(record["peak_memory_gib"] for record in records)
            print(
                f"| {name} | {describe(losses, base)} | {minutes:.1f} | {speeds[len(speeds) // 2]:.0f} | {peak:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
