"""Checks every row of a file, a folder, a bundled dataset or a Hub dataset, and lists all mistakes.

ftkit data check rows.jsonl --template alpaca --model M

Rows are read as they come, so that memory does not grow with the file. With --model they are rendered and tokenized
as their trainer does it, and what it would refuse is a mistake: rows that pass are rows that it trains on.
"""

from itertools import islice

from ftkit.commands.data.common import checked_pairs, data_words, find, row_parser
from ftkit.config.amounts import counted
from ftkit.config.errors import UserError
from ftkit.config.paste import quoted
from ftkit.data.reading.problems import Problems
from ftkit.data.rows.allowed import UNTRAINED_ROWS, Allowed
from ftkit.data.rows.checking import RowChecker
from ftkit.data.rows.kinds import kind_of, select_kind
from ftkit.runs.row_check import RowCheck

ALLOWING = ("allow_untrained_end_of_turn", "allow_empty_mask")
ROWS_AT_ONCE = 1000  # that are tokenized together


def main(argv: list[str]) -> None:
    """Check all splits and print what they hold; raise UserError that lists every mistake."""
    args = parse(argv)
    kind = select_kind(args.format)
    _, splits = find(args.data, args)
    problems, lines, format, check = Problems(), [], "auto", None
    for name in sorted(splits, key=lambda name: name != "train"):
        checker = RowChecker(splits[name].label, kind, format, problems.add)
        rows, num_rows = (row for _, row in checked_pairs(splits[name], checker, problems.add)), 0
        while batch := list(islice(rows, ROWS_AT_ONCE)):
            check = check or trainer_check(kind_of(checker.format), args, problems)
            check.add(name, batch)
            num_rows += len(batch)
        checker.finish()
        format = checker.format or format
        if num_rows:
            lines += [*split_lines(splits[name].label, checker, num_rows), *check.lines(name)]
    if check and not problems.count:
        check.finish()
    problems.raise_any()
    print("\n".join(lines))
    if check.refusal:
        print(f"ftkit sft would refuse them: {check.refusal}")
    if check.trainers:
        named = " ".join(map(quoted, [*data_words(args), "--model", args.model or "M"]))
        print(f"no mistakes; next: {' or '.join(f'ftkit {name}' for name in check.trainers)} {named} ...")
    else:
        print("no mistakes; no trainer takes rows of this kind yet, so tokens were not checked")


def parse(argv: list[str]):
    """The settings of the command; those of a trainer have its names and defaults."""
    parser = row_parser(
        "check",
        "Check rows before anything is trained; mistakes are listed, with exit code 2.",
        __doc__,
        one_split=False,
    )
    parser.add_argument("--model", help="Hub id, folder or .gguf file: the rows go through its tokenizer as well")
    parser.add_argument("--template", default="auto", help="with --model: prompt template, as in ftkit sft")
    parser.add_argument("--max_length", type=int, help="with --model: tokens that a row is cut to, as in the trainer")
    parser.add_argument("--untrained_rows", choices=UNTRAINED_ROWS, default="refuse", help="as in the trainer")
    parser.add_argument("--max_truncated_share", type=float, default=0.01, help="as in the trainer")
    for name in ALLOWING:
        parser.add_argument(f"--{name}", action="store_true", help="as in the trainer")
    args = parser.parse_args(argv)
    needing = ("template", "max_length", "untrained_rows", "max_truncated_share", *ALLOWING)
    for name in needing if not args.model else ():
        if getattr(args, name) != parser.get_default(name):
            raise UserError(f"--{name} needs --model: rows are rendered and cut for a tokenizer; add --model M")
    return args


def trainer_check(kind: str, args, problems: Problems) -> RowCheck:
    """What the trainer of a kind of rows would say."""
    return RowCheck(
        kind, problems.add, model=args.model, template=args.template, max_length=args.max_length,
        untrained_rows=args.untrained_rows,
        allowed=Allowed(args.max_truncated_share, args.allow_untrained_end_of_turn, args.allow_empty_mask),
    )  # fmt: skip


def split_lines(label: str, checker: RowChecker, num_rows: int) -> list[str]:
    """What to print about a split, tokens aside."""
    required, _ = checker.kind.formats[checker.format]
    found = [f"{label}: {counted(num_rows, 'row')}, {checker.format} ({', '.join(required)})"]
    ignored = checker.columns.ignored_columns()
    if ignored:
        found.append(f"  columns not used: {', '.join(ignored)}")
    return found + [f"  {note}" for note in checker.notes()]
