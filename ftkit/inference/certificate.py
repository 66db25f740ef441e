"""A certificate: how far what was made is from what it should equal, on rows; its flags, its limits and its words.

print("\n".join(certificate_lines(record, "runs/combined")))
"""

from pathlib import Path

from ftkit.config.errors import UserError
from ftkit.config.files import check_folder
from ftkit.config.parser import CommandParser

KL_RESOLUTION = 1e-6  # nats; sums over a vocabulary in float32 are rounded to about this
LEAST_AGREEMENT = 0.9  # of likeliest tokens; arithmetic in bfloat16 alone left 94 % the same on SmolLM2-135M
# Largest mean KL, nats per token, that rounding weights once to the type explains; SmolLM2-135M: 4e-5 in bfloat16.
LARGEST_MEAN_KL = {"float32": 1e-5, "float16": 1e-3, "bfloat16": 1e-2}
LIMIT = LARGEST_MEAN_KL["bfloat16"]  # of what is an approximation by design


def add_certificate_flags(parser: CommandParser, *, with_base: bool = True) -> None:
    """The flags of every action that measures on rows. with_base: whether a base may have moved."""
    if with_base:
        parser.add_argument("--model_name_or_path", help="the base, if moved")
    parser.add_argument(
        "--data", help="rows to measure on: a file or a dataset; default: held-out rows of the run, else bundled ones"
    )
    parser.add_argument("--num_rows", type=int, default=64, help="rows to measure on, the first ones")
    parser.add_argument("--max_kl", type=float, default=LIMIT, help="mean KL, nats per token, that still is the same")
    parser.add_argument("--trust_remote_code", action="store_true", help="run Python code that comes with the base")


def check_certificate_flags(args) -> None:
    """Raise UserError for values that make no certificate."""
    if args.num_rows < 1:
        raise UserError(f"--num_rows is {args.num_rows}; give 1 or more")
    if not args.max_kl > 0:
        raise UserError(f"--max_kl is {args.max_kl:g}; give a number above 0")


def check_new_folder(output_dir: str | None, what: str) -> None:
    """Raise UserError unless --output_dir names a folder that can be made. what: goes into it."""
    if not output_dir:
        raise UserError(f"--output_dir is missing; give the folder for {what}")
    if Path(output_dir).is_file() or (Path(output_dir).is_dir() and any(Path(output_dir).iterdir())):
        raise UserError(f"{output_dir}: exists and is not empty; name a new folder or remove it first")
    check_folder(output_dir)


def certificate_lines(record: dict, verdict: str) -> list[str]:
    """A Divergence and its limit as a person reads them. verdict: what is said above the limit."""
    relative = record["max_logit_difference"] / (record["max_abs_logit"] or 1.0)
    lines = [
        f"  KL            {kl_text(record['mean_kl'])} nats per token on average, {kl_text(record['max_kl'])} at most",
        f"  likeliest     {100 * record['top1_agreement']:.2f} % of tokens the same",
        f"  logits        differ by {record['max_logit_difference']:.2e} at most, {relative:.2e} of the largest",
    ]
    if not record["is_same"]:
        lines.append(f"  {verdict} (the limit is KL {record['largest_kl']:g}, {LEAST_AGREEMENT:.0%} the same)")
    return lines


def distance_line(name: str, record: dict) -> str:
    """How far the result is from one of its parents, in a line."""
    same = f"{100 * record['top1_agreement']:.1f} % of likeliest tokens the same"
    return f"  {name}: KL {kl_text(record['mean_kl'])}, {same}"


def kl_text(value: float) -> str:
    """A divergence in figures, down to what float32 resolves."""
    return f"{value:.2e}" if value >= KL_RESOLUTION else f"below {KL_RESOLUTION:.0e}"
