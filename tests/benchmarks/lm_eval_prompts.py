"""Holds what the tasks of published benchmarks ask against what lm-eval's own tasks of the same name ask, text by text.

    pip install lm-eval==0.4.13
    python tests/benchmarks/lm_eval_prompts.py [--write]

The rows are made up, in the columns of the Hub's datasets and with their oddities; both sides turn them into requests,
and no model is needed. Ends with an error where a context, a continuation or the right answer is another one.
"""

import argparse
import json
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

MMLU = {"subject": "astronomy", "choices": ["a", "b", "c", "d"]}
ENDINGS = ["scrapes [title] it. [step] Go  on", " then he leaves", "sits [substeps] down.", "a, b"]
LABELS = {"label": ["A", "B", "C", "D"]}


@dataclass(frozen=True)
class Published:
    """One of our tasks, lm-eval's file of the same benchmark, and rows by split."""

    name: str
    theirs: str
    rows: dict[str, list[dict]]
    num_fewshot: int = 0


PUBLISHED = [
    Published(
        "mmlu", "mmlu/default/mmlu_astronomy.yaml", num_fewshot=2,
        rows={
            "test": [{"question": " Two\nlines? ", "answer": 2, **MMLU}],
            "dev": [{"question": f"Example {number}?  ", "answer": number, **MMLU} for number in range(3)],
        },
    ),
    Published(
        "hellaswag", "hellaswag/hellaswag.yaml",
        rows={"validation": [
            {"activity_label": "Removing ice", "ctx_a": "A man writes.", "ctx_b": "then he STOPS [title] Why [step] now",
             "endings": ENDINGS, "label": "1"},
            {"activity_label": "Baking", "ctx_a": "How to bake [title] Mix.", "ctx_b": "", "endings": ENDINGS, "label": "0"},
        ]},
    ),
    *(
        Published(
            name, f"arc/{name}.yaml", num_fewshot=1,
            rows={
                "test": [{"question": "Why?", "choices": {"text": ["x", "y", "z"], "label": ["1", "2", "3"]}, "answerKey": "3"}],
                "train": [{"question": "How?", "choices": {"text": ["k", "l", "m", "n"], **LABELS}, "answerKey": "B"}],
            },
        )
        for name in ("arc_easy", "arc_challenge")
    ),
    Published(
        "truthfulqa", "truthfulqa/truthfulqa_mc1.yaml",
        rows={"validation": [
            {"question": "What if?", "mc1_targets": {"choices": ["Nothing.", "It rains.", "Luck."], "labels": [1, 0, 0]}},
        ]},
    ),
    Published(
        "sentiment", "glue/sst2/default.yaml", num_fewshot=1,
        rows={
            "validation": [{"sentence": "a film of charm ", "label": 1}],
            "train": [{"sentence": "it 's dull ", "label": 0}],
        },
    ),
    Published(
        "gsm8k", "gsm8k/gsm8k.yaml", num_fewshot=2,
        rows={
            "test": [{"question": "How many are left?", "answer": "3 - 1 = <<3-1=2>>2\n#### 2"}],
            "train": [{"question": f"And {number}?", "answer": f"It is {number}.\n#### {number}"} for number in range(3)],
        },
    ),
]  # fmt: skip


def write_rows(one: Published, folder: Path) -> Path:
    """A folder with a file for each split."""
    data = folder / one.name
    data.mkdir()
    for split, rows in one.rows.items():
        (data / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return data


def our_requests(one: Published, data: Path) -> list[tuple[str, str, bool]]:
    """(context, continuation, whether it is the right one) of every request; of an answer that is written, what ends it."""
    from ftkit.evaluation.bench.task_file import load_task
    from ftkit.evaluation.bench.task_items import ItemSettings, build_items, plain_prompt

    task = load_task(one.name)
    found = []
    for item in build_items(task, ItemSettings(str(data), num_fewshot=one.num_fewshot)):
        context = plain_prompt(task, item, item.prompts[0])
        if task.kind == "generation":
            found.append((context, json.dumps([task.stop, task.max_new_tokens]), True))
        for place, choice in enumerate(item.choices):
            found.append((context, task.target_delimiter + choice, place == item.answer))
    return found


def their_requests(one: Published, data: Path, folder: Path) -> list[tuple[str, str, bool]]:
    """The same of lm-eval's task, which is changed in nothing but where its rows lie and which examples are taken."""
    import lm_eval
    from lm_eval.tasks import TaskManager

    settings = {
        "include": str(Path(lm_eval.__file__).parent / "tasks" / one.theirs),
        "task": f"published_{one.name}",
        "dataset_path": "json",
        "dataset_name": None,
        "dataset_kwargs": {"data_files": {split: str(data / f"{split}.jsonl") for split in one.rows}},
        "num_fewshot": one.num_fewshot,
        "fewshot_config": {"sampler": "first_n"},
    }
    for split, key in (("train", "training_split"), ("validation", "validation_split")):
        if split not in one.rows:
            settings[key] = None
    tasks = folder / f"{one.name}_task"
    tasks.mkdir()
    (tasks / "task.yaml").write_text(json.dumps(settings), encoding="utf-8")
    manager = TaskManager(include_path=str(tasks), include_defaults=False)
    task = manager.load(settings["task"])["tasks"][settings["task"]]
    task.build_all_requests(limit=None, rank=0, world_size=1)
    found = []
    for request in task.instances:
        context, rest = request.args
        if isinstance(rest, dict):
            found.append((context, json.dumps([rest["until"], rest.get("max_gen_toks", 256)]), True))
        else:
            found.append((context, rest, request.idx == task.doc_to_target(request.doc)))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write the section of RESULTS.md")
    args = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    differing = 0
    lines = []
    with tempfile.TemporaryDirectory() as name:
        os.environ["HF_DATASETS_CACHE"] = str(Path(name, "cache"))
        for one in PUBLISHED:
            data = write_rows(one, Path(name))
            ours, theirs = our_requests(one, data), their_requests(one, data, Path(name))
            for mine, other in zip(ours, theirs, strict=True):
                if mine != other:
                    differing += 1
                    print(f"{one.name}:\n  ftkit   {mine!r}\n  lm-eval {other!r}")
            lines.append([one.name, one.theirs, len(ours), "alike" if ours == theirs else "differ"])
    sys.path.insert(0, str(Path(__file__).parent))
    import measuring

    body = (
        "    python tests/benchmarks/lm_eval_prompts.py\n\nContexts, continuations and right answers of made-up rows in the "
        "columns of the Hub's datasets, lm-eval 0.4.13's own task files; few-shot examples are the first ones on both sides.\n\n"
        + measuring.table(["task", "lm-eval's file", "requests", ""], lines)
    )
    print(body)
    if differing:
        raise SystemExit(f"{differing} requests differ")
    if args.write:
        measuring.write_section("lm-eval prompts", "published benchmarks are asked as lm-eval asks them", body)


if __name__ == "__main__":
    main()
