"""Benchmarks a model: few-shot multiple choice, generation, perplexity; resumes by itself, and leaves results.json.

ftkit bench --model_name_or_path M --tasks knowledge,reasoning --output_dir OUT
ftkit bench --adapter runs/mine --tasks instructions --task_data instructions=test.csv --output_dir OUT
ftkit bench --adapter runs/mine --tasks reasoning --num_samples 8 --choose majority --output_dir OUT
ftkit bench --index runs/index --tasks retrieval --task_data retrieval=questions.jsonl --output_dir OUT
ftkit bench --adapter runs/mine --tasks mmlu,my/task.yaml --task_data mmlu=path/to/mmlu --limit 50 --output_dir OUT
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from ftkit.config.errors import UserError
from ftkit.config.files import check_folder
from ftkit.config.parser import CommandParser
from ftkit.config.paste import command
from ftkit.inference.asking import ModelSettings, check_choosing
from ftkit.inference.retrieval.retriever import add_index_flags, retriever_of

PAGE_FILE = "report.html"
NOT_OF_ENDPOINTS = (
    "adapter", "template", "dtype", "load_in_4bit", "ftgpt", "trust_remote_code", "max_batch_tokens", "batch_size",
)  # fmt: skip


def main(argv: list[str]) -> None:
    """Parse the command line, run the tasks, print the scores."""
    args = parser().parse_args(argv)
    if args.list:
        print(task_list())
        return
    check(args)
    from ftkit.evaluation.bench.choosing import choose_tasks

    chosen = choose_tasks(args)
    with claimed(args):
        was_finished = is_finished(args.output_dir)
        results = benchmark(args, chosen)
        if results is not None:
            report(results, args.output_dir, was_finished)


def report(results, folder: str, was_finished: bool) -> None:
    """Print the scores; write the page of a run that has just come to its end."""
    from ftkit.evaluation.bench.report import write_bench_report

    print(table(results))
    if was_finished:
        print(f"finished: {folder} holds this benchmark already; --overwrite starts over")
        return
    page = write_bench_report(f"{folder}/results.json")
    following = command("compare", "BEFORE/results.json", f"{folder}/results.json")
    print(f"done: {folder}/results.json, {page}; next: {following}")


def parser() -> CommandParser:
    """The settings."""
    found = CommandParser(
        prog="ftkit bench", examples=__doc__, description="Benchmark a model; a killed run goes on by itself."
    )
    add = found.add_argument
    add("--list", action="store_true", help="show the bundled tasks and exit")
    add("--model_name_or_path", help="Hub id, local folder or .gguf file; with --adapter: its base, if moved")
    add("--adapter", help="output folder of a run with --use_peft")
    add("--endpoint", help="URL of an OpenAI-compatible server, such as http://localhost:8000/v1; generation tasks")
    add("--tasks", help="names of --list, their subjects (mmlu/astronomy), or your own .yaml files; commas between")
    add("--task_data", action="append", default=[], metavar="TASK=PATH", help="rows of a task: file, folder or Hub id")
    add("--columns", help="of rows for instructions under other names: instruction=Question,output=Answer")
    add("--join_turns", action="store_true", help="join turns of the user of those rows that follow each other")
    add("--encoding", help="of those rows, such as cp1252; default: UTF-8, or what a byte-order mark says")
    add("--output_dir", help="folder for results.json and the answered items; a run that was killed goes on there")
    add("--overwrite", action="store_true", help="start over: remove the benchmark that --output_dir holds")
    add("--num_fewshot", type=int, help="examples in front of each question; default: the task's own")
    add("--limit", type=int, help="only this many items of each task, or of each of its subjects")
    add("--template", default="auto", help="bundled name, .jinja file, auto: the model's own, or none: plain text")
    add("--dtype", choices=["float32", "bfloat16", "float16"], help="default: float32 on a CPU, else bfloat16")
    add("--load_in_4bit", action="store_true", help="quantise the model with bitsandbytes")
    add("--ftgpt", action="store_true", help="load GPT-2, Llama or Qwen2 weights into FTGPT")
    add("--trust_remote_code", action="store_true", help="run Python code that comes with the model")
    add("--max_batch_tokens", type=int, help="tokens scored at once; default: what is fast on this device")
    add("--batch_size", type=int, help="answers generated at once; default: what is fast on this device")
    add("--concurrency", type=int, default=4, help="requests to the endpoint at once")
    add(
        "--max_new_tokens",
        type=int,
        help="longest answer, in tokens, such as of a model that thinks; default: the task's",
    )
    add(
        "--num_samples",
        type=int,
        default=1,
        help="answers to each item, of which one is chosen, or the scores' mean taken",
    )
    add("--temperature", type=float, default=0.7, help="of these samples; one answer alone is greedy")
    add("--choose", choices=["majority", "best"], help="what most samples say, or what is scored highest")
    add("--reward_model", help="output folder of ftkit reward, for --choose best")
    add(
        "--judge",
        metavar="MODEL@URL",
        help="a judge on a server, or the folder of a model, for --choose best",
    )
    add_index_flags(found)
    add(
        "--support_judge",
        metavar="MODEL@URL",
        help="who says whether the sources support a sentence, for faithfulness: a judge on a server, or the folder "
        "of a model; default: shared words",
    )
    add("--seed", type=int, default=0, help="of the samples; recorded, and sent to an endpoint if given")
    return found


def check(args) -> None:
    """Raise UserError for what is missing or out of range, before anything is read."""
    if not args.tasks:
        raise UserError("--tasks is missing; ftkit bench --list shows the bundled ones")
    if not args.output_dir:
        raise UserError("--output_dir is missing; give a folder for the results")
    if not (args.model_name_or_path or args.adapter or args.index):
        raise UserError("name a model: --model_name_or_path M, or --adapter OUT for a trained adapter")
    for name in NOT_OF_ENDPOINTS if args.endpoint else ():
        if getattr(args, name) != parser().get_default(name):
            raise UserError(f"--{name} has no effect with --endpoint: the server decides it; leave it out")
    for name, least in (
        ("num_fewshot", 0),
        ("limit", 1),
        ("max_batch_tokens", 1),
        ("batch_size", 1),
        ("concurrency", 1),
        ("max_new_tokens", 1),
        ("num_samples", 1),
    ):
        value = getattr(args, name)
        if value is not None and value < least:
            raise UserError(f"--{name} is {value}; give at least {least}")
    if args.num_samples == 1 and args.temperature != parser().get_default("temperature"):
        raise UserError("--temperature has no effect on one answer, which is greedy; add --num_samples 8, or drop it")
    check_choosing(args)
    check_folder(args.output_dir)


@contextlib.contextmanager
def claimed(args) -> Iterator[None]:
    """Hold OUT's lock, in the first process, and remove what --overwrite replaces.

    Raises UserError for a folder that can't be written or is another's, before a model is loaded for nothing.
    """
    from ftkit.config.launch import is_first_process
    from ftkit.config.output_folder import clear, held
    from ftkit.config.terminal import resumable
    from ftkit.evaluation.bench.bench import WRITTEN, claim_folder

    if not is_first_process():
        yield
        return
    claim_folder(Path(args.output_dir))
    with held(args.output_dir):
        if args.overwrite:
            clear(args.output_dir, WRITTEN)
        with resumable():
            yield


def is_finished(folder: str) -> bool:
    """Whether the benchmark in a folder came to its end; its page is written last."""
    from ftkit.evaluation.results import FILE

    return all((Path(folder) / name).is_file() for name in (FILE, PAGE_FILE))


def task_list() -> str:
    """The bundled tasks, one per line."""
    from ftkit.evaluation.bench.task_file import bundled_tasks, load_task

    tasks = [load_task(name) for name in bundled_tasks()]
    lines = [
        f"{task.name:<22} {task.kind:<16} {task.num_fewshot} shots  {task.metrics[0]:<18} {task.about}"
        for task in tasks
    ]
    return "\n".join([f"{'task':<22} {'kind':<16} examples {'main metric':<18} what it asks", *lines])


def benchmark(args, chosen: list):
    """Load what is benchmarked and run; the results in the first process, None in the others."""
    from ftkit.config.versions import versions
    from ftkit.evaluation.bench.bench import run_benchmark
    from ftkit.evaluation.bench.choosing import task_data
    from ftkit.evaluation.bench.subject import SCORE_LIBRARIES, open_world
    from ftkit.evaluation.results import Results

    subject, model = load(args, chosen)
    subject.samples = samples_of(args)
    settings = {"limit": args.limit, "num_fewshot": args.num_fewshot, "max_batch_tokens": subject.max_batch_tokens}
    settings |= {"batch_size": subject.batch_size, "task_data": task_data(args.task_data)}
    if args.support_judge:
        settings["support_judge"] = args.support_judge
    if subject.samples:
        names = ("num_samples", "temperature", "choose", "reward_model", "judge")
        settings |= {name: getattr(args, name) for name in names}
    results = Results(model, {}, settings, versions(SCORE_LIBRARIES), args.seed)
    with open_world() as world:
        results = run_benchmark(subject, chosen, results, args.output_dir, world)
    return results if world.rank == 0 else None


def samples_of(args):
    """How often each item is answered, and what chooses; None for one greedy answer."""
    from ftkit.evaluation.bench.sampled import Samples
    from ftkit.evaluation.best_of import chooser_of

    if args.num_samples == 1:
        return None
    chooser = chooser_of(args.choose, args.reward_model, args.judge) if args.choose else None
    return Samples(args.num_samples, args.temperature, chooser, args.seed)


def load(args, chosen: list) -> tuple:
    """What is benchmarked, a model, an endpoint or an index, and what results.json says of it."""
    retriever = retriever_of(args)
    if not (args.model_name_or_path or args.adapter):
        from ftkit.evaluation.bench.units import Subject

        asking = [one.name for one in chosen if one.task.kind != "retrieval"]
        if asking:
            raise UserError(f"task {asking[0]} asks a model; name one: --model_name_or_path M, or --adapter OUT")
        return Subject(retriever=retriever), {"name": args.index, **retriever.identity()}
    subject, model = load_model(args)
    subject.retriever, subject.supports = retriever, support_of(args, chosen)
    return subject, model | (retriever.identity() if retriever else {})


def support_of(args, chosen: list):
    """What asks the judge of --support_judge; None without one. Raises UserError where it has no effect."""
    if not args.support_judge:
        return None
    if not any("faithfulness" in one.task.metrics for one in chosen):
        raise UserError(
            "--support_judge is about faithfulness, which no task measures; add --tasks documents, or drop it"
        )
    from ftkit.inference.judging import judge_of
    from ftkit.inference.retrieval.support import judged_support

    return judged_support(judge_of(args.support_judge, "--support_judge "))


def load_model(args) -> tuple:
    """A model or an endpoint, and what results.json says of it."""
    if args.endpoint:
        from ftkit.evaluation.bench.units import Subject
        from ftkit.inference.endpoint import Endpoint

        endpoint = Endpoint(args.endpoint, args.model_name_or_path, concurrency=args.concurrency, seed=args.seed)
        return Subject(endpoint=endpoint), {"name": args.model_name_or_path, "endpoint": args.endpoint}
    from ftkit.evaluation.bench.subject import load_subject

    adapters = {"adapter": args.adapter} if args.adapter else {}
    names = ("model_name_or_path", "template", "dtype", "load_in_4bit", "ftgpt", "trust_remote_code")
    asked = ModelSettings(adapters=adapters, may_lack_template=True, **{name: getattr(args, name) for name in names})
    return load_subject(asked, max_batch_tokens=args.max_batch_tokens, batch_size=args.batch_size)


def table(results) -> str:
    """The scores, one per line, and what samples are worth."""
    from ftkit.evaluation.bench.report import curve_lines
    from ftkit.evaluation.results import thoughts_text

    lines = []
    for task in results.tasks.values():
        for metric, score in task.scores.items():
            interval = f"({score.low:.3f} to {score.high:.3f})" if score.low is not None else ""
            items = "" if "/" in metric else f"{task.num_items} items"  # of a group they are not counted
            lines.append(f"{task.name:<28} {metric:<24} {score.value:>8.3f} {interval:<20} {items}".rstrip())
        lines += [f"{task.name}: {text}"] if (text := thoughts_text(task)) else []
        lines += curve_lines(task) if task.samples else []
    return "\n".join(lines)
