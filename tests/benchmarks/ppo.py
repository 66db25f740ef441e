"""PPO and GRPO side by side: the same prompts, reward, model, learning rate and number of sampled answers; and PPO on a
random reward, which must teach nothing.

    python tests/benchmarks/ppo.py --output_dir OUT --write

The reward is the length of an answer in words, of which the base gives few. Each run is one command; what counts is the
reward of greedy answers to held-out prompts before and after it, with the interval of the change. Runs that are there
already are not made again; --quick rehearses on few.
"""

import argparse
import json
import time
from pathlib import Path

import measuring

REWARD, LIMIT = "length:12-20", 32
WORDS = [f"{a}{b}" for a in ("ba", "co", "du", "fe", "gi", "ho", "ja", "ku") for b in "lmnprstv"]
RANDOM = "import random\nrandom.seed(0)\n\ndef noise(completions):\n    return [random.random() for _ in completions]\n"
ANSWERS = 64  # of a rollout: PPO asks as many prompts once, GRPO an eighth of them eight times
OWN = {
    "ppo": ["--per_device_train_batch_size", "16", "--num_mini_batches", "4", "--num_ppo_epochs", "2", "--kl_coef", "0.01"],
    "grpo": [
        "--per_device_train_batch_size", "16", "--gradient_accumulation_steps", "1", "--num_generations", "8",
        "--steps_per_generation", "4", "--num_iterations", "2",
    ],
}  # fmt: skip


def write_prompts(folder: Path) -> Path:
    """128 prompts, and the random reward beside them."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [{"prompt": f"{verb} {word}."} for verb in ("Say", "Explain") for word in WORDS]
    path = folder / "prompts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (folder / "noise.py").write_text(RANDOM, encoding="utf-8")
    return path


def run(algorithm: str, reward: str, seed: int, args) -> Path:
    """One run, where it is not there yet."""
    from ftkit.runs.recipes import load_recipe

    name = f"{algorithm}-{'length' if reward == REWARD else 'random'}-{seed}"
    out = args.output_dir / name
    if not (out / "seconds.txt").is_file():
        recipe, start = load_recipe(algorithm), time.process_time()
        recipe.train(recipe.parse([
            "--model_name_or_path", args.model, "--dataset_name", str(args.output_dir / "prompts.jsonl"),
            "--output_dir", str(out), "--template", "alpaca", "--test_size", "32", "--rewards", reward,
            "--max_completion_length", str(LIMIT), "--learning_rate", str(args.learning_rate), "--seed", str(seed),
            "--max_steps", str(args.max_steps), "--num_samples", "0", "--eval_strategy", "no", "--save_strategy", "no",
            "--before_after", "--overwrite", "--disable_tqdm", *OWN[algorithm],
        ]))  # fmt: skip
        (out / "seconds.txt").write_text(f"{time.process_time() - start:.0f}", encoding="utf-8")
    return out


def lengths(out: Path, *, is_trained: bool) -> list[float]:
    """Of each held-out answer, its reward for its length, whatever it was trained on."""
    from ftkit.evaluation.results import FILE, read_items, read_results
    from ftkit.metrics.rewards import named_reward

    path = out / FILE if is_trained else out / "before" / FILE
    (task,) = read_results(path).tasks.values()
    return [named_reward(REWARD).score(item.prediction, None) for item in read_items(path, task)]


def row(algorithm: str, reward: str, seed: int, args) -> list:
    """Reward before, after and their difference with its interval, the KL at the end, seconds of a core."""
    from ftkit.metrics.paired_tests import mean_difference

    out = run(algorithm, reward, seed, args)
    before, after = (lengths(out, is_trained=one) for one in (False, True))
    change = mean_difference(before, after)
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    kl = next((line["kl"] for line in reversed(lines) if "kl" in line), None)
    return [
        f"{algorithm}, {'the length' if reward == REWARD else 'random'}", seed, f"{sum(before) / len(before):.3f}",
        f"{sum(after) / len(after):.3f}", f"{change.difference:+.3f} ({change.low:+.3f} to {change.high:+.3f})",
        "-" if kl is None else f"{kl:.2f}", (out / "seconds.txt").read_text(),
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--model", default="base")
    parser.add_argument("--learning_rate", type=float, default=5e-4)
    parser.add_argument("--max_steps", type=int, default=48)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one seed, one rollout")
    parser.add_argument("--write", action="store_true", help="write the section of RESULTS.md")
    args = parser.parse_args()
    if args.quick:
        args.seeds, args.max_steps = 1, 8
    write_prompts(args.output_dir)
    noise = f"{args.output_dir / 'noise.py'}:noise"
    rows = [
        row(algorithm, reward, seed, args)
        for algorithm, reward in (("ppo", REWARD), ("grpo", REWARD), ("ppo", noise))
        for seed in range(1, args.seeds + 1)
    ]
    header = ["trained on", "seed", "before", "after", "change (95 %)", "KL, nats per token", "core seconds"]
    body = "\n".join([
        "    python tests/benchmarks/ppo.py --output_dir OUT", "",
        f"{args.model}, all weights, learning rate {args.learning_rate:g}, {args.max_steps} updates on "
        f"{args.max_steps // 8 * ANSWERS} sampled answers; the reward is {REWARD} of greedy answers to 32 held-out prompts.", "",
        measuring.table(header, rows), "", measuring.machine(1),
    ])  # fmt: skip
    measuring.say(body)
    if args.write and not args.quick:
        measuring.write_section("PPO", "PPO and GRPO on one task, and PPO on a random reward", body)


if __name__ == "__main__":
    main()
