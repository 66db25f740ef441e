"""What a trainer is: a Recipe. Its settings, its method and its entry script are all that a new one needs.

    RECIPE = Recipe("sft", flags=..., settings="ftkit.config.settings.sft:SETTINGS",
                    method="ftkit.training.methods.sft:METHOD", rows="ftkit.data.rows.formats:CONVERSATIONS")

Parts that import torch are named as "module:name", so that `--help` and a mistyped flag do not wait for them.
"""

import importlib
from dataclasses import dataclass
from typing import Any

from ftkit.config.files import check_folder
from ftkit.config.parser import parse_settings


@dataclass(frozen=True)
class Recipe:
    """name: of the command, by which `ftkit.runs.recipes` lists it.

    flags: where the settings are defined, for a check that imports nothing (`ftkit.config.flags`). settings: the
    dataclasses for data, model and training. method, held_out: how data is made ready and trained on, and how held-out
    rows are scored (`ftkit.training.method`). rows: the RowKind that is checked before the imports; None where rows are
    text. Each of these four may be "module:name". about: the text of its entry script, which --help shows.
    predict: "module:name" of what --predict runs in place of training, None where there is no such flag.
    """

    name: str
    flags: tuple
    settings: str | tuple
    method: Any
    rows: Any = None
    held_out: Any = None
    about: str | None = ""
    predict: str | None = None

    def parse(self, argv: list[str]):
        """The settings of a command line, as RunSettings. TRL is imported only when flags and local rows are right.

        Raises UserError for every mistake in a flag, a value, the YAML file or a small local file of rows.
        """
        prog, about = f"ftkit {self.name}", self.about or ""
        values = parse_settings(argv, self.flags, lambda: found(self.settings), prog, about, self.early_check)
        from ftkit.config.settings.common import RunSettings
        from ftkit.config.settings.needs import check_needs

        asked = RunSettings(*values)
        check_needs(asked)
        return asked

    def early_check(self, given: dict) -> None:
        """Raise UserError for an OUT that can't be written, and for mistakes in rows if they are few and local.

        given: the values of the settings that a person gave.
        """
        if given.get("output_dir") and not given.get("plan"):
            check_folder(given["output_dir"])
        if self.rows is not None:
            from ftkit.data.rows.early_check import check_early

            check_early(given, found(self.rows))

    def train(self, settings):
        """Run into settings.training.output_dir; the trainer, or None with --plan.

        Raises UserError for a mistake in settings or data, before the model is loaded where possible.
        """
        from ftkit.runs.lifecycle import train

        return train(self.name, found(self.method), self.held_out and (lambda: found(self.held_out)), settings)

    def main(self, argv: list[str]) -> None:
        """Parse the command line and run it."""
        if self.predict and any(token.split("=")[0] == "--predict" for token in argv):
            return found(self.predict)(argv)
        self.train(self.parse(argv))


def found(part):
    """What "module:name" names; anything else is the part itself."""
    if not isinstance(part, str):
        return part
    module, _, name = part.partition(":")
    return getattr(importlib.import_module(module), name)
