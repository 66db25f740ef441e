"""`ftkit adapters diff`: how two adapters or two models differ, in their weights and in what they answer.

ftkit adapters diff runs/a runs/b
ftkit adapters diff runs/a merged --data questions.jsonl
"""

from pathlib import Path

from ftkit.config.errors import UserError
from ftkit.config.parser import CommandParser
from ftkit.inference.certificate import add_certificate_flags, certificate_lines, check_certificate_flags

CONFIG_FILE = "adapter_config.json"
KINDS_SHOWN = 14


def diff(argv: list[str]) -> None:
    """Parse the command line, compare, print."""
    args = parse(argv)
    from ftkit.config.hardware import use_all_cores
    from ftkit.config.quiet import quiet_libraries
    from ftkit.evaluation.verdict.text import column_lines
    from ftkit.inference.computed import Measuring
    from ftkit.inference.difference import compared
    from ftkit.inference.side_by_side import side_by_side

    quiet_libraries()
    use_all_cores()
    print(f"A: {args.first}\nB: {args.second}")
    if table := weights_table(args.first, args.second):
        print("\n".join(["", *column_lines(table[: KINDS_SHOWN + 1]), ""]))
    by = Measuring(args.model_name_or_path, args.data, args.num_rows, args.max_kl, args.trust_remote_code)
    record, talks = compared(args.first, args.second, by, args.num_answers)
    print("\n".join(report_lines(record)))
    for question, answers in talks:
        print(f"\n> {question}\n{side_by_side(answers)}")


def parse(argv: list[str]):
    """The settings of the command line."""
    parser = CommandParser(
        prog="ftkit adapters diff", examples=__doc__, description="Compare two adapters, two models, or one of each."
    )
    parser.add_argument("first", help="A: an adapter's folder, or a model")
    parser.add_argument("second", help="B: the same")
    parser.add_argument("--num_answers", type=int, default=3, help="questions that both answer, side by side")
    add_certificate_flags(parser)
    args = parser.parse_args(argv)
    check_certificate_flags(args)
    if args.num_answers < 0:
        raise UserError(f"--num_answers is {args.num_answers}; give 0 or more")
    return args


def weights_table(first: str, second: str) -> list[tuple[str, ...]]:
    """Figures of the weights by kind of module; none for an adapter and a model."""
    from ftkit.model.adapters.comparing import adapter_table, model_table

    kinds = {(Path(name) / CONFIG_FILE).is_file() for name in (first, second)}
    if len(kinds) > 1:
        return []
    return (adapter_table if kinds.pop() else model_table)(first, second)


def report_lines(record: dict) -> list[str]:
    """The record as a person reads it."""
    lines = [
        f"B against A ({record['reference']}) on {record['num_rows']} {record['rows']} "
        f"({record['num_tokens']} answer tokens):",
        *certificate_lines(record, "B is NOT A"),
    ]
    if not record["same_template"]:
        lines.append("  their chat templates differ; the rows are read by A's")
    return lines
