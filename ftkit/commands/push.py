"""Pushes a model or adapter folder to the Hugging Face Hub, and loads it back to see that it works there.

ftkit push runs/first owner/name --private --dry_run
"""

import sys

from ftkit.config.parser import CommandParser


def main(argv: list[str]) -> None:
    """Parse the command line, push, print what was sent and what was not."""
    parser = CommandParser(
        prog="ftkit push", examples=__doc__, description="Push a model or adapter folder to the Hugging Face Hub."
    )
    parser.add_argument("folder", help="output folder of a run, a merge or an export")
    parser.add_argument("repo_id", help="owner/name on the Hub; made where there is none")
    parser.add_argument("--private", action="store_true", help="make the repository private; refused if it is public")
    parser.add_argument("--dry_run", action="store_true", help="print the exact list of files; no request is made")
    parser.add_argument("--revision", help="branch to push to, made where there is none; default: main")
    parser.add_argument("--commit_message", help="first line of the commit; default: names the folder")
    parser.add_argument("--no_check", action="store_true", help="do not load the pushed commit back")
    args = parser.parse_args(argv)
    from ftkit.publish.hub.hub import push_folder

    result = push_folder(
        args.folder,
        args.repo_id,
        private=args.private,
        dry_run=args.dry_run,
        revision=args.revision,
        commit_message=args.commit_message,
        check=not args.no_check,
    )
    print(result.report())
    if args.dry_run:
        print("next: the same command without --dry_run", file=sys.stderr)
