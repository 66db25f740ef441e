"""What is in an adapter's folder: its configuration and tensors, the run it comes from, and the base it belongs to.

    record_base("runs/a", base_folder, "SmolLM2-135M-Instruct")     # at training: which weights the adapter belongs to
    folder = resolve_base("runs/a")                                 # later: where they are

Only safetensors are read, and no code that an adapter's configuration names is imported.
"""

import contextlib
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import torch
from peft import PeftType, TaskType
from safetensors import SafetensorError, safe_open

from ftkit.config.assets import MODEL_NAMES
from ftkit.config.caches import cached
from ftkit.config.errors import UserError
from ftkit.config.files import write_json, write_text
from ftkit.config.json_object import read_object
from ftkit.config.run_folder import read_run_yaml
from ftkit.model.classifier import stored_labels
from ftkit.model.limits import check_adapter_config
from ftkit.model.loading import local_model_folder, tensors_fingerprint, weights_fingerprint
from ftkit.model.weights.shards import safetensors_files

CONFIG_FILE, WEIGHTS_FILE, PICKLE_FILE = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"
NOT_OF_THE_VERSION = ("base_model_name_or_path", "inference_mode", "revision")  # where an adapter is, not what it is
BASE_RECORD = "base.json"
CLASSIFIER_HEADS = ("classifier", "score")  # PEFT's names of the heads that a classifier's adapter holds
SHA256 = re.compile(r"[0-9a-f]{64}")
CHECKPOINT = re.compile(r"checkpoint-\d+")


def read_adapter_config(adapter: str | Path) -> dict:
    """The adapter_config.json of an adapter folder.

    Raises UserError when there is none, it is broken, or it wants a module of its own choice imported.
    """
    path = Path(adapter) / CONFIG_FILE
    if not path.is_file():
        raise UserError(f"{adapter}: no {CONFIG_FILE} in it; give the output folder of a run with --use_peft")
    config = read_object(path, "save the adapter again")
    kind = config.get("peft_type")
    if not isinstance(kind, str) or kind not in set(PeftType):
        raise UserError(f"{path}: peft_type is {kind}, which the installed PEFT does not know; upgrade peft")
    check_adapter_config(path, config)
    return config


def base_of_adapter(adapter: str | Path) -> str:
    """The base model that an adapter's configuration names.

    Raises UserError when the folder holds no adapter, or names no base.
    """
    base = read_adapter_config(adapter).get("base_model_name_or_path")
    if not base:
        raise UserError(f"{adapter}: its {CONFIG_FILE} names no base; pass --model_name_or_path")
    return base


def named_base(adapter: str | Path) -> str:
    """What an adapter's base is called here: where the run recorded a bundled name, that one, else `base_of_adapter`.

    Raises UserError as `base_of_adapter` does.
    """
    recorded = (recorded_base(adapter) or {}).get("name")
    return recorded if recorded in MODEL_NAMES else base_of_adapter(adapter)


def name_base(folder: str | Path, name: str, revision: str | None = None) -> None:
    """Write into a saved adapter's configuration what its base is called, in place of where it lay in a cache."""
    path = Path(folder) / CONFIG_FILE
    config = json.loads(path.read_text(encoding="utf-8"))
    config |= {"base_model_name_or_path": name, "revision": revision or config.get("revision")}
    write_text(path, json.dumps(config, indent=2, sort_keys=True))


def run_folder(adapter: str | Path) -> Path:
    """The folder of the run that wrote an adapter: of a checkpoint-N the folder around it, else the adapter's own."""
    folder = Path(adapter).resolve()
    return folder.parent if CHECKPOINT.fullmatch(folder.name) else folder


def run_settings(adapter: str | Path) -> dict:
    """The settings of the run that wrote an adapter: its run.yaml, else, as for a pushed one, what base.json says."""
    if settings := read_run_yaml(run_folder(adapter)):
        return settings
    record = recorded_base(adapter) or {}
    return {"ftgpt": record.get("model_type") == "ftgpt", "load_in_4bit": record.get("load_in_4bit", False)}


def resolve_base(adapter: str | Path, base: str | None = None, *, ftgpt: bool = False) -> str:
    """The local folder of an adapter's base: the one named `base`, else the run's, else its configuration's,
    at the revision that is named beside it.

    Raises UserError, which names the adapter and --model_name_or_path, when the recorded base is not found.
    """
    settings = run_settings(adapter)
    ftgpt = ftgpt or settings.get("ftgpt", False)
    if base:
        return local_model_folder(base, ftgpt=ftgpt)
    name, revision = settings.get("model_name_or_path"), settings.get("model_revision")
    if name is None or (Path(name) / CONFIG_FILE).is_file():  # an adapter that began as another one
        name, revision = named_base(adapter), read_adapter_config(adapter).get("revision")
    try:
        return local_model_folder(name, ftgpt=ftgpt, revision=revision)
    except UserError as error:
        raise UserError(f"{adapter}: its base is not here ({error}); pass it by --model_name_or_path") from error


