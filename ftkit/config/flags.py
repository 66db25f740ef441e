"""The flag names of a command, read from the source of the installed libraries without importing them.

Importing TRL's configurations takes seconds; a mistyped flag should not wait for that. The dataclass fields are
therefore read with `ast`, from the very files that are imported later, so the two can't drift apart.
"""

import ast
import importlib.util
from pathlib import Path

from ftkit.config.errors import UserError, did_you_mean

# Where each dataclass of a command line is defined: (package, file, class).
TRAINING_ARGUMENTS = (
    ("transformers", "training_args.py", "TrainingArguments"),
    ("trl", "trainer/base_config.py", "_BaseConfig"),
    ("ftkit", "config/settings/common.py", "TrainerArguments"),
)
MODEL_ARGUMENTS = (
    ("trl", "trainer/model_config.py", "ModelConfig"),
    ("ftkit", "config/settings/common.py", "ModelArguments"),
)
SCRIPT_ARGUMENTS = (("trl", "scripts/utils.py", "ScriptArguments"),)
DATA_ARGUMENTS = (
    *SCRIPT_ARGUMENTS,
    ("ftkit", "config/settings/common.py", "DataArguments"),
)


def dataclass_field_names(package: str, file: str, name: str) -> set[str]:
    """Return the annotated field names of class `name` in `file` of an installed package, without importing it."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f"the package {package} is not installed; pip install {package}")
    tree = ast.parse((Path(spec.submodule_search_locations[0]) / file).read_text(encoding="utf-8"))
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name]
    assert classes, f"{package}/{file} defines no {name}"
    return {ast.unparse(node.target) for node in classes[0].body if isinstance(node, ast.AnnAssign)}


def flag_names(sources: tuple) -> set[str]:
    """Return every setting that the dataclasses in `sources` define."""
    return set().union(*(dataclass_field_names(*source) for source in sources))


def check_flags(argv: list[str], names: set[str]) -> set[str]:
    """Return the settings that `argv` names; raise UserError for a flag that is not in `names`.

    Dashes and underscores are the same, and `--no_X` names X. Abbreviations are not accepted.
    """
    given = set()
    for token in argv:
        if not token.startswith("--"):
            continue
        word = token[2:].split("=")[0].replace("-", "_")
        name = word if word in names else word.removeprefix("no_")
        if name not in names | {"help"}:
            raise UserError(f'unknown flag "--{word}"{did_you_mean(word, names) or "; see --help"}')
        given.add(name)
    return given


def given_values(argv: list[str]) -> dict[str, str]:
    """The values that follow the flags of `argv`, by setting, as they were written; bare flags have "true"."""
    values, name = {}, None
    for token in argv:
        if token.startswith("--"):
            name, _, value = token[2:].partition("=")
            name = name.replace("-", "_")
            values[name] = value or "true"
        elif name:
            values[name], name = token, None
    return values
