"""A student of half the layers, held to its teacher or to the labels alone, on the same tokens: which ends nearer?

    python tests/benchmarks/distillation.py --output_dir OUT --write

The teacher is the bundled base, fine-tuned on bundled instructions; the student is every second layer of it. Both ways
are `ftkit distill` with the same rows, order and updates, and differ by --hard_label_weight alone. Runs that are there
already are not made again; --quick rehearses on few rows.
"""

import argparse
import random
from pathlib import Path

import measuring
import numpy as np

SEEDS = (1, 2, 3)
WAYS = {"labels alone": 1.0, "teacher": 0.0}  # by --hard_label_weight
METRICS = {
    "kl_to_teacher": "KL to the teacher",
    "answer_loss": "answer loss",
    "token_accuracy": "likeliest token right",
}


def write_rows(folder: Path, num_teacher: int, num_student: int, num_test: int) -> None:
    """FOLDER/{teacher,student}/{train,test}.jsonl: the student's rows are among the teacher's."""
    source = Path(__file__).resolve().parents[2] / "datasets" / "instructions"
    parts = {}
    for name in ("train", "test"):
        parts[name] = (source / f"{name}.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
        random.Random(0).shuffle(parts[name])
    for who, number in (("teacher", num_teacher), ("student", num_student)):
        (folder / who).mkdir(parents=True, exist_ok=True)
        (folder / who / "train.jsonl").write_text("".join(parts["train"][:number]), encoding="utf-8")
        (folder / who / "test.jsonl").write_text("".join(parts["test"][:num_test]), encoding="utf-8")


def halved(teacher: Path, folder: Path) -> None:
    """Write every second layer of a model, the first among them, as a model of its own."""
    from ftkit.model.loading import load_model, load_tokenizer

    model = load_model(teacher)
    model.model.layers = type(model.model.layers)(list(model.model.layers)[::2])
    model.config.num_hidden_layers = len(model.model.layers)
    model.save_pretrained(folder)
    load_tokenizer(teacher).save_pretrained(folder)


def train(folder: Path, args) -> Path:
    """The teacher, the student, and the runs of all ways and seeds; FOLDER/runs/SEED-WAY each."""
    from ftkit.distill import main as distill
    from ftkit.sft import main as sft

    teacher, student = folder / "teacher-model", folder / "student-model"
    quiet = ["--disable_tqdm", "--num_samples", "0", "--save_strategy", "no"]
    if not (teacher / "README.md").is_file():
        sft([
            "--model", "base", "--dataset_name", str(folder / "teacher"), "--template", "alpaca", "--output_dir",
            str(teacher), "--num_train_epochs", "2", "--before_after", "false", *quiet,
        ])  # fmt: skip
    if not (student / "config.json").is_file():
        halved(teacher, student)
    for seed in SEEDS:
        for number, weight in enumerate(WAYS.values()):
            out = folder / "runs" / f"{seed}-{number}"
            if not (out / "README.md").is_file():
                distill([
                    "--model", str(student), "--teacher", str(teacher), "--dataset_name", str(folder / "student"),
                    "--output_dir", str(out), "--hard_label_weight", str(weight), "--seed", str(seed),
                    "--num_train_epochs", str(args.num_train_epochs), "--per_device_train_batch_size", "16",
                    "--learning_rate", str(args.learning_rate), *quiet,
                ])  # fmt: skip
    return folder / "runs"


def values(run: Path) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Per token of each held-out row, by metric, before and after a run."""
    from ftkit.evaluation.results import read_items, read_results

    found = []
    for path in (run / "before" / "results.json", run / "results.json"):
        items = sorted(read_items(path, read_results(path).tasks["answers"]), key=lambda item: item.item_id)
        found.append({name: np.array([item.scores[name] for item in items]) for name in METRICS})
    return found[0], found[1]


def cell(rows: np.ndarray) -> str:
    """A mean over rows with its 95 % interval."""
    from ftkit.metrics.intervals import bootstrap_interval

    low, high = bootstrap_interval(rows)
    return f"{rows.mean():.3f} ({low:.3f} to {high:.3f})"


def body(folder: Path, runs: Path, args) -> str:
    """The section of RESULTS.md. Intervals are over held-out rows, each the mean of its seeds."""
    import json

    tables = {way: [values(runs / f"{seed}-{number}") for seed in SEEDS] for number, way in enumerate(WAYS)}
    start = tables["teacher"][0][0]
    after = {
        way: {name: np.mean([new[name] for _, new in each], axis=0) for name in METRICS} for way, each in tables.items()
    }
    labels = next(iter(WAYS))
    lines = ["| trained on | " + " | ".join(METRICS.values()) + " |", "|---|---|---|---|"]
    lines.append("| (before) | " + " | ".join(cell(start[name]) for name in METRICS) + " |")
    lines += [f"| {way} | " + " | ".join(cell(found[name]) for name in METRICS) + " |" for way, found in after.items()]
    lines += [
        f"| {way} - {labels} | " + " | ".join(cell(found[name] - after[labels][name]) for name in METRICS) + " |"
        for way, found in after.items() if way != labels
    ]  # fmt: skip
    each = [
        f"{way} " + ", ".join(f"{new['kl_to_teacher'].mean():.3f}" for _, new in tables[way]) for way in WAYS
    ]  # fmt: skip
    receipt = json.loads((runs / f"{SEEDS[0]}-0" / "receipt.json").read_text())
    sizes = [
        sum(tensor.numel() for tensor in tensors(folder / name)) / 1e6 for name in ("teacher-model", "student-model")
    ]
    return "\n".join([
        f"    python tests/benchmarks/distillation.py --output_dir OUT{args.shown}",
        "",
        f"Teacher: the bundled base after two passes over {args.num_teacher} bundled instructions, {sizes[0]:.2f} M parameters. "
        f"Student: every second layer of it, {sizes[1]:.2f} M, trained for {args.num_train_epochs:g} passes over "
        f"{args.num_student} of the rows ({receipt['num_trained_tokens']:,} answer tokens per pass), the same rows, order and "
        f"updates each way. {len(start['answer_loss'])} held-out rows; nats per token, means over rows with 95 % intervals, of "
        f"{len(SEEDS)} seeds; the last lines are paired.",
        "", *lines, "",
        f"KL to the teacher by seed: {'; '.join(each)}. {measuring.machine(1)}",
    ])  # fmt: skip


def tensors(folder: Path):
    """The tensors of a model's folder."""
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors").values()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--num_teacher", type=int, default=1500, help="rows that the teacher is trained on")
    parser.add_argument("--num_student", type=int, default=400)
    parser.add_argument("--num_test", type=int, default=150)
    parser.add_argument("--num_train_epochs", type=float, default=2.0)
    parser.add_argument("--learning_rate", type=float, default=1e-3)
    parser.add_argument("--quick", action="store_true", help="few rows")
    parser.add_argument("--write", action="store_true", help="write the section of RESULTS.md")
    args = parser.parse_args()
    named = ("num_teacher", "num_student", "num_test", "num_train_epochs", "learning_rate")
    args.shown = "".join(
        f" --{name} {getattr(args, name)}" for name in named if getattr(args, name) != parser.get_default(name)
    )
    if args.quick:
        args.num_teacher, args.num_student, args.num_test, args.num_train_epochs = 48, 32, 12, 1.0
    write_rows(args.output_dir, args.num_teacher, args.num_student, args.num_test)
    text = body(args.output_dir, train(args.output_dir, args), args)
    print(text)
    if args.write and not args.quick:
        measuring.write_section("Distillation", "a student held to its teacher, and to labels alone", text)


if __name__ == "__main__":
    main()