def record_base(
    output_dir: str | Path,
    base_folder: str | Path,
    name: str,
    *,
    load_in_4bit: bool = False,
    labels: list[str] | None = None,
) -> None:
    """Write OUT/base.json: which weights an adapter in OUT belongs to.

    base_folder: local folder of the base (`local_model_folder`). name: what the person called it. load_in_4bit: whether
    it was loaded so. labels: the classes in order, if the adapter makes a classifier of it. One process calls this.
    """
    config = read_object(Path(base_folder) / "config.json")
    sizes = config.get("text_config", config)
    record = {
        "name": str(name),
        "sha256": base_fingerprint(base_folder),
        "model_type": config.get("model_type"),
        "vocab_size": sizes.get("vocab_size"),
        "load_in_4bit": load_in_4bit,
    } | ({"labels": labels} if labels else {})
    if Path(name).expanduser().exists():  # elsewhere nobody could tell "runs/base" from a Hub id
        record["is_local"] = True
    write_json(Path(output_dir) / BASE_RECORD, record)


def recorded_base(adapter: str | Path) -> dict | None:
    """What `record_base` wrote for the run of an adapter, or None."""
    path = run_folder(adapter) / BASE_RECORD
    if not path.is_file():
        return None
    record = read_object(path, "restore it, or delete it")
    if missing := {"name", "sha256"} - record.keys():
        raise UserError(f"{path}: not as a run writes it (no {min(missing)}); restore it, or delete it")
    return {"name": str(record["name"]), "sha256": str(record["sha256"])} | record


def adapter_labels(adapter: str | Path, base_folder: str | Path | None = None) -> list[str] | None:
    """The classes of a classifier's adapter in order; None for an adapter of a language model.

    Where no run recorded them, as for an adapter that PEFT alone saved, they are those of a base that is a classifier
    itself, else as many numbered ones as the head in the adapter has outputs.
    Raises UserError for a classifier's adapter without a head.
    """
    config = read_adapter_config(adapter)
    if config.get("task_type") != TaskType.SEQ_CLS:
        return None
    if labels := (recorded_base(adapter) or {}).get("labels"):
        return labels
    heads = set(config.get("modules_to_save") or CLASSIFIER_HEADS)
    tensors = ((name, tensor) for name, tensor in adapter_tensors(adapter) if heads & set(name.split(".")))
    sizes = [len(tensor) for _, tensor in tensors if tensor.ndim == 2]
    if not sizes:
        raise UserError(f"{adapter}: its head is not in it, so its classes are not known; save it with modules_to_save")
    numbered = [f"LABEL_{number}" for number in range(min(sizes))]  # a head's last layer is its narrowest
    known = stored_labels(base_folder) if base_folder else None
    return known if known and len(known) == len(numbered) else numbered


def tokenizer_folder(adapter: str | Path, base_folder: str | Path) -> Path:
    """The folder whose tokenizer and template belong to an adapter: its own, its run's, else the base's."""
    folders = (Path(adapter), run_folder(adapter), Path(base_folder))
    return next((folder for folder in folders if (folder / "tokenizer_config.json").is_file()), folders[-1])


def adapter_fingerprint(adapter: str | Path) -> str:
    """SHA-256 of an adapter's tensors and of what its configuration says of them; not of where its base lies.

    Raises UserError as `adapter_tensors` does.
    """
    next(adapter_tensors(adapter), None)
    tensors = tensors_fingerprint([Path(adapter) / WEIGHTS_FILE])
    return hashlib.sha256(f"{tensors}\0{described_by(adapter)}".encode()).hexdigest()


def described_by(adapter: str | Path) -> str:
    """What an adapter's configuration says of its tensors, as JSON; not where its base lies."""
    kept = {name: value for name, value in read_adapter_config(adapter).items() if name not in NOT_OF_THE_VERSION}
    return json.dumps(kept, sort_keys=True)


def base_fingerprint(folder: str | Path) -> str:
    """`weights_fingerprint`, read from the cache while path, size and time of the weight files are the same."""
    key = hashlib.sha256()
    for path in safetensors_files(folder):
        stat = path.stat()
        key.update(f"\0{path.resolve()}\0{stat.st_size}\0{stat.st_mtime_ns}".encode())
    path = cached(f"fingerprints/{key.hexdigest()}", lambda path: write_text(path, weights_fingerprint(folder)))
    found = path.read_text(encoding="ascii", errors="replace")
    if not SHA256.fullmatch(found):  # cut by a loss of power
        found = weights_fingerprint(folder)
        with contextlib.suppress(OSError):
            write_text(path, found)
    return found


def adapter_tensors(adapter: str | Path) -> Iterator[tuple[str, torch.Tensor]]:
    """Names and tensors of an adapter, one at a time.

    Raises UserError when there is no safetensors file or it can't be read.
    """
    path = Path(adapter) / WEIGHTS_FILE
    if not path.is_file():
        found = (
            f"has only {PICKLE_FILE}, a pickle, which can run code when loaded" if has_pickle(adapter) else "missing"
        )
        raise UserError(f"{path}: {found}; save the adapter again with PEFT 0.6 or newer, which writes safetensors")
    try:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():
                yield name, file.get_tensor(name)
    except SafetensorError as error:
        raise UserError(f"{path}: not a readable safetensors file ({error}); save or download it again") from error


def has_pickle(adapter: str | Path) -> bool:
    """Whether the folder holds adapter weights in the former, unsafe format."""
    return (Path(adapter) / PICKLE_FILE).is_file()
