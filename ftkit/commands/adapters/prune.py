"""`ftkit adapters prune`: a LoRA adapter at a smaller rank, measured against what it was.

ftkit adapters prune runs/a --rank 4 --output_dir runs/a4
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


def prune(argv: list[str]) -> None:
    """Parse the command line, prune, print what was measured."""
    args = parse(argv)
    from ftkit.config.hardware import use_all_cores
    from ftkit.config.quiet import quiet_libraries
    from ftkit.evaluation.verdict.text import column_lines
    from ftkit.inference.computed import Measuring, pruned_adapter

    quiet_libraries()
    use_all_cores()
    by = Measuring(args.model_name_or_path, args.data, args.num_rows, args.max_kl, args.trust_remote_code)
    record = pruned_adapter(args.adapter, args.rank, args.output_dir, by)
    print("\n".join([*report_lines(record), "", *column_lines(error_rows(record["modules"]))]))
    print(f"next: {command('chat', '--adapter', args.output_dir)}", file=sys.stderr)


def parse(argv: list[str]):
    """The settings of the command line."""
    parser = CommandParser(
        prog="ftkit adapters prune", examples=__doc__, description="Cut a LoRA adapter to a smaller rank by SVD."
    )
    parser.add_argument("adapter", help="output folder of a run with --use_peft, or a checkpoint in it")
    parser.add_argument("--rank", type=int, required=True, help="of the result")
    parser.add_argument("--output_dir", help="folder for the smaller adapter")
    add_certificate_flags(parser)
    args = parser.parse_args(argv)
    check_certificate_flags(args)
    if args.rank < 1:
        raise UserError(f"--rank is {args.rank}; give 1 or more")
    check_new_folder(args.output_dir, "the smaller adapter")
    return args


def report_lines(record: dict) -> list[str]:
    """The record as a person reads it."""
    lines = [
        f"pruned {record['made_of'][0]} to rank {record['rank']}, measured against {record['reference']}",
        f"on {record['num_rows']} {record['rows']} ({record['num_tokens']} answer tokens):",
        *certificate_lines(record, "the pruned adapter is NOT the trained one; raise --rank"),
    ]
    return lines if record["base_verified"] else [*lines, "base not verified: the adapter has no base.json"]


def error_rows(modules: dict[str, tuple[float, float]]) -> list[tuple[str, ...]]:
    """What was cut off each module's update, as a share of its norm; the largest first."""
    shares = {name: left / norm if norm else 0.0 for name, (norm, left) in modules.items()}
    rows = [(name, f"{modules[name][0]:.4g}", f"{shares[name]:.2%}") for name in sorted(shares, key=shares.get)[::-1]]
    return [("module", "norm of the update", "cut off"), *rows]
