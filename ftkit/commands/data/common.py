"""What the actions of `ftkit data` share: their source of rows, and rows with the records they come from."""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass

from ftkit.config.parser import CommandParser
from ftkit.data.reading.loading import Split, find_splits, log_notes, split_named
from ftkit.data.reading.problems import Problems, Report
from ftkit.data.reading.progress import reading_bar
from ftkit.data.reading.read_as import ReadAs, add_reading_flags, add_turns_flag
from ftkit.data.reading.records import Record
from ftkit.data.rows.checking import RowChecker
from ftkit.data.rows.kinds import format_options, select_kind


@dataclass
class Table:
    """All rows of one split. records[i] is what rows[i] was made from. format: by its shown name."""

    label: str
    records: list[Record]
    rows: list[dict]
    format: str


def row_parser(action: str, description: str, examples: str | None, *, one_split: bool = True) -> CommandParser:
    """A parser that takes the rows and their format.

    examples: the text of the action's module. one_split: whether the action reads one split only.
    """
    parser = CommandParser(prog=f"ftkit data {action}", description=description, examples=examples)
    parser.add_argument("data", help="file, folder, bundled dataset or Hub id")
    parser.add_argument("--format", default="auto", help=f"row format: {', '.join(format_options())}")
    parser.add_argument("--dataset_config", help="configuration of a Hub dataset")
    add_reading_flags(parser)
    add_turns_flag(parser)
    if one_split:
        parser.add_argument("--split", default="train", help="which split of a folder or dataset")
    return parser


def find(name: str, args, join_turns: bool | None = None) -> tuple[str, dict[str, Split]]:
    """What a name resolved to, and its splits; a Hub dataset is read as it comes. join_turns: None for --join_turns."""
    join_turns = args.join_turns if join_turns is None else join_turns
    read_as = ReadAs.of(args.columns, args.encoding, join_turns)
    return find_splits(name, args.dataset_config, streaming=True, read_as=read_as)


def find_split(args, join_turns: bool | None = None) -> Split:
    """The split that --split names. Raises UserError where there is none of that name."""
    source, splits = find(args.data, args, join_turns)
    return split_named(args.split, splits, source)


def checked_pairs(split: Split, checker: RowChecker, report: Report) -> Iterator[tuple[Record, dict]]:
    """The good rows of a split, each with its record, with a progress bar."""
    with reading_bar(split.paths) if split.paths else nullcontext() as progress:
        yield from checker.pairs(split.open(report, progress))


def load_table(name: str, args, split: str, format: str) -> Table:
    """All rows of a split. format: as `--format` takes it.

    Raises UserError that lists every mistake in them, and for a split that is not there.
    """
    source, splits = find(name, args)
    found, problems = split_named(split, splits, source), Problems()
    checker = RowChecker(found.label, select_kind(format), report=problems.add)
    pairs = list(checked_pairs(found, checker, problems.add))
    problems.raise_any()
    log_notes(checker)
    records, rows = zip(*pairs, strict=True)
    return Table(found.label, list(records), list(rows), checker.format)


def load_text_side(model: str, template: str | None) -> tuple:
    """Tokenizer of a model, and the template on it; None in its place where no template is asked for."""
    from ftkit.config.quiet import quiet_libraries
    from ftkit.data.templates.templates import install_template
    from ftkit.model.loading import load_tokenizer

    quiet_libraries()
    tokenizer = load_tokenizer(model)
    return tokenizer, install_template(tokenizer, template) if template else None


def data_words(args) -> list[str]:
    """The rows, and how they are read, as a trainer's command line names them."""
    flags = [(f"--{name}", getattr(args, name)) for name in ("columns", "encoding")]
    return ["--dataset_name", args.data, *(word for flag in flags if flag[1] is not None for word in flag)]


def share(count: int, total: int) -> str:
    """A count with its share of a total."""
    return f"{count:,} ({count / total:.1%})"
