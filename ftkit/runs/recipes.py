"""The trainers by name: the only place that names their entry scripts, which are imported when one is asked for."""

import importlib

from ftkit.runs.recipe import Recipe

ENTRY_SCRIPTS = {"sft": "ftkit.sft", "dpo": "ftkit.dpo", "pretrain": "ftkit.pretrain", "classify": "ftkit.classify"}


def load_recipe(name: str) -> Recipe:
    """The recipe of a trainer's entry script."""
    return importlib.import_module(ENTRY_SCRIPTS[name]).RECIPE
