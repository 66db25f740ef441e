"""Several models asked the same: which ones a command line names, one in memory at a time, and answers side by side.

for name, engine in each_engine(models_to_compare("base,runs/first"), settings): ...
"""

import dataclasses
import gc
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch

from ftkit.config.errors import UserError
from ftkit.inference.asking import ModelSettings
from ftkit.inference.engine import Engine
from ftkit.model.adapters.files import CONFIG_FILE, resolve_base
from ftkit.model.loading import local_model_folder

INDENT = "  "


def models_to_compare(text: str) -> dict[str, str]:
    """Models by name, from "M1,M2,...", each M or NAME=M; the last part of a path is its name where it is unique.

    Raises UserError for fewer than two and for one that is named twice.
    """
    parts = [part.strip() for part in text.split(",")]
    if len(parts) < 2 or not all(parts):
        raise UserError(f'--compare "{text}": give two models or more, separated by commas: --compare M1,M2')
    named = [part.partition("=")[::2] if "=" in part and not Path(part).exists() else ("", part) for part in parts]
    short = [Path(model).name for _, model in named]
    models: dict[str, str] = {}
    for name, model in named:
        own = Path(model).name
        name = name or (own if own and short.count(own) == 1 else model)
        if not model or name in models:
            problem = f"{name} is named twice" if model else "a model is missing"
            raise UserError(f'--compare "{text}": {problem}; correct it')
        models[name] = model
    return models


def settings_of(model: str, settings: ModelSettings) -> ModelSettings:
    """The settings for one model, or for one adapter's run folder on its base; UserError where there is none such."""
    if (Path(model) / CONFIG_FILE).is_file():
        resolve_base(model, ftgpt=settings.ftgpt)
        return dataclasses.replace(settings, model_name_or_path=None, adapters={"adapter": model})
    local_model_folder(model, ftgpt=settings.ftgpt)
    return dataclasses.replace(settings, model_name_or_path=model, adapters={})


def each_engine(models: Mapping[str, str], settings: ModelSettings) -> Iterator[tuple[str, Engine]]:
    """(name, Engine) of each model in turn; all are found before one is loaded, one is kept at a time.

    settings: how each is loaded. An engine must not be used after the next one was asked for.
    """
    found = {name: settings_of(model, settings) for name, model in models.items()}
    for number, (name, own) in enumerate(found.items(), start=1):
        print(f"{name} answers ({number} of {len(found)})", file=sys.stderr, flush=True)
        engine = Engine.load(own)
        yield name, engine
        engine.model = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def side_by_side(answers: Mapping[str, list[str]]) -> str:
    """Answers as lines "name  answer", the names in one column; a long answer goes on in the second."""
    width = max(map(len, answers))
    lines = []
    for name, texts in answers.items():
        for number, text in enumerate(texts):
            first, *rest = text.split("\n")
            lines.append(f"{INDENT}{(name if number == 0 else '').ljust(width)}{INDENT}{first}".rstrip())
            lines += [f"{INDENT}{' ' * width}{INDENT}{line}".rstrip() for line in rest]
    return "\n".join(lines)
