"""Settings as a command line would ask them, without one: asked("sft", use_peft=True)."""

import dataclasses
import importlib

from ftkit.config.settings.common import RunSettings

REQUIRED = {"dataset_name": "d", "output_dir": "o", "model_name_or_path": "m"}


def asked(command: str, **settings) -> RunSettings:
    """RunSettings of a trainer; `settings` are what the person gave, REQUIRED besides."""
    classes = importlib.import_module(f"ftkit.config.settings.{command}").SETTINGS
    given = REQUIRED | settings
    parts = []
    for cls in classes:
        names = {item.name for item in dataclasses.fields(cls)}
        parts.append(cls(**{name: value for name, value in given.items() if name in names}))
    return RunSettings(*parts, frozenset(given))
