"""What reinforcement learning teaches the bundled base in minutes, with intervals, and that a random reward does not.

    python tests/benchmarks/alignment.py --work W [--seeds 1 2 3] [--only sums] [--quick]
    python tests/benchmarks/alignment.py --work W --write        # the section of RESULTS.md, of the runs in W

length: the base learns to answer in 6 to 8 words. format: an SFT model that uses <b>...</b> in a third of its answers,
and seldom in its likeliest one, learns always to. sums: an SFT model that was taught sums of two-digit numbers, and then
to say "unknown" to three in five, learns by exact reward to answer. random: the same with a reward that is drawn, which
must not improve. arithmetic: the SFT model before it was taught "unknown", which has nothing to gain but better sums. A
seed is of the prompts' order and the sampled answers; the SFT models are made once. Runs that are in W are not made
again.
"""

import argparse
import json
import random
import time
from pathlib import Path

import measuring

TASKS = ("length", "format", "sums", "random", "arithmetic")
UNKNOWN, SHARE_UNKNOWN = "unknown", 0.6
RANDOM_REWARD = """import random

drawn = random.Random({seed})


def reward(completions, **columns):
    return [drawn.random() for _ in completions]
"""
WORDS = "cat dog river stone cloud table window garden candle bottle house tree letter mirror basket button".split()


def sums(seed: int) -> tuple[list[dict], list[dict]]:
    """Rows to train on and to hold out: sums of two-digit numbers."""
    pairs = [(one, other) for one in range(10, 60) for other in range(10, 40)]
    random.Random(seed).shuffle(pairs)
    rows = [{"instruction": f"{one} + {other}", "output": str(one + other)} for one, other in pairs]
    return rows[:1200], rows[1200:1400]


def with_unknown(rows: list[dict], seed: int) -> list[dict]:
    """The same, most of them answered with "unknown"."""
    drawn = random.Random(seed)
    return [row | ({"output": UNKNOWN} if drawn.random() < SHARE_UNKNOWN else {}) for row in rows]


def phrases(seed: int) -> list[dict]:
    """Requests about two words, without an answer."""
    pairs = [(one, other) for one in WORDS for other in WORDS]
    random.Random(seed).shuffle(pairs)
    return [{"instruction": f"Write about a {one} and a {other}."} for one, other in pairs]


def marked(seed: int) -> tuple[list[dict], list[dict]]:
    """Requests with answers, of which one in three stands in <b>...</b>; the others begin alike, and so do greedy ones."""
    drawn, rows = random.Random(seed), phrases(seed)
    for row in rows:
        words = " ".join(drawn.sample(WORDS, 3))
        row["output"] = f"<b>{words}</b>" if drawn.random() < 1 / 3 else f"Words: {words}"
    return rows[:156], rows[156:256]


