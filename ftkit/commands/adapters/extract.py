"""`ftkit adapters extract`: the difference of two models of one architecture as a LoRA, measured against the tuned one.

ftkit adapters extract runs/full base --rank 16 --output_dir runs/extracted
"""

import sys

from ftkit.config.errors import UserError
from ftkit.config.parser import CommandParser
from ftkit.config.paste import command
from ftkit.inference.certificate import (
    add_certificate_flags,
    certificate_lines,
    check_certificate_flags,
    check_new_folder,
)

SHOWN = 5  # tensors that LoRA can't hold


def extract(argv: list[str]) -> None:
    """Parse the command line, extract, print what was measured."""
    args = parse(argv)
    from ftkit.config.hardware import use_all_cores
    from ftkit.config.quiet import quiet_libraries
    from ftkit.inference.computed import Measuring, extracted

    quiet_libraries()
    use_all_cores()
    by = Measuring(None, args.data, args.num_rows, args.max_kl, args.trust_remote_code)
    record = extracted(args.tuned, args.base, args.rank, args.output_dir, by, save_whole=args.save_whole)
    print("\n".join(report_lines(record)))
    print(f"next: {command('chat', '--adapter', args.output_dir)}", file=sys.stderr)


def parse(argv: list[str]):
    """The settings of the command line."""
    parser = CommandParser(
        prog="ftkit adapters extract", examples=__doc__, description="Save the difference of two models as a LoRA."
    )
    parser.add_argument("tuned", help="folder or Hub id of the model that was trained")
    parser.add_argument("base", help="folder or Hub id of the model it was trained from")
    parser.add_argument("--output_dir", help="folder for the adapter")
    parser.add_argument("--rank", type=int, default=16, help="of the adapter")
    parser.add_argument(
        "--save_whole", action="store_true",
        help="save embeddings, norms and heads that differ as whole modules, too (modules_to_save)",
    )  # fmt: skip
    add_certificate_flags(parser, with_base=False)
    args = parser.parse_args(argv)
    check_certificate_flags(args)
    if args.rank < 1:
        raise UserError(f"--rank is {args.rank}; give 1 or more")
    check_new_folder(args.output_dir, "the adapter")
    return args


def report_lines(record: dict) -> list[str]:
    """The record as a person reads it."""
    tuned, base = record["made_of"]
    lines = [f"extracted {tuned} - {base} at rank {record['rank']}: {len(record['modules'])} linear layers differ, and"]
    lines.append(f"the rank holds {record['explained']:.2%} of the squared norm of their difference")
    not_held, largest = record["not_held"], sorted(record["not_held"], key=record["not_held"].get, reverse=True)
    shown = ", ".join(largest[:SHOWN]) + (", ..." if len(largest) > SHOWN else "")
    if record["saved_whole"]:
        lines.append(f"saved as whole modules, since LoRA can't hold them: {len(not_held)} tensors ({shown})")
    elif not_held:
        lines.append(f"NOT held, since LoRA adapts linear layers: {len(not_held)} tensors ({shown}); add --save_whole")
    return [
        *lines,
        f"on {record['num_rows']} {record['rows']} ({record['num_tokens']} answer tokens), against {tuned}:",
        *certificate_lines(record, "base and adapter are NOT the trained model; raise --rank"),
    ]
