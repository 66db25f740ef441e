"""Looks at rows before they are trained on: checks, shows, fixes, converts, cleans, splits, compares and counts them.

ftkit data check rows.jsonl --template alpaca --model M
ftkit data show rows.jsonl --row 3 --stage mask --template alpaca --model M
ftkit data fix rows.csv --output rows.jsonl
ftkit data convert rows.jsonl --to messages --output rows-messages.jsonl
ftkit data dedup rows.jsonl --output rows-once.jsonl
ftkit data split rows.jsonl --test_size 0.1 --output_dir rows-split
ftkit data leaks rows.jsonl --test test.jsonl
ftkit data stats rows.jsonl --output stats.png
"""

import importlib

from ftkit.config.parser import action_of

# action: module with main(argv)
ACTIONS = {
    "check": "ftkit.commands.data.check",
    "show": "ftkit.commands.data.show",
    "fix": "ftkit.commands.data.fix",
    "convert": "ftkit.commands.data.convert",
    "dedup": "ftkit.commands.data.dedup",
    "split": "ftkit.commands.data.split",
    "leaks": "ftkit.commands.data.leaks",
    "stats": "ftkit.commands.data.stats",
}


def main(argv: list[str]) -> None:
    """Hand over to one of the actions."""
    action, rest = action_of(argv, "data", ACTIONS, __doc__)
    importlib.import_module(ACTIONS[action]).main(rest)
