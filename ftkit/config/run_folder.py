"""The record of a run, run.yaml.

It holds what was asked and what was decided, so that `ftkit X --config OUT/run.yaml --output_dir NEW` repeats the
run: with the same decisions on the same kind of hardware, and with new ones elsewhere.
"""

import copy
import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ftkit.config.errors import UserError, first_line
from ftkit.config.paste import command

LIBRARIES = ("ftkit", "torch", "transformers", "trl", "peft", "datasets", "accelerate", "bitsandbytes")
SCHEMA_VERSION = 2  # 1 was a flat file of settings, without sections


@dataclass(frozen=True)
class RunRecord:
    """A run.yaml. asked: what the person set. decided: what was decided for `hardware`, and why; both may be
    empty. digest: of `asked` as it was."""

    command: str | None
    asked: dict[str, Any]
    decided: dict[str, Any] = field(default_factory=dict)
    hardware: dict[str, Any] = field(default_factory=dict)
    digest: str | None = None

    @property
    def is_edited(self) -> bool:
        """Whether what was asked is no longer what the decisions were made for."""
        return self.digest != digest_of(self.asked)

    def values_decided(self) -> dict[str, Any]:
        """What was decided, by name, with what one trainer alone decides among it."""
        return {name: value for name, value in self.decided.items() if name != "own"} | self.decided.get("own", {})


def digest_of(asked: dict) -> str:
    """SHA-256 of settings, in hexadecimal."""
    import hashlib
    import json

    return hashlib.sha256(json.dumps(asked, sort_keys=True, default=str).encode()).hexdigest()


def write_run_yaml(output_dir: str, record: RunRecord) -> None:
    """Write OUT/run.yaml, with the command that repeats the run and the versions used."""
    import yaml

    from ftkit.config.versions import versions

    used = ", ".join(f"{name} {version}" for name, version in versions(LIBRARIES).items())
    path = Path(output_dir) / "run.yaml"
    repeat = f"# {command(record.command, '--config', path, '--output_dir', 'ANOTHER_FOLDER')}\n# {used}\n"
    content = {
        "schema": SCHEMA_VERSION, "command": record.command, "asked": record.asked, "decided": record.decided,
        "hardware": record.hardware, "digest": digest_of(record.asked),
    }  # fmt: skip
    from ftkit.config.files import write_text

    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    if "\x85" in text:  # a line end to YAML, which reads it back as a space unless it is escaped
        text = yaml.safe_dump(content, sort_keys=False)
    write_text(path, repeat + text)


def as_record(content: dict, path: str | Path) -> RunRecord:
    """The record that a parsed run.yaml holds, in its sections or, as the first version wrote it, flat.

    Raises UserError for a later schema and for sections that are no mappings.
    """
    if "schema" not in content:
        return RunRecord(None, content)
    if content["schema"] != SCHEMA_VERSION:
        raise UserError(f"{path}:1: schema {content['schema']} is not known; this ftkit reads {SCHEMA_VERSION} and 1")
    asked, decided, hardware = (content.get(name) or {} for name in ("asked", "decided", "hardware"))
    if not all(isinstance(part, dict) for part in (asked, decided, hardware)):
        raise UserError(f"{path}:1: asked, decided and hardware hold `key: value` lines; restore the file")
    return RunRecord(content.get("command"), asked, decided, hardware, content.get("digest"))


@functools.lru_cache(maxsize=4)
def parsed(text: str) -> Any:
    """The content of a run.yaml, which the end of a run reads several times."""
    import yaml

    return yaml.safe_load(text) or {}


def read_record(folder: str | Path) -> RunRecord | None:
    """The record of a run folder; None where there is no run.yaml. Raises UserError for a damaged one."""
    import yaml

    path = Path(folder) / "run.yaml"
    if not path.is_file():
        return None
    try:
        content = copy.deepcopy(parsed(path.read_text(encoding="utf-8")))
        reason = "" if isinstance(content, dict) else str(content)
    except (UnicodeDecodeError, RecursionError, yaml.YAMLError) as error:
        content, reason = {}, first_line(error)
    if reason:
        raise UserError(f"{path}: not settings as a run writes them ({reason}); restore it or delete it")
    return as_record(content, path)


def read_run_yaml(folder: str | Path) -> dict:
    """The settings a run had, asked and decided together; {} where there is no run.yaml."""
    record = read_record(folder)
    if record is None:
        return {}
    decided = {
        name: value for name, value in record.values_decided().items() if name != "reasons" and value is not None
    }
    return decided | {name: value for name, value in record.asked.items() if value is not None}
