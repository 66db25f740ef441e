"""The settings of a training command, read from the source of the installed libraries without importing them.

Importing TRL's configurations takes seconds; `--help`, a mistyped flag or a wrong value should not wait for that. The
dataclass fields are therefore read with `ast`, from the very files that are imported later, so the two can't drift
apart.
"""

import ast
import functools
import importlib.util
import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ftkit.config.errors import UserError
from ftkit.config.words import canonical, right_flag

# Where each dataclass of a command line is defined: (package, file, class).
TRAINING_ARGUMENTS = (
    ("transformers", "training_args.py", "TrainingArguments"),
    ("trl", "trainer/base_config.py", "_BaseConfig"),
    ("ftkit", "config/settings/common.py", "TrainerArguments"),
)
TERNARY_ARGUMENTS = (*TRAINING_ARGUMENTS, ("ftkit", "config/settings/ternary.py", "TernaryArguments"))
MODEL_ARGUMENTS = (
    ("trl", "trainer/model_config.py", "ModelConfig"),
    ("ftkit", "config/settings/common.py", "ModelArguments"),
)
SCRIPT_ARGUMENTS = (
    ("trl", "scripts/utils.py", "ScriptArguments"),
    ("ftkit", "config/settings/common.py", "FileArguments"),
)
DATA_ARGUMENTS = (
    *SCRIPT_ARGUMENTS,
    ("ftkit", "config/settings/common.py", "DataArguments"),
)
ENUMS = {
    "IntervalStrategy": "trainer_utils.py",
    "SaveStrategy": "trainer_utils.py",
    "HubStrategy": "trainer_utils.py",
    "SchedulerType": "trainer_utils.py",
    "OptimizerNames": "training_args.py",
}  # of transformers, that settings are annotated with, and their files
UNKNOWN = ...  # a default that is no literal


@dataclass(frozen=True)
class Setting:
    """A field of a dataclass. types: the names in its annotation, such as ("list[str]", "None").

    default: its value, UNKNOWN where the source does not hold it as a literal. choices: allowed values, if they are
    few. owner: package and class that define it.
    """

    name: str
    types: tuple[str, ...]
    default: Any
    help: str
    choices: tuple[str, ...]
    owner: tuple[str, str]

    @property
    def is_list(self) -> bool:
        """Whether it takes several words."""
        return any(name.startswith("list") for name in self.types)

    @property
    def is_switch(self) -> bool:
        """Whether it takes no word, or true or false."""
        return "bool" in self.types and "str" not in self.types


def read_settings(sources: tuple) -> dict[str, Setting]:
    """Every setting that the dataclasses in `sources` define, by name; ftkit's definitions go before the libraries'."""
    found: dict[str, Setting] = {}
    for package, file, name in sorted(sources, key=lambda source: source[0] == "ftkit"):
        module = parsed(package, file)
        for node in class_body(module, name, f"{package}/{file}"):
            if isinstance(node, ast.AnnAssign) and not ast.unparse(node.target).startswith("_"):
                setting = as_setting(node, module, (package, name))
                if not setting.choices and setting.name in found:  # a new default does not widen what is allowed
                    setting = replace(setting, choices=found[setting.name].choices)
                found[setting.name] = setting
    return found


@functools.cache  # the source of installed packages does not change
def parsed(package: str, file: str) -> ast.Module:
    """The syntax tree of a file of an installed package."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f"the package {package} is not installed; pip install {package}")
    return ast.parse((Path(spec.submodule_search_locations[0]) / file).read_text(encoding="utf-8"))


def class_body(module: ast.Module, name: str, place: str) -> list[ast.stmt]:
    """The statements of a class."""
    classes = [node for node in module.body if isinstance(node, ast.ClassDef) and node.name == name]
    assert classes, f"{place} defines no {name}"
    return classes[0].body


def as_setting(node: ast.AnnAssign, module: ast.Module, owner: tuple[str, str]) -> Setting:
    """The field that an annotated assignment makes: `field(...)`, ftkit's `setting(default, help, ...)`, or a value."""
    types = tuple(part.strip() for part in ast.unparse(node.annotation).split("|"))
    default, metadata = (None if node.value is None else literal(node.value, module)), {}
    if isinstance(node.value, ast.Call):
        given = {one.arg: one.value for one in node.value.keywords}
        given |= dict(zip(("default", "help"), node.value.args, strict=False))
        if "default_factory" in given:
            factory = given["default_factory"]
            default = literal(factory.body, module) if isinstance(factory, ast.Lambda) else []
        else:
            default = literal(given["default"], module)
        metadata = {name: literal(value, module) for name, value in given.items() if name not in ("metadata",)}
        beside = given.get("metadata")
        if isinstance(beside, ast.Dict):
            pairs = zip(beside.keys, beside.values, strict=True)
            metadata |= {ast.literal_eval(key): literal(value, module) for key, value in pairs if key}
    help, choices = metadata.get("help"), metadata.get("choices")
    if not isinstance(choices, list):
        choices = [value for name in types if name in ENUMS for value in enum_values(name)]
    text = " ".join(help.split()) if isinstance(help, str) else ""
    return Setting(ast.unparse(node.target), types, default, text, tuple(choices), owner)


def literal(node: ast.expr, module: ast.Module) -> Any:
    """The value of an expression of literals and the module's own constants; UNKNOWN of any other."""
    if isinstance(node, ast.Name):
        constants = [
            one for one in module.body if isinstance(one, ast.Assign) and node.id in map(ast.unparse, one.targets)
        ]
        return literal(constants[0].value, module) if constants else UNKNOWN
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = literal(node.left, module), literal(node.right, module)
        return left + right if isinstance(left, str) and isinstance(right, str) else UNKNOWN
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) for part in node.values if isinstance(part, ast.Constant))
    try:
        return ast.literal_eval(node)
    except ValueError:
        return UNKNOWN


def enum_values(name: str) -> list[str]:
    """The values of one of transformers' enums."""
    body = class_body(parsed("transformers", ENUMS[name]), name, ENUMS[name])
    return [ast.literal_eval(node.value) for node in body if isinstance(node, ast.Assign)]


def is_flag(token: str) -> bool:
    """Whether a word of a command line names a flag; a negative number does not."""
    return re.match(r"--\w|-[^\W\d]", token) is not None


def flag_name(token: str, names: Collection[str]) -> str:
    """The setting that a flag names, or "help"; raises UserError for one that is not in `names`.

    Dashes and underscores are the same, and `--no_X` names X. Abbreviations are not accepted.
    """
    word = token.lstrip("-").split("=")[0].replace("-", "_")
    word = canonical(word, names)
    if token in ("-h", "--help"):
        return "help"
    if token.startswith("--"):
        name = word if word in names else word.removeprefix("no_")
        if name in names:
            return name
    raise UserError(f"unknown flag {token.split('=')[0]}{right_flag(word, names) or '; see --help'}")
