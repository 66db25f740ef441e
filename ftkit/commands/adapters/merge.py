"""`ftkit adapters merge`: merges an adapter and measures, on held-out rows, how far the merged folder moved from it.

ftkit adapters merge runs/first --output_dir merged --dtype bfloat16
ftkit adapters merge --models runs/a,runs/b --output_dir mixed
"""

import sys

from ftkit.config.errors import UserError, did_you_mean
from ftkit.config.parser import CommandParser
from ftkit.config.paste import command
from ftkit.inference.certificate import certificate_lines, check_new_folder


def merge(argv: list[str]) -> None:
    """Parse the command line, merge, print what was measured."""
    args = parse(argv)
    from ftkit.config.hardware import use_all_cores
    from ftkit.config.quiet import quiet_libraries
    from ftkit.inference.merged import MergeSettings, merge_and_measure

    quiet_libraries()
    use_all_cores()
    record = merge_and_measure(MergeSettings(**vars(args)))
    is_classifier = "label_agreement" in record
    print("\n".join(classifier_lines(record) if is_classifier else report_lines(record)))
    use = ("classify", "--predict", "FILE") if is_classifier else ("chat",)
    print(f"next: {command(*use, '--model', args.output_dir)}", file=sys.stderr)


def parse(argv: list[str]):
    """The settings of the command line, checked as far as they can be without the model."""
    parser = CommandParser(
        prog="ftkit adapters merge", examples=__doc__, description="Merge an adapter into its base, and measure it."
    )
    parser.add_argument("adapter", help="output folder of a run with --use_peft, or a checkpoint in it")
    parser.add_argument("--models", metavar="A,B", help="mix whole models instead; see merge --models A,B --help")
    parser.add_argument("--output_dir", help="folder for the merged model")
    parser.add_argument("--model_name_or_path", help="its base, if moved")
    parser.add_argument("--dtype", default="bfloat16", help="of the merged weights: bfloat16, float32 or float16")
    parser.add_argument(
        "--original_weights",
        action="store_true",
        help="merge a QLoRA adapter into the base's own weights, not into the dequantised ones it was trained on",
    )
    parser.add_argument(
        "--dataset_name", help="rows to measure on; default: held-out rows of the run, else bundled ones"
    )
    parser.add_argument("--file", "--data", help="the same, from a file: every row counts")
    parser.add_argument("--num_rows", type=int, default=64, help="rows to measure on, the first ones")
    parser.add_argument("--trust_remote_code", action="store_true", help="run Python code that comes with the base")
    args = parser.parse_args(argv)
    allowed = ("bfloat16", "float32", "float16")
    if args.dtype not in allowed:
        hint = did_you_mean(args.dtype, allowed) or "; merging into 4 or 8 bits loses what was trained"
        raise UserError(f"--dtype {args.dtype}; allowed are {', '.join(allowed)}{hint}")
    check_new_folder(args.output_dir, "the merged model")
    if args.num_rows < 1:
        raise UserError(f"--num_rows is {args.num_rows}; give 1 or more")
    if args.dataset_name and args.file:
        raise UserError("--dataset_name and --file both name rows; drop one")
    del args.models  # another parser's
    return args


def report_lines(record: dict) -> list[str]:
    """The record as a person reads it."""
    return [
        f"merged {record['adapter']} in {record['dtype']}, measured against {record['reference']}",
        f"on {record['num_rows']} {record['rows']} ({record['num_tokens']} answer tokens):",
        *certificate_lines(
            record, "the merged model is NOT the trained one; use the adapter unmerged, or --dtype float32"
        ),
    ]


def classifier_lines(record: dict) -> list[str]:
    """The record of a classifier as a person reads it."""
    return [
        f"merged {record['adapter']} in {record['dtype']}, measured on {record['num_rows']} {record['rows']}:",
        f"  probabilities  differ by {record['max_probability_difference']:.2e} at most",
        f"  labels         {record['label_agreement']:.2%} are the same",
    ]