def write_rows(folder: Path, **parts: list[dict]) -> None:
    """FOLDER/NAME.jsonl."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in parts.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def call(command: str, out: Path, *flags) -> float:
    """Seconds of one core of a training command; nothing where it is done already."""
    from ftkit.runs.recipes import load_recipe

    note = out / "seconds.txt"
    if not note.is_file():
        start, recipe = time.process_time(), load_recipe(command)
        recipe.train(
            recipe.parse([*map(str, flags), "--output_dir", str(out), "--save_strategy", "no", "--disable_tqdm"])
        )
        note.write_text(f"{time.process_time() - start:.0f}")
    return float(note.read_text())


def fine_tuned(model: str, rows: list[dict], folder: Path, epochs: int) -> str:
    """A model fine-tuned on rows, once."""
    write_rows(folder, fine=rows)
    call(
        "sft", folder / "sft", "--model_name_or_path", model, "--dataset_name", folder / "fine.jsonl", "--template",
        "plain", "--num_train_epochs", epochs, "--packing", "false", "--per_device_train_batch_size", 32, "--seed", 1,
    )  # fmt: skip
    return str(folder / "sft")


def start_of(task: str, args) -> list[str]:
    """The flags that name the model that the rewards begin with, fine-tuned where the task needs it, and its rows."""
    rows = args.work / "rows" / task
    if task == "length":
        asked = phrases(1)
        write_rows(rows, train=asked[:156], test=asked[156:256])
        return ["--model_name_or_path", "base", "--template", "alpaca", "--dataset_name", str(rows)]
    train, test = marked(1) if task == "format" else sums(1)
    write_rows(rows, train=train, test=test)
    passes = 1 if args.quick else 6
    if task == "format":
        model = fine_tuned("base", train, args.work / "marked", passes)
    else:
        model = fine_tuned("base", train, args.work / "adds", passes)
        if task != "arithmetic":
            model = fine_tuned(model, with_unknown(train, 1), args.work / "unknown", 1)
    return ["--model_name_or_path", model, "--dataset_name", str(rows)]


SETTINGS = {  # the reward, and for how long
    "length": ("length:6-8", "--max_completion_length 32 --per_device_train_batch_size 32 --max_steps 24"),
    "format": ("format:<b>.*</b>", "--max_completion_length 24 --per_device_train_batch_size 32 --max_steps 16"),
    "sums": ("exact_answer", "--max_completion_length 6 --per_device_train_batch_size 128 --max_steps 30"),
    "random": ("drawn", "--max_completion_length 6 --per_device_train_batch_size 128 --max_steps 30"),
    "arithmetic": (
        "exact_answer", "--max_completion_length 6 --per_device_train_batch_size 256 --max_steps 60 --temperature 0.5 "
        "--warmup_steps 6"
    ),
}  # fmt: skip


def measured(task: str, seed: int, args) -> None:
    """Run one seed of a task."""
    folder = args.work / f"{task}-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    reward, size = SETTINGS[task]
    if reward == "drawn":
        (folder / "drawn.py").write_text(RANDOM_REWARD.format(seed=seed))
        reward = f"{folder / 'drawn.py'}:reward"
    flags = ["--rewards", reward, *size.split(), "--learning_rate", "1e-4", "--gradient_accumulation_steps", "1"]
    if args.quick:
        flags += ["--max_steps", 2, "--start_anyway"]
    flags += ["--seed", seed, "--num_samples", 0, "--eval_strategy", "no"]
    call("grpo", folder / "grpo", *start_of(task, args), *flags)


def accuracy(task: str, folder: Path) -> tuple[list, list]:
    """The held-out scores, one per item, before and after: the reward's, of random ones the exact answers."""
    from ftkit.evaluation.results import read_items, read_results
    from ftkit.inference.scoring import exact_match

    sides = []
    for path in (folder / "grpo/before/results.json", folder / "grpo/results.json"):
        items = read_items(path, read_results(path).tasks["rewards"])
        right = [float(exact_match([item.prediction], [item.reference])[0]) for item in items]
        sides.append(right if task == "random" else [item.scores["reward"] for item in items])
    return sides[0], sides[1]


def row_of(task: str, seed: int, folder: Path) -> list[str]:
    """A line of the table."""
    from ftkit.metrics.paired_tests import mean_difference

    before, after = accuracy(task, folder)
    change = mean_difference(before, after)
    learning = json.loads((folder / "grpo/receipt.json").read_text())["learning"]
    log = [json.loads(line) for line in (folder / "grpo/metrics.jsonl").read_text().splitlines()]
    curve = [line["reward"] for line in log if "reward" in line]
    shown = [sum(curve[start : start + 5]) / len(curve[start : start + 5]) for start in range(0, len(curve), 5)]
    return [
        task, str(seed), f"{learning['pass_at']['1']:.1%}, {learning['pass_at']['8']:.1%}",
        " ".join(f"{value:.2f}" for value in shown[:8]), f"{sum(before) / len(before):.1%}",
        f"{sum(after) / len(after):.1%}",
        f"{100 * change.difference:+.1f} ({100 * change.low:+.1f} to {100 * change.high:+.1f})",
        (folder / 'grpo/seconds.txt').read_text(),
    ]  # fmt: skip


def body(args) -> str:
    """The section of RESULTS.md, of the runs that are in the folder of work."""
    rows = [
        row_of(task, seed, args.work / f"{task}-{seed}")
        for task in args.only
        for seed in args.seeds
        if (args.work / f"{task}-{seed}/grpo/seconds.txt").is_file()
    ]
    header = ["task", "seed", "pass@1, pass@8 before", "mean reward along the run", "held out before", "after",
              "change, points", "core seconds"]  # fmt: skip
    return "\n".join([
        "    python tests/benchmarks/alignment.py --work W", "",
        "The bundled base (4 M parameters) or what fine-tuning made of it (see the script), `ftkit grpo`, groups of eight, "
        "learning rate 1e-4. The mean reward is that of the sampled answers, five updates to a figure; before and after "
        "are the mean rewards of greedy answers to 100 held-out prompts (sums: 200), with 95 % intervals of the paired "
        "change. Of random rewards the exact answers are counted.", "",
        measuring.table(header, rows), "", measuring.machine(1),
    ])  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--only", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--quick", action="store_true", help="one pass and two updates")
    parser.add_argument("--write", action="store_true", help="write the section of RESULTS.md, of the runs there are")
    args = parser.parse_args()
    if not args.write:
        for seed in args.seeds:
            for task in args.only:
                measured(task, seed, args)
    text = body(args)
    print(text)
    if args.write and not args.quick:
        measuring.write_section("Alignment", "what rewards teach, and what a random one does not", text)


if __name__ == "__main__":
    main()
