"""Writes rows with what can be fixed without guessing, and lists the rest as `file:line: reason; fix`.

ftkit data fix rows.csv --output rows.jsonl
ftkit data fix rows.csv --encoding cp1252 --columns instruction=Question,output=Answer --output rows.jsonl

Fixed are encoding, separators, empty rows and columns, other names of columns, JSON that is spread over lines, numbers
that stand for text, roles in capitals. Exit code 2 where a row is left to you; it is not written.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

from ftkit.commands.data.common import find_split, row_parser
from ftkit.config.amounts import counted
from ftkit.config.paste import command
from ftkit.data.reading.joined_turns import COLUMNS, joined
from ftkit.data.reading.json_reader import is_spread_over_lines, read_json_rows
from ftkit.data.reading.loading import Split
from ftkit.data.reading.problems import Problems
from ftkit.data.reading.read_as import ReadAs
from ftkit.data.reading.records import Record
from ftkit.data.reading.separators import find_dialect
from ftkit.data.reading.text_file import encoding_of_file
from ftkit.data.reading.writing import check_output, row_writer
from ftkit.data.rows.checking import RowChecker
from ftkit.data.rows.formats import SHAREGPT_ROLES
from ftkit.data.rows.kinds import select_kind

TEXTS = ("instruction", "input", "output", "system", "prompt", "completion", "chosen", "rejected", "text", "question")
LEFT = "left to you, and not written"


def main(argv: list[str]) -> None:
    """Write the good rows of one split and print what was fixed; raise UserError that lists the other rows."""
    parser = row_parser("fix", "Write rows with what can be fixed without guessing, and list the rest.", __doc__)
    parser.add_argument("--output", required=True, help=".jsonl, .json, .csv, .tsv or .parquet file to make")
    args = parser.parse_args(argv)
    output = Path(args.output).expanduser()
    check_output(output)
    found = find_split(args, join_turns=False)  # joined here, and counted
    problems, fixed, num_rows = Problems(), Counter(), 0
    split = whole_records(found, ReadAs.of(args.columns, args.encoding))
    checker = RowChecker(split.label, select_kind(args.format), report=problems.add)
    with row_writer(output) as write:
        records = fixed_records(split.open(problems.add), checker, fixed, args.join_turns)
        for record, _ in checker.pairs(records):
            write(record.values)
            num_rows += 1
        if not num_rows:
            problems.raise_any()
    lines = [*file_fixes(found, args.encoding), *checker.reading_notes()]
    lines += [what.format(f"{count:,}") for what, count in fixed.items() if count]
    print("\n".join([f"{split.label}: {counted(num_rows, 'row')}", *(f"  {line}" for line in lines)]))
    print(f"written: {output}")
    if problems.count:
        print(f"{problems.count:,} {'row is' if problems.count == 1 else 'rows are'} {LEFT}:")
    problems.raise_any()
    print(f"next: {command('data', 'check', output)}")


def whole_records(split: Split, read_as: ReadAs) -> Split:
    """The split; a .jsonl file whose records are spread over lines is read as .json is."""
    (path, *others) = split.paths or (None,)
    if others or path is None or path.suffix.lower() != ".jsonl" or not is_spread_over_lines(path, read_as):
        return split
    return split._replace(open=partial(named_rows, path, read_as))


def named_rows(path: Path, read_as: ReadAs, report, progress=None) -> Iterator[Record]:
    """The records of a file that is read as .json, with the names of --columns."""
    for record in read_json_rows(path, report, progress, read_as):
        yield read_as.renamed(record, f"{path}:{record.line}")


def fixed_records(
    records: Iterable[Record], checker: RowChecker, fixed: Counter, join_turns: bool = False
) -> Iterator[Record]:
    """The records with numbers written as text and roles in small letters. fixed: counts what was done.

    join_turns: turns of the user that follow each other become one, with an empty line between them.
    """
    for record in records:
        if record.is_blank:
            yield record
            continue
        record = checker.renamed(record)
        values = {name: fixed_value(name, value, fixed) for name, value in record.values.items()}
        if join_turns:
            for name in COLUMNS & values.keys():
                values[name], num_joined = joined(values[name])
                fixed["{} turns of the user joined to the one before"] += num_joined
        yield record._replace(values=values)


def fixed_value(name: str, value, fixed: Counter):
    """A column's value, as it is where it holds nothing to fix."""
    if name in TEXTS and isinstance(value, int) and not isinstance(value, bool):
        fixed["{} numbers written as text"] += 1
        return str(value)
    if name in COLUMNS and isinstance(value, list):
        return [fixed_turn(turn, fixed) for turn in value]
    return value


def fixed_turn(turn, fixed: Counter):
    """A turn whose role is one that is known, but for capitals and spaces; another as it is."""
    for key in ("role", "from") if isinstance(turn, dict) else ():
        role = turn.get(key)
        known = role.strip().lower() if isinstance(role, str) else None
        if known in SHAREGPT_ROLES and known != role:
            fixed["{} roles written in small letters"] += 1
            turn = {**turn, key: known}
    return turn


def file_fixes(split: Split, encoding: str | None) -> list[str]:
    """What of the split's files is written differently: encoding, separator, layout."""
    lines = []
    for path in split.paths:
        suffix = path.suffix.lower()
        if suffix in (".xlsx", ".parquet"):
            continue
        name = encoding_of_file(path, encoding)
        lines += [f"{name} written as UTF-8"] if name not in ("utf-8", "utf-8-sig") else []
        lines += ["byte-order mark left out"] if path.read_bytes()[:3] == b"\xef\xbb\xbf" else []
        separator = find_dialect(path, encoding).separator if suffix in (".csv", ".tsv") else None
        if separator not in (None, "tab" if suffix == ".tsv" else "comma"):
            lines.append(f"separated by {separator}s")
        if suffix == ".jsonl" and is_spread_over_lines(path, ReadAs(encoding=encoding)):
            lines.append("records that were spread over lines, each on its own")
    return list(dict.fromkeys(lines))
