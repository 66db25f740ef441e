"""Several models asked the same: which ones a command line names, one in memory at a time, and answers side by side."""

import copy
import gc
import sys
from collections.abc import Iterator
from pathlib import Path

from ftkit.config.errors import UserError

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
    models = {}
    for name, model in named:
        own = Path(model).name
        name = name or (own if own and short.count(own) == 1 else model)
        if not model or name in models:
            problem = f"{name} is named twice" if model else "a model is missing"
            raise UserError(f'--compare "{text}": {problem}; mend it')
        models[name] = model
    return models


def settings_of(model: str, args):
    """The settings with one model, or one adapter run folder on its base, in place of --compare."""
    from ftkit.model.adapters.files import CONFIG_FILE, resolve_base
    from ftkit.model.loading import local_model_folder

    settings = copy.copy(args)
    settings.adapter, settings.model_name_or_path = [], model
    if (Path(model) / CONFIG_FILE).is_file():
        settings.adapter, settings.model_name_or_path = [f"adapter={model}"], None
        resolve_base(model, ftgpt=args.ftgpt)
    else:
        local_model_folder(model, ftgpt=args.ftgpt)
    return settings


def each_model(args) -> Iterator[tuple[str, object]]:
    """(name, Conversant) of each model of --compare in turn; all are found before one is loaded, one is kept at a time.

    A conversant must not be used after the next one was asked for.
    """
    import torch

    from ftkit.inference.engine import load_conversant

    if args.adapter or args.model_name_or_path:
        raise UserError("--compare names the models itself; drop --model_name_or_path and --adapter")
    settings = {name: settings_of(model, args) for name, model in models_to_compare(args.compare).items()}
    for number, (name, own) in enumerate(settings.items(), start=1):
        print(f"{name} answers ({number} of {len(settings)})", file=sys.stderr, flush=True)
        conversant = load_conversant(own)
        yield name, conversant
        conversant.model = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def side_by_side(answers: dict[str, list[str]]) -> str:
    """Answers as lines "name  answer", the names in one column; a long answer goes on in the second."""
    width = max(map(len, answers))
    lines = []
    for name, texts in answers.items():
        for number, text in enumerate(texts):
            first, *rest = text.rstrip("\n").split("\n")
            lines.append(f"{INDENT}{(name if number == 0 else '').ljust(width)}{INDENT}{first}".rstrip())
            lines += [f"{INDENT}{' ' * width}{INDENT}{line}".rstrip() for line in rest]
    return "\n".join(lines)
