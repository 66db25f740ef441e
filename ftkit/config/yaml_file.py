"""Settings in YAML files: each value is read by the type of its setting, so that `no` is a text where a text belongs.

read_yaml_record("run.yaml", settings) is a RunRecord; every mistake is a UserError with file and line.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ftkit.config.errors import UserError, did_you_mean
from ftkit.config.flags import Setting
from ftkit.config.run_folder import RunRecord, as_record
from ftkit.config.values import read_values
from ftkit.config.words import canonical, right_flag

ABSENT = ("", "~", "null")  # YAML's ways to write that there is no value


def read_yaml_settings(path: str, names: Iterable[str], allowed: str = "see --help") -> dict:
    """The values of a YAML file with other keys than a command's settings, as YAML types them.

    Raises UserError with file and line for an unknown or repeated key. allowed: what it says where none is near.
    """
    text, root = composed(path)
    for key, line in checked_keys(root, path):
        if key not in names:
            raise UserError(f'{path}:{line}: unknown setting "{key}"{did_you_mean(key, names) or f"; {allowed}"}')
    return constructed(path, text)


def read_yaml_record(path: str, settings: Mapping[str, Setting]) -> RunRecord:
    """The settings of a YAML file and, where it is a run's, what was decided.

    A key without a value (null) is not given; a run's own file holds given settings alone, and there null is None.
    Raises UserError with file and line for an unknown or repeated key and a value of the wrong type.
    """
    text, root = composed(path)
    keys = [key for key, _ in checked_keys(root, path)]
    if "schema" in keys:
        record = as_record(constructed(path, text), path)
        asked = next((value for key, value in root.value if key.value == "asked"), None)
        values = typed(asked, path, settings, is_run=True) if record.asked else {}
        return RunRecord(record.command, values, record.decided, record.hardware, record.digest)
    values = typed(root, path, settings)
    command = text.split()[2] if text.startswith("# ftkit ") else None  # a run of the first version
    if command:  # it recorded what the machine was, and what it had made of --max_tokens
        values.pop("use_cpu", None)
        if values.get("max_tokens"):
            values.pop("max_steps", None)
    return RunRecord(command, values)


def composed(path: str) -> tuple:
    """The text of a YAML file, and its mapping as nodes that know their lines."""
    import yaml

    try:
        text = Path(path).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as text ({error}); give a YAML file in UTF-8") from error
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except RecursionError as error:
        raise UserError(f"{path}: too deeply nested; write one setting per line") from error
    except yaml.YAMLError as error:
        raise not_yaml(path, error) from error
    if not isinstance(root, yaml.MappingNode):
        raise UserError(f"{path}:1: expected `key: value` lines; write one setting per line")
    return text, root


def constructed(path: str, text: str) -> dict:
    """The values of a YAML file as YAML types them."""
    import yaml

    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        raise not_yaml(path, error) from error


def not_yaml(path: str, error: Exception) -> UserError:
    """What is said of a text that YAML does not take."""
    mark = getattr(error, "problem_mark", None)
    line = mark.line + 1 if mark else 1
    return UserError(f"{path}:{line}: not valid YAML ({getattr(error, 'problem', error)}); fix the line")


def checked_keys(mapping, path: str) -> list[tuple[str, int]]:
    """The keys of a mapping's node with their lines; raises UserError for one that is there twice or is no word."""
    found: dict[str, int] = {}
    for key, _ in mapping.value:
        line = key.start_mark.line + 1
        if not isinstance(key.value, str):
            raise UserError(f"{path}:{line}: expected `key: value` lines; write one setting per line")
        if key.value in found:
            raise UserError(f'{path}:{line}: "{key.value}" is set twice; keep one')
        found[key.value] = line
    return list(found.items())


def typed(mapping, path: str, settings: Mapping[str, Setting], *, is_run: bool = False) -> dict[str, Any]:
    """The settings of a mapping's node, each read by its type."""
    lines = dict(checked_keys(mapping, path))
    values: dict[str, Any] = {}
    for key, node in mapping.value:
        name = canonical(key.value.replace("-", "_"), settings)
        if name not in settings:
            hint = right_flag(key.value, settings).replace("--", "") or "; see --help all for the settings"
            grouped = "; write its settings without indentation" if node.id == "mapping" else ""
            raise UserError(f'{path}:{lines[key.value]}: unknown setting "{key.value}"{grouped or hint}')
        if is_null(node):
            if is_run:
                values[name] = None
            continue
        try:
            values[name] = node_value(node, settings[name])
        except ValueError as error:
            raise UserError(f"{path}:{lines[key.value]}: {key.value} is {shown(node)}; {error}") from error
    return values


def is_null(node) -> bool:
    """Whether a node is YAML's null: nothing at all, ~ or null, without quotes."""
    return node.id == "scalar" and node.style is None and node.value.lower() in ABSENT


def node_value(node, setting: Setting) -> Any:
    """The value of a node; raises ValueError where it does not fit the setting."""
    if node.id == "mapping":
        if not any(name.startswith("dict") for name in setting.types):
            raise ValueError("give one value, without `key:` lines below it")
        return plain_value(node)
    if node.id == "sequence":
        if not setting.is_list:
            raise ValueError("it takes one value, no list")
        if any(item.id != "scalar" for item in node.value):
            raise ValueError("give a list of plain values")
        found = read_values(setting, [item.value for item in node.value]) if node.value else []
        return found if isinstance(found, list) else [found]
    return read_values(setting, [node.value])


def plain_value(node) -> Any:
    """What a node holds, as YAML types it."""
    import yaml

    loader = yaml.SafeLoader("")
    try:
        return loader.construct_document(node)
    except yaml.YAMLError as error:
        raise ValueError(str(getattr(error, "problem", error))) from error
    finally:
        loader.dispose()


def shown(node) -> str:
    """A node in an error: its text, or what it is."""
    if node.id != "scalar":
        return {"mapping": "a block of `key: value` lines", "sequence": "a list"}[node.id]
    return f'"{node.value}"'
