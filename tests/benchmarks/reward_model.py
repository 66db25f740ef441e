"""Reward models on held-out pairs beside the length of answers and a coin, and best-of-8 by one judged by another.

    python tests/benchmarks/reward_model.py --rows instruction-data-with-preference.json --output_dir OUT --write

The pairs are split by prompt: two halves to train a reward model on each, the rest held out. Best-of-8: SmolLM2 answers
held-out prompts eight times at temperature 1; the model of the first half chooses, and that of the second, which has
seen none of its pairs, says how much better the choice is than the first of the eight. Runs and samples that are there
already are not made again; --quick rehearses on few.
"""

import argparse
import json
import random
import time
from pathlib import Path

import measuring
import numpy as np

SEED, NUM_SAMPLES = 7, 8
HALVES = ("first", "second")


def split(rows_file: Path, num_train: int, num_test: int) -> dict[str, list[dict]]:
    """Pairs with unequal answers, shuffled, without two parts that share a prompt."""
    rows = [row for row in json.loads(rows_file.read_text(encoding="utf-8")) if row["chosen"] != row["rejected"]]
    by_prompt: dict[tuple, list[dict]] = {}
    for row in rows:
        kept = {name: row[name] for name in ("instruction", "input", "chosen", "rejected")}
        by_prompt.setdefault((row["instruction"], row["input"]), []).append(kept)
    groups = list(by_prompt.values())
    random.Random(SEED).shuffle(groups)
    rows = [row for group in groups for row in group[:1]]
    ends = [num_test, num_test + num_train, num_test + 2 * num_train]
    return {"test": rows[: ends[0]], "first": rows[ends[0] : ends[1]], "second": rows[ends[1] : ends[2]]}


def write_rows(parts: dict[str, list[dict]], folder: Path) -> None:
    """FOLDER/HALF/{train,test}.jsonl for both halves."""
    for half in HALVES:
        (folder / half).mkdir(parents=True, exist_ok=True)
        for name, rows in (("train", parts[half]), ("test", parts["test"])):
            text = "".join(json.dumps(row) + "\n" for row in rows)
            (folder / half / f"{name}.jsonl").write_text(text, encoding="utf-8")


def train(half: str, folder: Path, args) -> float:
    """Train a half's reward model into FOLDER/HALF-model; the minutes it took, as noted where it is done already."""
    from ftkit.reward import main as reward

    out, note = folder / f"{half}-model", folder / f"{half}-minutes.txt"
    if not note.is_file():
        start = time.monotonic()
        peft = ["--use_peft", "--lora_r", "16"] if args.use_peft else []
        rate = ["--learning_rate", str(args.learning_rate)] if args.learning_rate else []
        reward([
            "--model_name_or_path", args.model, "--dataset_name", str(folder / half), "--template", "alpaca",
            "--output_dir", str(out), "--num_train_epochs", str(args.num_train_epochs), "--seed", str(SEED),
            "--per_device_train_batch_size", "8", "--num_samples", "0", "--disable_tqdm", "--max_length", "256",
            "--untrained_rows", "drop", *peft, *rate,
        ])  # fmt: skip
        note.write_text(f"{(time.monotonic() - start) / 60:.1f}")
    return float(note.read_text())


def questions(rows: list[dict]) -> list[list[dict]]:
    """The prompts as conversations."""
    from ftkit.data.rows.formats import from_alpaca

    return [from_alpaca({**row, "output": "?"}, "row")["messages"][:-1] for row in rows]


def sample(prompts: list[list[dict]], folder: Path, args) -> list[list[str]]:
    """NUM_SAMPLES answers to each prompt."""
    from ftkit.inference.asking import ModelSettings, Sampling
    from ftkit.inference.engine import Engine

    path = folder / "samples.json"
    if not path.is_file():
        engine = Engine.load(ModelSettings(args.generator))
        sampling = Sampling(max_new_tokens=args.max_new_tokens, temperature=1.0, seed=SEED)
        asked = [prompt for prompt in prompts for _ in range(NUM_SAMPLES)]
        answers = engine.answers(asked, sampling, batch_size=32)
        path.write_text(json.dumps(answers))
    answers = json.loads(path.read_text())
    return [answers[start : start + NUM_SAMPLES] for start in range(0, len(answers), NUM_SAMPLES)]


def scores(model_folder: Path, prompts: list[list[dict]], answers: list[list[str]]) -> np.ndarray:
    """(prompts, samples) scores by a reward model."""
    from ftkit.inference.reward_model import load_reward_model

    talks = [
        [*prompt, {"role": "assistant", "content": text}]
        for prompt, texts in zip(prompts, answers, strict=True)
        for text in texts
    ]
    return np.array(load_reward_model(model_folder).scores(talks)).reshape(len(prompts), -1)


