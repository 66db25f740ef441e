"""Leaves out rows that are there already, exactly or nearly; the first of each is kept, as it was.

ftkit data dedup rows.jsonl --output rows-once.jsonl
"""

from pathlib import Path

from ftkit.commands.data.common import load_table, row_parser, share
from ftkit.config.amounts import counted
from ftkit.config.errors import UserError
from ftkit.data.cleaning.near_duplicates import Match, repeated_texts
from ftkit.data.cleaning.overlap import question_of, row_key, text_of
from ftkit.data.reading.writing import check_output, row_writer

NUM_SHOWN = 5  # near duplicates that are printed


def main(argv: list[str]) -> None:
    """Write the rows that are kept, and print how many were left out and which the nearest were."""
    parser = row_parser("dedup", "Leave out rows that are there already, exactly or nearly.", __doc__)
    parser.add_argument("--output", required=True, help=".jsonl, .json, .csv, .tsv or .parquet file to make")
    parser.add_argument("--by", choices=("row", "question"), default="row", help="what must be new in a row")
    parser.add_argument(
        "--near", type=float, default=0.9, help="similarity from which rows are the same; 1: only exact"
    )
    args = parser.parse_args(argv)
    check_threshold(args.near)
    output = Path(args.output).expanduser()
    check_output(output)
    table = load_table(args.data, args, args.split, args.format)
    exact = exact_repeats(table.rows, args.by)
    left = [number for number in range(len(table.rows)) if number not in exact]
    texts = [
        question_of(table.rows[number]) if args.by == "question" else text_of(table.rows[number]) for number in left
    ]
    near = repeated_texts(texts, args.near) if args.near < 1 else []
    dropped = exact | {left[match.index] for match in near}
    with row_writer(output) as write:
        for number, record in enumerate(table.records):
            if number not in dropped:
                write(record.values)
    total = len(table.rows)
    near_share = f"near ones (similarity from {args.near}) {share(len(near), total)}"
    print(f"{counted(total, 'row')}; exact copies {share(len(exact), total)}; {near_share}")
    for match in sorted(near, key=lambda match: match.similarity)[:NUM_SHOWN]:
        print(near_line(match, [table.rows[number] for number in left]))
    print(f"kept {counted(total - len(dropped), 'row')}: {output}")


def check_threshold(threshold: float) -> None:
    """Raise UserError for a similarity that is none."""
    if not 0.1 <= threshold <= 1:
        raise UserError(f"--near is {threshold}; give a similarity from 0.1 (loose) to 1 (the same)")


def exact_repeats(rows: list[dict], by: str) -> set[int]:
    """Numbers of the rows that are the same as one before them, but for white space."""
    seen, repeats = set(), set()
    for number, row in enumerate(rows):
        key = row_key({"question": question_of(row)}) if by == "question" else row_key(row)
        if key in seen:
            repeats.add(number)
        seen.add(key)
    return repeats


def near_line(match: Match, rows: list[dict]) -> str:
    """One near duplicate, as a person checks it."""
    first, second = rows[match.other], rows[match.index]
    shown = [f"{row['source'].rpartition(':')[2]}: {text_of(row)[:80]!r}" for row in (first, second)]
    return f"  {match.similarity:.2f}  line {shown[0]}\n        line {shown[1]}"
