"""Writes the folder of an adapter that was computed instead of trained, as the rest of ftkit takes it.

write_adapter(staging, config, tensors, text_from="runs/a", base=Base(folder, "base", is_verified=True))
"""

import dataclasses
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

from peft import LoraConfig
from safetensors.torch import save_file
from torch import Tensor

from ftkit.config.errors import UserError
from ftkit.data.templates.lock import copy_lock, read_lock, verify_lock
from ftkit.model.adapters.files import (
    WEIGHTS_FILE,
    name_base,
    named_base,
    record_base,
    recorded_base,
    resolve_base,
    run_folder,
    run_settings,
    tokenizer_folder,
)
from ftkit.model.adapters.loading import check_adapter_folder
from ftkit.model.loading import load_tokenizer

# Fields of LoraConfig as a computed adapter has them: the update is B A as it stands.
PLAIN = {
    "lora_dropout": 0.0, "use_rslora": False, "use_dora": False, "rank_pattern": {}, "alpha_pattern": {},
    "layers_to_transform": None, "layers_pattern": None, "exclude_modules": None, "init_lora_weights": True,
    "inference_mode": True,
}  # fmt: skip


class Base(NamedTuple):
    """The base of a computed adapter: its folder, its name, and whether a hash of its weights vouches for it."""

    folder: str
    name: str
    is_verified: bool = True
    load_in_4bit: bool = False


def base_of(adapters: Collection[str], given: str | None = None, *, trust_remote_code: bool = False) -> Base:
    """The one base of some adapters, each held against it and against its lock. given: where it is, if moved.

    Raises UserError where they have different ones, and as `check_adapter_folder` and `verify_lock` do.
    """
    first, *_ = adapters
    records = {adapter: recorded_base(adapter) for adapter in adapters}
    hashes = {adapter: record["sha256"] for adapter, record in records.items() if record}
    for adapter, value in hashes.items():
        known, other = next(iter(hashes.items()))
        if value != other:
            raise UserError(
                f'{known} and {adapter} have different bases ("{records[known]["name"]}", SHA-256 {other[:12]}, and '
                f'"{records[adapter]["name"]}", {value[:12]}); take adapters of one base'
            )
    folder = resolve_base(first, given)
    for adapter in adapters:
        check_adapter_folder(adapter, folder, trust_remote_code=trust_remote_code)
        verify_lock(adapter, load_tokenizer(tokenizer_folder(adapter, folder), trust_remote_code=trust_remote_code))
    in_4bit = all(run_settings(adapter).get("load_in_4bit") for adapter in adapters)
    return Base(folder, given or named_base(first), len(hashes) == len(records), bool(in_4bit))


def plain_config(config: LoraConfig, modules: Collection[str], rank: int, all_names: Collection[str]) -> LoraConfig:
    """The configuration of an adapter of exactly these modules, each of `rank` and multiplied by 1.

    all_names: of the base's modules; where the last parts of the names pick the same modules, they are the targets.
    """
    short = {name.rsplit(".", 1)[-1] for name in modules}
    found = {name for name in all_names if name.rsplit(".", 1)[-1] in short}
    targets = short if found == set(modules) else set(modules)
    return dataclasses.replace(config, r=rank, lora_alpha=rank, target_modules=targets, **PLAIN)


def write_adapter(
    staging: Path, config: LoraConfig, tensors: Mapping[str, Tensor], *, text_from: str | Path, base: Base
) -> None:
    """Write configuration, tensors, tokenizer, template lock and, where the base is verified, base.json.

    text_from: the adapter or model whose tokenizer, template and lock it keeps.
    """
    save_file(dict(tensors), staging / WEIGHTS_FILE, metadata={"format": "pt"})
    config.save_pretrained(staging)
    name_base(staging, base.name)
    load_tokenizer(tokenizer_folder(text_from, base.folder)).save_pretrained(staging)
    copy_lock(next((path for path in (Path(text_from), run_folder(text_from)) if read_lock(path)), text_from), staging)
    if base.is_verified:
        record_base(staging, base.folder, base.name, load_in_4bit=base.load_in_4bit)
