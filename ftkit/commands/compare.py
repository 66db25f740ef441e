"""Shows whether a model got better, and what it forgot, from two benchmark runs.

ftkit compare runs/before/results.json runs/after/results.json --html
ftkit compare runs/mine                    # a training run: what it measured before and after
ftkit compare runs/after --before runs/base-own-template runs/base-5-shot --forgetting mmlu
"""

import sys
from pathlib import Path

from ftkit.config.errors import UserError, first_line
from ftkit.config.files import check_file
from ftkit.config.parser import CommandParser


def main(argv: list[str]) -> None:
    """Parse the command line, compare, print the verdict, write what was asked for."""
    args = parse(argv)
    from ftkit.evaluation.verdict.pairing import read_run, read_run_and_befores
    from ftkit.evaluation.verdict.text import verdict_text
    from ftkit.evaluation.verdict.verdict import compare_runs

    *first, last = args.results
    if first or args.before:
        befores, after = [read_run(path) for path in (*first, *args.before)], read_run(last)
    else:
        befores, after = read_run_and_befores(last)
    if args.html == "":
        args.html = str(after.path.with_name("verdict.html"))
    for flag, name in outputs(args):
        check_output(flag, name, [run.path for run in (*befores, after)])
    verdict = compare_runs(
        befores,
        after,
        forgetting=None if args.forgetting is None else [name for name in args.forgetting.split(",") if name],
        metric=args.metric,
        margin=args.margin,
        num_examples=args.num_examples,
        seed=args.seed,
    )
    verdict.warnings += leaks(args.train_data, after)
    print(verdict_text(verdict))
    write_files(verdict, args)


def parse(argv: list[str]):
    """The settings of the command line, checked."""
    parser = CommandParser(
        prog="ftkit compare", examples=__doc__, description="Show whether a model got better, and what it forgot."
    )
    parser.add_argument(
        "results", nargs="*", help="results.json, or a folder: BEFORE AFTER, one training run, or AFTER with --before"
    )
    parser.add_argument("--before", nargs="+", default=[], metavar="FILE", help="runs before; per task the best counts")
    parser.add_argument(
        "--forgetting",
        metavar="T,U",
        help="tasks the training was not about, listed apart; default: the one of that name",
    )
    parser.add_argument("--metric", metavar="NAME", help="what decides, in place of each task's main metric")
    parser.add_argument(
        "--margin", type=float, default=0.05, help="the smallest difference that matters: of a share, or relative"
    )
    parser.add_argument("--num_examples", type=int, default=3, help="flipped items shown each way for each task")
    parser.add_argument("--seed", type=int, default=0, help="seed of the bootstrap")
    parser.add_argument(
        "--train_data", metavar="D", help="look for the items among these rows; default: those of AFTER's own run"
    )
    parser.add_argument(
        "--html", nargs="?", const="", metavar="FILE", help="write a page; default: verdict.html by AFTER"
    )
    parser.add_argument("--markdown", metavar="FILE", help="write the verdict as Markdown")
    parser.add_argument("--json", metavar="FILE", help="write the verdict for programs")
    args = parser.parse_args(argv)
    if len(args.results) not in (1, 2):
        raise UserError("give BEFORE and AFTER, the folder of a training run, or AFTER and then --before with runs")
    if not 0 < args.margin < 1 or args.num_examples < 0:
        raise UserError("--margin lies between 0 and 1, such as 0.05, and --num_examples is 0 or more")
    if args.seed < 0:
        raise UserError(f"--seed is {args.seed}; give 0 or more")
    for flag, name in outputs(args):
        check_file(name, flag)
    return args


def outputs(args) -> list[tuple[str, str]]:
    """(flag, file) of what is to be written."""
    named = (("--html", args.html), ("--markdown", args.markdown), ("--json", args.json))
    return [(flag, name) for flag, name in named if name]


def check_output(flag: str, name: str, inputs: list[Path]) -> None:
    """Raise UserError for a file that can't be written, or would replace what is compared."""
    if Path(name).resolve() in [one.resolve() for one in inputs]:
        raise UserError(f"{flag} {name}: is one of the results that are compared; choose another file")
    check_file(name, flag)


def leaks(train_data: str | None, after) -> list[str]:
    """Warnings of items that are asked in the training data, if that is named or AFTER's model has its run here."""
    from ftkit.evaluation.results import read_items
    from ftkit.evaluation.verdict.contamination import leak_warnings, nothing_found

    if train_data:
        from ftkit.data.reading.loading import load_rows

        rows = load_rows(train_data).train
    else:
        rows, note = rows_of_run(after.results.model)
        if rows is None:
            return [note]
    items = {name: read_items(after.path, task) for name, task in after.results.tasks.items()}
    return leak_warnings(rows, items) or [nothing_found(len(rows))]


def rows_of_run(model: dict) -> tuple[list[dict] | None, str]:
    """The training rows of a model's run, where its folder and its data are on this machine; else None and why not."""
    from ftkit.config.run_folder import read_run_yaml
    from ftkit.publish.card.model_card import run_command

    folder = str(model.get("adapter") or model.get("name") or "")
    settings = read_run_yaml(folder)
    data = settings.get("dataset_name")
    if not data:
        return None, "the training data is not known here and was not searched for items; name it with --train_data D"
    from ftkit.data.reading.loading import local_files

    try:
        if local_files(data) is None:
            return None, f"{data} is on the Hub and was not searched for items; name it with --train_data {data}"
        return trained_rows(settings, run_command(Path(folder))), ""
    except UserError as error:
        reason = first_line(error)
        return None, f"the training data can't be searched for items ({reason}); name it with --train_data D"


def trained_rows(settings: dict, command: str) -> list[dict]:
    """The rows, or for pretraining the documents, that the run of these settings trained on."""
    from ftkit.data.reading.documents import load_documents
    from ftkit.data.reading.run_rows import loading_settings, rows_of
    from ftkit.data.rows.kinds import CONVERSATIONS, LABELLED, LABELLED_ANSWERS, PREFERENCES
    from ftkit.data.rows.prompts import PROMPTS

    if command == "pretrain":
        given = loading_settings(settings)
        given["seed"] = settings.get("data_seed", given["seed"])
        return load_documents(settings["dataset_name"], separator=settings.get("document_separator"), **given).train
    kinds = {
        "dpo": PREFERENCES,
        "reward": PREFERENCES,
        "kto": LABELLED_ANSWERS,
        "grpo": PROMPTS,
        "ppo": PROMPTS,
        "classify": LABELLED,
    }
    return rows_of(settings, kinds.get(command, CONVERSATIONS)).train


def write_files(verdict, args) -> None:
    """Write the page, Markdown and JSON that the command line asks for."""
    import dataclasses

    from ftkit.config.files import write_json, write_text
    from ftkit.evaluation.verdict.page import write_verdict_page
    from ftkit.evaluation.verdict.text import verdict_markdown

    written = []
    if args.html:
        written.append(Path(args.html))
        write_verdict_page(written[-1], verdict)
    if args.markdown:
        written.append(Path(args.markdown))
        write_text(written[-1], verdict_markdown(verdict))
    if args.json:
        written.append(Path(args.json))
        write_json(written[-1], dataclasses.asdict(verdict))
    if written:
        print(f"written: {', '.join(map(str, written))}", file=sys.stderr)
