"""What the commands with `--predict` share: their flags, the file, where the lines go, and how many are right."""

import sys
from collections.abc import Sequence
from pathlib import Path

from ftkit.config.errors import UserError
from ftkit.config.files import check_file
from ftkit.config.jsonl import json_line, write_or_print
from ftkit.config.parser import CommandParser
from ftkit.data.reading.read_as import add_reading_flags


def predicting_parser(command: str, description: str, examples: str | None, *, file: str, model: str, unit: str):
    """A parser with the flags of `ftkit COMMAND --predict`.

    examples: the text of the command's module. file, model: which ones it takes, in words. unit: what goes through the
    model in a batch.
    """
    parser = CommandParser(prog=f"ftkit {command} --predict", examples=examples, description=description)
    add = parser.add_argument
    add("--predict", help=f"file {file}")
    add("--model_name_or_path", help=f"output folder of ftkit {command}, or {model}")
    add("--output_file", help="where the lines go; default: standard output")
    add("--base", help="the base of an adapter, if it was moved")
    add("--batch_size", type=int, default=16, help=f"{unit} at a time")
    add("--dtype", default="float32", choices=["float32", "bfloat16", "float16"], help="of the weights")
    add("--trust_remote_code", action="store_true", help="run Python code that comes with the model")
    add_reading_flags(parser)
    return parser


def check_settings(args, command: str, file: str) -> None:
    """Raise UserError for what is missing or out of range, before anything is loaded."""
    if not args.predict:
        raise UserError(f"--predict needs a file {file}")
    if not args.model_name_or_path:
        raise UserError(f"--model_name_or_path is missing; give the output folder of ftkit {command}")
    if args.output_file and Path(args.output_file).exists():
        raise UserError(f"{args.output_file}: exists; name a new file or remove it first")
    if args.output_file:
        check_file(args.output_file, "--output_file")
    if args.batch_size < 1:
        raise UserError(f"--batch_size is {args.batch_size}; give 1 or more")


def read_file(args, kind) -> list[dict]:
    """Rows of a file, as a RowKind gives them. Raises UserError with file and line for what is none."""
    from ftkit.data.reading.loading import load_rows
    from ftkit.data.reading.read_as import ReadAs
    from ftkit.data.reading.reader import missing_file_message

    if not Path(args.predict).is_file():
        raise UserError(missing_file_message(Path(args.predict)))
    return load_rows(args.predict, kind=kind, read_as=ReadAs.of(args.columns, args.encoding)).train


def loading(args) -> dict:
    """How the model is loaded, as the flags say."""
    return {"base": args.base, "dtype": args.dtype, "trust_remote_code": args.trust_remote_code}


def write(args, lines: list[dict]) -> None:
    """Write one line of JSON each, to --output_file or to standard output."""
    if args.output_file:
        write_or_print(Path(args.output_file), lines)
    else:
        sys.stdout.writelines(map(json_line, lines))


def report(args, done: str, right: Sequence[bool], what: str) -> None:
    """Print to stderr what was done and, where that is known of any, how many are right. what: "labels are right"."""
    from ftkit.metrics.intervals import wilson_interval

    print(f"{done}; written to {args.output_file or 'standard output'}", file=sys.stderr)
    if right:
        low, high = wilson_interval(sum(right), len(right))
        share = f"{sum(right) / len(right):.1%} ({low:.1%} to {high:.1%})"
        print(f"{sum(right)} of {len(right)} {what}: {share}", file=sys.stderr)
