"""Looks at rows before they are trained on: checks and converts them.

ftkit data check rows.jsonl --template alpaca --model M
ftkit data convert rows.jsonl --to messages --output rows-messages.jsonl
"""

import importlib

from ftkit.config.errors import UserError, did_you_mean

# action: module with main(argv)
ACTIONS = {
    "check": "ftkit.commands.data_check",
    "convert": "ftkit.commands.data_convert",
}


def main(argv: list[str]) -> None:
    """Hand over to one of the actions."""
    action, rest = (argv[0], argv[1:]) if argv else ("", [])
    if action in ("-h", "--help"):
        print(f"usage: ftkit data {'|'.join(ACTIONS)} ...\n\n{(__doc__ or '').strip()}\n")
        print("ftkit data ACTION --help shows the settings of an action.")
        raise SystemExit(0)  # as argparse ends a command after its help
    if action not in ACTIONS:
        came = f'unknown action "{action}"{did_you_mean(action, ACTIONS)}' if action else "an action is missing"
        raise UserError(f"{came}; give one of: {', '.join(ACTIONS)}; see ftkit data --help")
    importlib.import_module(ACTIONS[action]).main(rest)
