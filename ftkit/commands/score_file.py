"""`ftkit reward --predict`: scores the answers of a file by a reward model.

ftkit reward --predict answers.jsonl --model_name_or_path runs/reward > scored.jsonl

Rows are pairs (chosen, rejected) or conversations, in any form that ftkit trains on. One line of JSON per row: its
messages with "score", or the prompt with both answers and "chosen_score" and "rejected_score". Of pairs, how many are
in the right order is shown on stderr.
"""

import sys
from pathlib import Path

from ftkit.config.errors import UserError
from ftkit.config.files import check_file
from ftkit.config.jsonl import json_line, write_or_print
from ftkit.config.parser import CommandParser
from ftkit.data.reading.read_as import add_reading_flags


def main(argv: list[str]) -> None:
    """Load, score, write."""
    args = parse(argv)
    from ftkit.config.hardware import use_all_cores
    from ftkit.config.quiet import quiet_libraries
    from ftkit.inference.reward_model import load_reward_model

    rows = read_answers(args)
    quiet_libraries()
    use_all_cores()
    loading = {"base": args.base, "dtype": args.dtype, "trust_remote_code": args.trust_remote_code}
    model = load_reward_model(args.model_name_or_path, **loading)
    talks = [talk for row in rows for talk in conversations(row)]
    scores = iter(model.scores(talks, batch_size=args.batch_size))
    scored = [{name: value for name, value in row.items() if name != "source"} | named(row, scores) for row in rows]
    if args.output_file:
        write_or_print(Path(args.output_file), scored)
    else:
        sys.stdout.writelines(map(json_line, scored))
    report(args, scored)


def parse(argv: list[str]):
    """The settings of the command line, checked as far as they can be without the model."""
    parser = CommandParser(
        prog="ftkit reward --predict", examples=__doc__, description="Score the answers of a file by a reward model."
    )
    parser.add_argument("--predict", help="file of pairs or conversations, as ftkit trains on")
    parser.add_argument("--model_name_or_path", help="output folder of ftkit reward, or any classifier with one label")
    parser.add_argument("--output_file", help="where the lines go; default: standard output")
    parser.add_argument("--base", help="the base of an adapter, if it was moved")
    parser.add_argument("--batch_size", type=int, default=16, help="conversations at a time")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"], help="of the weights")
    parser.add_argument("--trust_remote_code", action="store_true", help="run Python code that comes with the model")
    add_reading_flags(parser)
    args = parser.parse_args(argv)
    if not args.predict:
        raise UserError("--predict needs a file of pairs or conversations")
    if not args.model_name_or_path:
        raise UserError("--model_name_or_path is missing; give the output folder of ftkit reward")
    if args.output_file and Path(args.output_file).exists():
        raise UserError(f"{args.output_file}: exists; name a new file or remove it first")
    if args.output_file:
        check_file(args.output_file, "--output_file")
    if args.batch_size < 1:
        raise UserError(f"--batch_size is {args.batch_size}; give 1 or more")
    return args


def read_answers(args) -> list[dict]:
    """The rows of the file. Raises UserError with file and line for one without an answer."""
    from ftkit.data.reading.loading import load_rows
    from ftkit.data.reading.read_as import ReadAs
    from ftkit.data.reading.reader import missing_file_message
    from ftkit.data.rows.kinds import asking_kind

    if not Path(args.predict).is_file():
        raise UserError(missing_file_message(Path(args.predict)))
    rows = load_rows(args.predict, kind=asking_kind(), read_as=ReadAs.of(args.columns, args.encoding)).train
    for row in rows:
        if "messages" in row and row["messages"][-1]["role"] != "assistant":
            raise UserError(f"{row['source']}: does not end with the assistant's turn; add the answer")
    return rows


def conversations(row: dict) -> list[list[dict]]:
    """What is scored of a row: both answers of a pair, else its one answer."""
    from ftkit.data.rows.conversion import answered

    if "messages" in row:
        return [row["messages"]]
    names = ("chosen", "rejected") if "rejected" in row else ("completion",)
    return [answered(row["prompt"], row[name])["messages"] for name in names]


def named(row: dict, scores) -> dict[str, float]:
    """The next scores, by the name that a row has for them."""
    names = ("chosen_score", "rejected_score") if "rejected" in row else ("score",)
    return {name: next(scores) for name in names}


def report(args, scored: list[dict]) -> None:
    """Print to stderr what was done and how many pairs are in the right order."""
    from ftkit.metrics.intervals import wilson_interval

    print(f"{len(scored)} rows scored; written to {args.output_file or 'standard output'}", file=sys.stderr)
    right = [row["chosen_score"] > row["rejected_score"] for row in scored if "rejected_score" in row]
    if right:
        low, high = wilson_interval(sum(right), len(right))
        share = f"{sum(right) / len(right):.1%} ({low:.1%} to {high:.1%})"
        print(f"{sum(right)} of {len(right)} pairs are in the right order: {share}", file=sys.stderr)
