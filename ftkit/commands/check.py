"""Checks that a run can be killed and goes on: trains a short piece of it, kills it, lets it go on, compares the bits.

ftkit check runs/first --resume

The piece has the run's own settings and rows, and a folder of its own; nothing in RUN changes. It is killed (kill -9)
in steps and when files are opened, renamed or removed. Exit code 0 when each time all visible checkpoints are whole,
the same command goes on, and losses and weights are those of a piece that nobody killed, bit for bit; else 1.
"""

import sys
import tempfile
from pathlib import Path

from ftkit.config.errors import UserError
from ftkit.config.parser import CommandParser
from ftkit.config.paste import command


def main(argv: list[str]) -> None:
    """Parse the command line, check, print a line for each kill and one for all."""
    parser = CommandParser(
        prog="ftkit check", examples=__doc__, description="Check that a run can be killed and goes on, bit for bit."
    )
    parser.add_argument("run", help="output folder of a training run, finished or not")
    parser.add_argument("--resume", action="store_true", help="kill a short piece of the run, and let it go on")
    parser.add_argument("--kills", type=int, default=6, help="how often")
    args = parser.parse_args(argv)
    if not args.resume:
        raise UserError(f"what is to be checked is missing; give {command('check', args.run, '--resume')}")
    if args.kills < 1:
        raise UserError(f"--kills is {args.kills}; give 1 or more")
    from ftkit.runs.resume_check import check_resume

    with tempfile.TemporaryDirectory(prefix="ftkit-check-") as work:
        checked = check_resume(args.run, num_kills=args.kills, work=Path(work), say=say)
    count, wrong = len(checked.points), sum(not point.is_right for point in checked.points)
    if not wrong:
        print(f"{args.run}: {count} kills; every checkpoint whole, the same command went on, same losses and weights")
        return
    print(f"{args.run}: {wrong} of {count} kills changed the result")
    if not checked.repeats:
        print("two runs that nobody killed differ as well, so bits say nothing here; train with --full_determinism")
    raise SystemExit(1)


def say(line: str) -> None:
    """Print what was found so far to stderr."""
    print(line, file=sys.stderr, flush=True)
