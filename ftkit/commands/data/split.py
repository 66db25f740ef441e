"""Splits rows into a training and a test file without a leak: what belongs together stays on one side.

ftkit data split rows.jsonl --test_size 0.1 --output_dir rows-split

Rows with the same question stay together, or with --group those with the same value of a column. Which side a group
goes to depends on its hash alone, so the split stays as it is when rows are added.
"""

from pathlib import Path

from ftkit.commands.data.common import load_table, row_parser, share
from ftkit.commands.data.dedup import check_threshold
from ftkit.config.amounts import counted
from ftkit.config.errors import UserError
from ftkit.config.files import check_folder, staged_folder
from ftkit.config.paste import command
from ftkit.data.cleaning.near_duplicates import near_matches
from ftkit.data.cleaning.overlap import question_of
from ftkit.data.cleaning.splitting import column_groups, held_out_flags, question_groups
from ftkit.data.reading.writing import row_writer

LEAK = 0.8  # similarity from which a test question is called near a training question


def main(argv: list[str]) -> None:
    """Write OUT/train and OUT/test, and print how near the two are."""
    parser = row_parser("split", "Split rows into training and test rows, without a leak.", __doc__)
    parser.add_argument("--output_dir", required=True, help="folder to make, for the two files")
    parser.add_argument("--test_size", type=float, default=0.1, help="share of the groups that is held out")
    parser.add_argument("--group", help="column whose equal values stay together, such as a user or a document")
    parser.add_argument("--near", type=float, help="keep questions of this similarity together as well, such as 0.8")
    parser.add_argument("--seed", type=int, default=0, help="another split of the same rows")
    args = parser.parse_args(argv)
    if not 0 < args.test_size < 1:
        raise UserError(f"--test_size is {args.test_size}; give a share between 0 and 1, such as 0.1")
    if args.near is not None:
        check_threshold(args.near)
    if args.group and args.near:
        raise UserError("--near with --group: a group stays together by its column; drop one of them")
    output_dir = Path(args.output_dir).expanduser()
    if output_dir.is_dir() and any(output_dir.iterdir()):
        raise UserError(f"{output_dir}: the folder is in use; choose another")
    check_folder(output_dir)
    table = load_table(args.data, args, args.split, args.format)
    if args.group:
        groups = column_groups([record.values for record in table.records], args.group, table.label)
    else:
        groups = question_groups(table.rows, args.near)
    flags = held_out_flags(groups, args.test_size, args.seed)
    with staged_folder(output_dir) as staging:
        for name, side in (("train", False), ("test", True)):
            with row_writer(staging / f"{name}.jsonl") as write:
                for record, flag in zip(table.records, flags, strict=True):
                    if flag is side:
                        write(record.values)
    num_test = sum(flags)
    in_all = f"{counted(len(flags), 'row')} in {counted(len(set(groups)), 'group')}"
    print(f"{in_all}: {len(flags) - num_test:,} train, {num_test:,} test")
    print_leaks(table.rows, flags)
    print(f"written: {output_dir}; next: {command('sft', '--model', 'M', '--dataset_name', output_dir, '...')}")


def print_leaks(rows: list[dict], flags: list[bool]) -> None:
    """Say how many test questions are near a training question, though never in the same group."""
    train, test = (
        [question_of(row) for row, flag in zip(rows, flags, strict=True) if flag is side] for side in (False, True)
    )
    near = near_matches(test, train, LEAK)
    if near:
        print(
            f"{share(len(near), len(test))} test questions are near a training question (similarity from {LEAK}); "
            f"--near {LEAK} keeps them together"
        )
    else:
        print(f"no test question is near a training question (similarity from {LEAK})")