def best_of(chooser: np.ndarray, judge: np.ndarray, answers: list[list[str]]) -> dict:
    """How the chosen answers stand against the first ones, by the judge: mean difference, share better, lengths."""
    from ftkit.metrics.intervals import bootstrap_interval

    rows = np.arange(len(chooser))
    best = chooser.argmax(axis=1)
    gained = judge[rows, best] - judge[:, 0]
    low, high = bootstrap_interval(gained)
    words = [np.mean([len(texts[at].split()) for texts, at in zip(answers, places, strict=True)]) for places in (0 * best, best)]  # fmt: skip
    return {
        "gain": (gained.mean(), low, high), "spread": judge[:, 0].std(), "better": (gained > 0).sum(),
        "worse": (gained < 0).sum(), "words": words, "correlation": np.corrcoef(chooser.ravel(), judge.ravel())[0, 1],
    }  # fmt: skip


def ranked(folder: Path) -> dict[str, tuple]:
    """Pair accuracy with its interval of the runs in a model's folder, by their names."""
    from ftkit.evaluation.results import measured_runs

    found = {}
    for name, results in measured_runs(folder).items():
        score = results.tasks["preferences"].scores["pair_accuracy"]
        found[name] = (score.value, score.low, score.high)
    return found


def share(value: tuple) -> str:
    """A share with its interval."""
    return "{:.1%} ({:.1%} to {:.1%})".format(*value)


def body(args, parts: dict, minutes: dict, choices: dict) -> str:
    """The section of RESULTS.md."""
    tables = {half: ranked(args.output_dir / f"{half}-model") for half in HALVES}
    names = list(dict.fromkeys(name for table in tables.values() for name in table))
    lines = [
        f"    python tests/benchmarks/reward_model.py --rows instruction-data-with-preference.json {args.shown}",
        "",
        f"{args.model}, {'LoRA r=16' if args.use_peft else 'all weights'}, {args.num_train_epochs:g} passes; "
        f"{len(parts['test'])} held-out pairs of prompts that no half holds.",
        "",
        "| trained on | " + " | ".join(names) + " | minutes |",
        "|---|" + "---|" * (len(names) + 1),
    ]
    for half, table in tables.items():
        cells = [share(table[name]) if name in table else "-" for name in names]
        lines.append(f"| the {half} half, {len(parts[half])} pairs | {' | '.join(cells)} | {minutes[half]:.1f} |")
    lines += [
        "",
        f"Best of {NUM_SAMPLES} answers of {args.generator} to {args.num_prompts} held-out prompts at temperature 1, at most "
        f"{args.max_new_tokens} tokens, beside the first of them, by the score of the other half's model (95 % interval):",
        "",
        "| chosen by | judged by | gain in score | spread of one sample | better, worse, same | words, first and chosen |",
        "|---|---|---|---|---|---|",
    ]
    for (chooser, judge), found in choices.items():
        same = args.num_prompts - found["better"] - found["worse"]
        gain = "{:+.3f} ({:+.3f} to {:+.3f})".format(*found["gain"])
        first, chosen = found["words"]
        lines.append(
            f"| the {chooser} half | the {judge} | {gain} | {found['spread']:.3f} | {found['better']}, {found['worse']}, "
            f"{same} | {first:.1f}, {chosen:.1f} |"
        )
    correlation = next(iter(choices.values()))["correlation"]
    return "\n".join([
        *lines, "", f"The two models' scores of all answers correlate at {correlation:.2f}. Split, training and "
        f"sampling have seed {SEED}. {measuring.machine(1)}"
    ])  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--model", default="base")
    parser.add_argument("--use_peft", action="store_true")
    parser.add_argument("--generator", default="smollm2")
    parser.add_argument("--num_train", type=int, default=450, help="pairs of a half")
    parser.add_argument("--num_test", type=int, default=180)
    parser.add_argument("--num_train_epochs", type=float, default=3.0)
    parser.add_argument("--learning_rate", type=float)
    parser.add_argument("--num_prompts", type=int, default=48)
    parser.add_argument("--max_new_tokens", type=int, default=40)
    parser.add_argument("--quick", action="store_true", help="few pairs, prompts and tokens")
    parser.add_argument("--write", action="store_true", help="write the section of RESULTS.md")
    args = parser.parse_args()
    named = ("model", "use_peft", "num_train", "num_test", "num_train_epochs", "learning_rate", "num_prompts")
    words = [f"--{name} {getattr(args, name)}" for name in named if getattr(args, name) != parser.get_default(name)]
    args.shown = " ".join(["--output_dir OUT", *words]).replace("--use_peft True", "--use_peft")
    if args.quick:
        args.num_train, args.num_test, args.num_train_epochs = 32, 16, 1.0
        args.num_prompts, args.max_new_tokens = 4, 8
    parts = split(args.rows, args.num_train, args.num_test)
    write_rows(parts, args.output_dir)
    minutes = {half: train(half, args.output_dir, args) for half in HALVES}
    prompts = questions(parts["test"][: args.num_prompts])
    answers = sample(prompts, args.output_dir, args)
    found = {half: scores(args.output_dir / f"{half}-model", prompts, answers) for half in HALVES}
    pairs = (HALVES, HALVES[::-1])
    choices = {(one, other): best_of(found[one], found[other], answers) for one, other in pairs}
    text = body(args, parts, minutes, choices)
    print(text)
    if args.write and not args.quick:
        measuring.write_section("Reward", "a reward model beside length and a coin, and best-of-8 by it", text)


if __name__ == "__main__":
    main()
