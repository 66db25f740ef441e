"""Writes rows in another format, by default in TRL's own columns.

ftkit data convert rows.json --to messages --output rows-messages.jsonl
"""

from pathlib import Path

from ftkit.commands.data.common import checked_pairs, find_split, row_parser
from ftkit.config.amounts import counted
from ftkit.config.errors import UserError, did_you_mean
from ftkit.data.reading.loading import log_notes
from ftkit.data.reading.problems import Problems
from ftkit.data.reading.writing import check_output, row_writer
from ftkit.data.rows.checking import RowChecker
from ftkit.data.rows.conversion import TARGETS, convert_row
from ftkit.data.rows.kinds import kind_of, select_kind


def main(argv: list[str]) -> None:
    """Convert one split, row by row; nothing is written if a row has a mistake or does not fit."""
    parser = row_parser("convert", "Write rows in another format.", __doc__)
    parser.add_argument("--to", help="format to write; TRL's own columns for this kind of rows if unset")
    parser.add_argument("--output", required=True, help=".jsonl, .json, .csv, .tsv or .parquet file to make")
    args = parser.parse_args(argv)
    output = Path(args.output).expanduser()
    check_output(output)
    split, problems = find_split(args), Problems()
    checker = RowChecker(split.label, select_kind(args.format), report=problems.add)
    target, num_read, num_written, num_untrained, num_unwanted = args.to, 0, 0, 0, 0
    with row_writer(output) as write:
        for _, row in checked_pairs(split, checker, problems.add):
            if not num_read:
                target = choose_target(checker.format, args.to, row["source"])
            num_read += 1
            try:
                converted = list(convert_row(row, target))
            except UserError as mistake:
                problems.add(UserError(f"{row['source']}: {mistake}"))
                continue
            for written in converted:
                write(written)
            num_written += len(converted)
            num_untrained += len(row.get("untrained", ()))
            num_unwanted += not converted
        problems.raise_any()
        log_notes(checker)
    written = f"{counted(num_written, 'row')}, {target}: {output}"
    print(f"{counted(num_read, 'row')}, {checker.format} -> {written}")
    for line in left_out(checker, target, num_untrained, num_unwanted):
        print(f"  {line}")


def left_out(checker: RowChecker, target: str, num_untrained: int, num_unwanted: int) -> list[str]:
    """What the file does not hold that the rows did, and what other trainers would not see in it."""
    lines = []
    if ignored := checker.columns.ignored_columns():
        lines.append(f"columns left out: {', '.join(ignored)}")
    if num_unwanted:
        lines.append(f"answers left out, as they are not wanted: {num_unwanted:,}")
    if num_untrained and target in ("messages", "sharegpt"):
        lines.append(f'answers with "weight": 0: {num_untrained:,}; ftkit sft does not train them, other trainers may')
    return lines


def choose_target(format: str, wanted: str | None, where: str) -> str:
    """The format to write; raise UserError where rows of `format` can't be written as `wanted`."""
    targets = TARGETS.get(format) or TARGETS[kind_of(format)]
    if wanted is None:
        return targets[0]
    if wanted not in targets:
        hint = did_you_mean(wanted, targets)
        raise UserError(f"{where}: {format} rows can't become {wanted}{hint}; --to is one of: {', '.join(targets)}")
    return wanted
