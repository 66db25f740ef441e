"""`ftkit adapters combine`: several LoRA adapters of one base as one, measured against what it should equal.

ftkit adapters combine runs/a runs/b --weights 0.7 0.3 --output_dir runs/both
ftkit adapters combine runs/a runs/b --method ties_svd --density 0.3 --rank 16 --output_dir runs/both
"""

import math
import sys

from ftkit.config.errors import UserError
from ftkit.config.parser import CommandParser
from ftkit.config.paste import command
from ftkit.inference.certificate import (
    add_certificate_flags,
    certificate_lines,
    check_certificate_flags,
    check_new_folder,
    distance_line,
)

METHODS = (
    "cat", "svd", "linear", "ties", "ties_svd", "dare_linear", "dare_linear_svd", "dare_ties", "dare_ties_svd",
    "magnitude_prune", "magnitude_prune_svd",
)  # fmt: skip
SUMS = ("linear", "cat", "svd", "dare_linear", "dare_linear_svd", "magnitude_prune", "magnitude_prune_svd")


def combine(argv: list[str]) -> None:
    """Parse the command line, combine, print what was measured."""
    args = parse(argv)
    from ftkit.config.hardware import use_all_cores
    from ftkit.config.quiet import quiet_libraries
    from ftkit.inference.computed import Measuring, combined
    from ftkit.model.adapters.combining import Combination

    quiet_libraries()
    use_all_cores()
    how = Combination(args.method, tuple(args.weights), args.rank, args.density, args.seed)
    by = Measuring(args.model_name_or_path, args.data, args.num_rows, args.max_kl, args.trust_remote_code)
    record = combined(args.adapters, how, args.output_dir, by)
    print("\n".join(report_lines(record)))
    print(f"next: {command('chat', '--adapter', args.output_dir)}", file=sys.stderr)


def parse(argv: list[str]):
    """The settings of the command line, checked as far as they can be without the adapters."""
    parser = CommandParser(
        prog="ftkit adapters combine", examples=__doc__, description="Combine LoRA adapters of one base into one."
    )
    parser.add_argument("adapters", nargs="+", help="output folders of runs with --use_peft, two or more")
    parser.add_argument("--output_dir", help="folder for the combined adapter")
    parser.add_argument(
        "--method", default="cat", choices=METHODS, metavar="NAME",
        help=f"one of {', '.join(METHODS)}; cat is exact and adds up the ranks, svd cuts them to --rank",
    )  # fmt: skip
    parser.add_argument(
        "--weights", nargs="+", type=float, metavar="X",
        help="of each adapter; default: equal ones with sum 1, with ties and dare_ties 1 each",
    )  # fmt: skip
    parser.add_argument("--rank", type=int, help="of the result of svd methods; default: the largest of the adapters")
    parser.add_argument("--density", type=float, help="share of values that ties, dare and magnitude_prune keep (0.5)")
    parser.add_argument("--seed", type=int, default=0, help="of what dare drops")
    add_certificate_flags(parser)
    args = parser.parse_args(argv)
    check_certificate_flags(args)
    check_method(args)
    check_new_folder(args.output_dir, "the combined adapter")
    return args


def check_method(args) -> None:
    """Raise UserError for adapters and settings that contradict each other; fill in what was left out."""
    count = len(args.adapters)
    if count < 2 or len(set(args.adapters)) < count:
        raise UserError("give two adapters or more, each once: ftkit adapters combine runs/a runs/b ...")
    if args.weights is None:
        args.weights = [1 / count if args.method in SUMS else 1.0] * count
    if len(args.weights) != count:
        raise UserError(f"--weights has {len(args.weights)} numbers for {count} adapters; give one for each")
    if not all(map(math.isfinite, args.weights)) or not any(args.weights):
        raise UserError(f"--weights {' '.join(map('{:g}'.format, args.weights))}; give finite numbers, not all 0")
    if args.rank is not None and not args.method.endswith("svd"):
        raise UserError(f"--rank has no effect on --method {args.method}; take svd, or drop it")
    if args.rank is not None and args.rank < 1:
        raise UserError(f"--rank is {args.rank}; give 1 or more")
    drops = args.method.startswith(("ties", "dare", "magnitude"))
    if args.density is not None and not drops:
        raise UserError(f"--density has no effect on --method {args.method}; drop it")
    args.density = 0.5 if args.density is None else args.density
    if not 0 < args.density <= 1:
        raise UserError(f"--density is {args.density:g}; give a share above 0 and at most 1")


def report_lines(record: dict) -> list[str]:
    """The record as a person reads it."""
    weighted = ", ".join(f"{x:g} x {name}" for x, name in zip(record["weights"], record["made_of"], strict=True))
    fix = "take --method cat or svd" if record["method"] == "linear" else "raise --rank"
    lines = [
        f"combined {weighted} by {record['method']}, measured against {record['reference']}",
        f"on {record['num_rows']} {record['rows']} ({record['num_tokens']} answer tokens):",
        *certificate_lines(record, f"the combined adapter is NOT {record['reference']}; {fix}"),
        "from each parent:",
        *(distance_line(found["name"], found) for found in record["from"]),
    ]
    if not record["base_verified"]:
        lines.append("base not verified: an adapter has no base.json, so the result has none")
    return lines
