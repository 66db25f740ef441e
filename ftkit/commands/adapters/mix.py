"""`ftkit adapters merge --models A,B`: whole models of one architecture mixed into one, tensor by tensor.

ftkit adapters merge --models runs/a,runs/b --weights 0.5 0.5 --output_dir mixed
ftkit adapters merge --models runs/a,runs/b --method ties --model_name_or_path base --output_dir mixed
"""

import math
import sys
from pathlib import Path

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

METHODS = ("linear", "slerp", "ties")


def mix(argv: list[str]) -> None:
    """Parse the command line, mix, print what was measured."""
    args = parse(argv)
    from ftkit.config.hardware import use_all_cores
    from ftkit.config.quiet import quiet_libraries
    from ftkit.inference.computed import Measuring, mixed

    quiet_libraries()
    use_all_cores()
    by = Measuring(args.model_name_or_path, args.data, args.num_rows, args.max_kl, args.trust_remote_code)
    models = {name: name for name in args.models}
    record = mixed(models, args.method, tuple(args.weights), args.density, args.output_dir, by)
    print("\n".join(report_lines(record)))
    print(f"next: {command('chat', '--model', args.output_dir)}", file=sys.stderr)


def parse(argv: list[str]):
    """The settings of the command line."""
    parser = CommandParser(
        prog="ftkit adapters merge", examples=__doc__, description="Mix whole models of one architecture into one."
    )
    parser.add_argument("--models", required=True, metavar="A,B", help="folders or Hub ids, separated by commas")
    parser.add_argument("--output_dir", help="folder for the mixed model")
    parser.add_argument("--method", default="linear", choices=METHODS, metavar="NAME", help="linear, slerp or ties")
    parser.add_argument(
        "--weights", nargs="+", type=float, metavar="X",
        help="of each model; default: equal ones with sum 1, with ties 1 each; slerp takes the share of the second",
    )  # fmt: skip
    parser.add_argument("--density", type=float, help="share of each difference from the base that ties keeps (0.2)")
    add_certificate_flags(parser)
    args = parser.parse_args(argv)
    check_certificate_flags(args)
    args.models = [name.strip() for name in args.models.split(",")]
    check_method(args)
    check_new_folder(args.output_dir, "the mixed model")
    return args


def check_method(args) -> None:
    """Raise UserError for models and settings that contradict each other; fill in what was left out."""
    count = len(args.models)
    if count < 2 or len(set(args.models)) < count or not all(args.models):
        raise UserError("--models: give two or more, each once, separated by commas: --models A,B")
    for name in args.models:
        if (Path(name) / "adapter_config.json").is_file():
            raise UserError(f"--models {name}: is an adapter; ftkit adapters combine takes those")
    if args.method == "slerp" and count > 2:
        raise UserError(f"--method slerp goes from one model to another, not through {count}; take linear")
    if (args.method == "ties") != bool(args.model_name_or_path):
        hint = (
            "takes differences from a base: add --model_name_or_path BASE" if args.method == "ties" else "has no base"
        )
        raise UserError(f"--method {args.method} {hint}")
    if args.density is not None and args.method != "ties":
        raise UserError(f"--density has no effect on --method {args.method}; drop it")
    args.density = 0.2 if args.density is None else args.density  # the paper's
    if not 0 < args.density <= 1:
        raise UserError(f"--density is {args.density:g}; give a share above 0 and at most 1")
    if args.weights is None:
        args.weights = [1.0 if args.method == "ties" else 1 / count] * count
    if len(args.weights) != count:
        raise UserError(f"--weights has {len(args.weights)} numbers for {count} models; give one for each")
    is_share = args.method != "slerp" or (min(args.weights) >= 0 and sum(args.weights) > 0)
    if not all(map(math.isfinite, args.weights)) or not any(args.weights) or not is_share:
        shown = " ".join(map("{:g}".format, args.weights))
        raise UserError(f"--weights {shown}; give finite numbers, not all 0, and none below 0 for slerp")


def report_lines(record: dict) -> list[str]:
    """The record as a person reads it."""
    weighted = ", ".join(f"{x:g} x {name}" for x, name in zip(record["weights"], record["made_of"], strict=True))
    return [
        f"mixed {weighted} by {record['method']}, measured against {record['reference']}",
        f"on {record['num_rows']} {record['rows']} ({record['num_tokens']} answer tokens):",
        *certificate_lines(record, "the mixed model is NOT what the formula gives; report it"),
        "from each parent:",
        *(distance_line(found["name"], found) for found in record["from"]),
    ]
