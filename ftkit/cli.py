"""The command `ftkit`: lists the commands and hands over to one of them; imports nothing heavy itself."""

import importlib
import sys
from pathlib import Path

from ftkit import __version__
from ftkit.config.errors import UserError, did_you_mean
from ftkit.config.flags import is_flag
from ftkit.config.naming import KINDS, command_for, command_meant, kind_of
from ftkit.config.parser import run
from ftkit.config.paste import command, quoted
from ftkit.runs.command_table import COMMANDS, GROUPS

HELP = ("-h", "--help", "help")
WITH_ACTIONS = ("data", "adapters")


def usage() -> str:
    """The text of `ftkit --help`."""
    lines: list[str] = []
    for group, names in GROUPS.items():
        lines += [f"{group}:", *(f"  ftkit {name:<10} {COMMANDS[name][1]}" for name in names)]
    return "\n".join(
        [
            f"ftkit {__version__}: fine-tune a GPT you can read, and prove every step",
            "",
            *lines,
            "",
            "ftkit help COMMAND shows what a command takes, ftkit help sft all every setting of a trainer, and",
            "ftkit help sft WORD those about a word; --config FILE.yaml sets them.",
        ]
    )


def dispatch(argv: list[str]) -> None:
    """Run the command that `argv` names."""
    if not argv or (argv[0] in HELP and (len(argv) == 1 or argv[1] in HELP)):
        print(usage())
        return
    if argv[0] in ("--version", "-V", "version"):
        print(f"ftkit {__version__}")
        return
    name, *rest = argv
    if name in HELP:
        action = rest[1:2] if rest[0] in WITH_ACTIONS else []
        name, rest = rest[0], [*action, "--help", *rest[1 + len(action) :]]
    if name not in COMMANDS:
        raise UserError(unknown(name, rest))
    importlib.import_module(COMMANDS[name][0]).main(rest)


def unknown(name: str, rest: list[str]) -> str:
    """What is said of a first word that is no command: the command that was meant, or that takes what it names."""
    if is_flag(name):
        return f"{name} comes before a command; give the command first, such as {command('sft', name, *rest)}"
    near = did_you_mean(name.lower(), COMMANDS)
    meant = command_meant(name)
    whole = command_for(name)
    if whole and whole.split()[1] in COMMANDS and (not near or Path(name).exists()):
        return f"{quoted(name)} is not a command but names {KINDS[kind_of(name)]}; give {whole}"
    if meant and meant.split()[0] in (*COMMANDS, "help"):
        return f'unknown command "{name}"; did you mean ftkit {meant}?'
    return f'unknown command "{name}"{near}; ftkit --help lists the commands'


def main() -> None:
    """Entry point of the console script."""
    sys.exit(run(dispatch))


if __name__ == "__main__":
    main()
