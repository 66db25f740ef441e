"""Which files of a folder are published, and as what: an allow-list, so that nothing leaves the machine by accident.

    plan = plan_upload("runs/mine", "owner/name")
    print(format_plan(plan, "owner/name"))

Published are the weights (safetensors, .gguf), what a loader reads beside them, and what describes the run without its
rows. Never published: pickles (they can run code when loaded), checkpoints, hidden files, symbolic links, Python code
other than FTGPT's own; run.yaml (it names files of this machine, and the card lists its settings); samples.jsonl and
report.html (they hold rows of the data). The folder itself is not changed.
"""

import hashlib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path

from ftkit.config.errors import UserError
from ftkit.config.files import sha256_of
from ftkit.config.json_object import read_object
from ftkit.config.run_folder import read_run_yaml
from ftkit.data.templates.lock import LOCK_FILE, read_lock, verify_lock
from ftkit.model import configuration_ftgpt
from ftkit.model.adapters.files import base_of_adapter
from ftkit.model.adapters.loading import check_adapter_folder, check_tensors
from ftkit.model.loading import PLACE_KEYS, TOKENIZER_FILES
from ftkit.model.weights.gguf import load_gguf_tokenizer
from ftkit.model.weights.gguf_file import GgufFile
from ftkit.publish.card.eval_results import ENTRIES_FILE, entries_yaml, with_benchmark
from ftkit.publish.card.model_card import (
    base_of_folder,
    card_for,
    is_hub_id,
    is_unfilled,
    public_name,
    with_repo_id,
)
from ftkit.publish.hub.card_checks import check_card
from ftkit.publish.hub.upload_checks import check_secrets, check_vocabulary_of, check_weights

WEIGHTS = re.compile(r"(adapter_)?model(-\d{5}-of-\d{5})?\.safetensors(\.index\.json)?")
EXTRA_TEMPLATE = re.compile(r"additional_chat_templates/[\w.-]+\.jinja")
CONFIG_FILES = {"config.json", "generation_config.json", "adapter_config.json"}
ENCODER_FILES = {
    "modules.json", "sentence_bert_config.json", "config_sentence_transformers.json", "1_Pooling/config.json"
}  # fmt: skip
FOLDERS = ("additional_chat_templates", "1_Pooling")  # that are looked into
LICENSE_FILES = {"LICENSE", "LICENSE.txt", "LICENSE.md", "NOTICE", "NOTICE.txt"}
RESULT_FILES = {
    "README.md", *LICENSE_FILES, "receipt.json", "metrics.jsonl", "loss.png", "results.json", "base.json",
    LOCK_FILE, "golden.json", "merge.json", "export.json", "certificate.json", "evaluation.json",
}  # fmt: skip
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".npy", ".npz")
WITHHELD = {
    "run.yaml": "names files of this machine; the card lists its settings",
    "report.html": "holds rows of the data",
    "samples.jsonl": "holds rows of the data",
}
UNTOUCHED = (TOKENIZER_FILES | {LOCK_FILE}) - {"tokenizer_config.json"}
BINARY = (".safetensors", ".gguf", ".png", ".model")


@dataclass(frozen=True)
class UploadFile:
    """A file to publish. content: what is sent instead of what lies in the folder; note: why, in a few words."""

    name: str
    path: Path
    content: bytes | None = None
    note: str = ""

    @property
    def size(self) -> int:
        """Bytes that are sent."""
        return len(self.content) if self.content is not None else self.path.stat().st_size

    def sha256(self) -> str:
        """Of what is sent, in hexadecimal."""
        if self.content is not None:
            return hashlib.sha256(self.content).hexdigest()
        return sha256_of(self.path)


@dataclass
class UploadPlan:
    """What is published of a folder. kind: "model", "adapter" or "gguf"; skipped: (name, reason)."""

    folder: Path
    kind: str
    files: list[UploadFile]
    skipped: list[tuple[str, str]]
    warnings: list[str] = field(default_factory=list)


def plan_upload(folder: str | Path, repo_id: str, *, token: str | None = None) -> UploadPlan:
    """Choose, rewrite and check the files; nothing is sent and nothing in the folder changes.

    README.md gets the repository's id and is made where there is none; receipt.json goes without its rows; paths of
    this machine are cut to their last part. token: must not occur in any file.
    Raises UserError if the folder holds no model, a damaged or unfinite one, one that cannot load without other code,
    one without a tokenizer or with a tokenizer that does not fit, or text that looks like a secret.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; give the output folder of a run, a merge or an export")
    kind = kind_of(folder)
    chosen, skipped = choose_files(folder)
    warnings = []
    files = [rewritten(name, folder, repo_id, warnings) for name in chosen]
    if "README.md" not in chosen:
        files.append(new_card(folder, repo_id, "made for this push"))
    if entries := entries_yaml(folder):
        files.append(UploadFile(ENTRIES_FILE, folder / ENTRIES_FILE, entries.encode(), "from the benchmark"))
    plan = UploadPlan(folder, kind, sorted(files, key=lambda file: file.name), skipped, warnings)
    check_plan(plan, token)
    return plan


def kind_of(folder: Path) -> str:
    """Raises UserError for a folder that holds no adapter, model or .gguf file."""
    if (folder / "adapter_config.json").is_file():
        return "adapter"
    if (folder / "config.json").is_file():
        return "model"
    if any(folder.glob("*.gguf")):
        return "gguf"
    raise UserError(
        f"{folder}: holds no model, adapter or .gguf file; give the output folder of a run, a merge or an export"
    )


def choose_files(folder: Path) -> tuple[list[str], list[tuple[str, str]]]:
    """Names to publish, and (name, reason) of all others."""
    chosen, skipped = [], []
    shards = shard_names(folder)
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not path.is_symlink() and path.name in FOLDERS:
            inside = [f"{path.name}/{file.name}" for file in sorted(path.iterdir())]
        else:
            inside = [path.name]
        for name in inside:
            reason = reason_to_skip(folder / name, name, shards)
            if reason:
                skipped.append((name + "/" * (folder / name).is_dir(), reason))
            else:
                chosen.append(name)
    return chosen, skipped


def shard_names(folder: Path) -> set[str]:
    """Weight files that are loaded from the folder, with the index that names them."""
    names = set()
    for single, index in (("model.safetensors", "model.safetensors.index.json"),
                          ("adapter_model.safetensors", "adapter_model.safetensors.index.json")):  # fmt: skip
        if (folder / single).is_file():
            names.add(single)
        elif (folder / index).is_file():
            names |= {index, *read_object(folder / index)["weight_map"].values()}
    return names


def reason_to_skip(path: Path, name: str, shards: set[str]) -> str | None:
    """Why a file is not published; None for one that is."""
    if path.name.startswith("."):
        return "hidden"
    if path.is_symlink():
        return "a symbolic link; copy the file if it belongs here"
    if path.is_dir():
        return "a checkpoint" if name.startswith("checkpoint-") else "a folder"
    if not path.is_file():
        return "no plain file"
    if WEIGHTS.fullmatch(name):
        return None if name in shards else "weights that nothing loads, left by an earlier save"
    if name in WITHHELD:
        return WITHHELD[name]
    if name.endswith(PICKLES):
        return "a pickle or array file, which can run code when loaded"
    if name.endswith(".py"):
        return reason_to_skip_code(path, name)
    if name in TOKENIZER_FILES | CONFIG_FILES | ENCODER_FILES | RESULT_FILES or EXTRA_TEMPLATE.fullmatch(name):
        return None
    if name == "Modelfile" or name.endswith(".gguf"):
        return None
    return "not among the files that a model or its card needs"


def reason_to_skip_code(path: Path, name: str) -> str | None:
    """None for FTGPT's two code files as this version of ftkit has them."""
    if name not in configuration_ftgpt.CODE_FILES:
        return "Python code"
    own = Path(configuration_ftgpt.__file__).with_name(name)
    return None if path.read_bytes() == own.read_bytes() else "Python code that differs from ftkit's own"


def rewritten(name: str, folder: Path, repo_id: str, warnings: list[str]) -> UploadFile:
    """The file as it is published."""
    path = folder / name
    if name == "README.md":
        text = path.read_text("utf-8")
        if is_unfilled(text):
            return new_card(folder, repo_id, "made for this push: nobody filled in the folder's")
        named = with_benchmark(with_repo_id(text, repo_id), folder)
        note = "with the repository's id"
        return UploadFile(name, path) if named == text else UploadFile(name, path, named.encode(), note)
    if not name.endswith(".json") or name in UNTOUCHED or WEIGHTS.fullmatch(name):
        return UploadFile(name, path)
    original = read_object(path)
    cut = without_places if name in ("config.json", "tokenizer_config.json") else without_local_paths
    value, note = cut(original), "without this machine's paths"
    if name == "receipt.json":
        value = {key: item for key, item in value.items() if not holds_list(item)}
        note = "without rows"
    if name == "adapter_config.json":
        value["base_model_name_or_path"] = base = public_name(base_of_folder(folder, read_run_yaml(folder)))
        if not is_hub_id(base):
            warnings.append(
                f'the base "{base}" is not a model on the Hub, so others need that file to use the adapter; '
                "merging the adapter gives a model that needs nothing else"
            )
    if value == original:
        return UploadFile(name, path)
    return UploadFile(name, path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode(), note)


def holds_list(value) -> bool:
    """Whether a JSON value is or contains a list, as rows are written."""
    return isinstance(value, list) or (isinstance(value, dict) and any(map(holds_list, value.values())))


def new_card(folder: Path, repo_id: str, note: str) -> UploadFile:
    """A model card in place of the folder's."""
    return UploadFile("README.md", folder / "README.md", card_for(folder, repo_id).encode(), note)


def without_local_paths(value):
    """The same JSON value with absolute paths cut to their last part."""
    if isinstance(value, dict):
        return {key: without_local_paths(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_local_paths(item) for item in value]
    if isinstance(value, str) and re.match(r"(/|~/|[A-Za-z]:\\)[^\n]+$", value):
        return re.split(r"[/\\]", value.rstrip("/\\"))[-1]
    return value


def without_places(value):
    """The same configuration without the keys that say where its files lay; tokens and templates stay as they are."""
    if isinstance(value, dict):
        return {key: without_places(item) for key, item in value.items() if key not in PLACE_KEYS}
    return value


def check_plan(plan: UploadPlan, token: str | None) -> None:
    """Raise UserError for what must not or cannot be used by others; note what they will miss as a warning."""
    names = {file.name for file in plan.files}
    check_code(plan, names)
    if plan.kind != "gguf":
        check_loadable(plan, names)
    elif read_lock(plan.folder):
        for path in plan.folder.glob("*.gguf"):
            verify_lock(plan.folder, load_gguf_tokenizer(GgufFile(path)))
    for file in plan.files:
        if file.name == "README.md":
            content = file.path.read_bytes() if file.content is None else file.content
            plan.warnings += check_card(str(file.path), content.decode("utf-8", errors="replace"))
        if not file.name.endswith(BINARY):
            check_secrets(file.path, file.content, token)


def check_loadable(plan: UploadPlan, names: set[str]) -> None:
    """Raise UserError unless weights and tokenizer are there, whole, and fit each other."""
    weights = [plan.folder / name for name in sorted(shard_names(plan.folder)) if name.endswith(".safetensors")]
    if not weights:
        raise UserError(f"{plan.folder}: holds no weights in safetensors; only those are published")
    check_weights(weights)
    if not names & {"tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model"}:
        raise UserError(f"{plan.folder}: holds no tokenizer; save the one it was trained with there")
    tokenizer = check_vocabulary_of(plan.folder, weights if plan.kind == "model" else [])
    if not tokenizer.chat_template:
        plan.warnings.append("the tokenizer has no chat template: chat and servers will not know how to ask it")
    verify_lock(plan.folder, tokenizer)
    if plan.kind == "adapter":
        check_adapter(plan.folder)


def check_adapter(folder: Path) -> None:
    """Raise UserError for an adapter that changes nothing or, where its base is here, does not belong to it."""
    base = base_of_adapter(folder)
    if Path(base).is_dir():
        check_adapter_folder(folder, base)
    else:
        check_tensors(folder)


def check_code(plan: UploadPlan, names: set[str]) -> None:
    """Raise UserError for a model whose config names code that is not published."""
    if plan.kind != "model":
        return
    auto_map = read_object(plan.folder / "config.json").get("auto_map") or {}
    targets = [target for value in auto_map.values() for target in (value if isinstance(value, list) else [value])]
    for target in filter(None, targets):
        file = target.split(".")[0] + ".py"
        if "--" not in target and file not in names:
            reason = dict(plan.skipped).get(file, "missing")
            raise UserError(
                f"{plan.folder}: its config.json loads {file}, which is not published ({reason}); "
                "load the model with this version of ftkit and save it again, or export it to a plain class"
            )


def format_plan(plan: UploadPlan, repo_id: str) -> str:
    """The exact list of files with their sizes, what is left out and why, and what others will miss."""
    width = max(len(name) for name in [file.name for file in plan.files] + [name for name, _ in plan.skipped])
    total = format_size(sum(file.size for file in plan.files))
    lines = [f"{len(plan.files)} files, {total}, of {plan.folder} for {repo_id}:"]
    lines += [f"  {file.name:<{width}}  {format_size(file.size):>10}  {file.note}".rstrip() for file in plan.files]
    if plan.skipped:
        lines += ["not pushed:", *(f"  {name:<{width}}  {reason}" for name, reason in plan.skipped)]
    return "\n".join([*lines, *(f"note: {warning}" for warning in plan.warnings)])


def format_size(num_bytes: int) -> str:
    """With its unit: B, KiB, MiB or GiB."""
    for unit, scale in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if num_bytes >= scale:
            return f"{num_bytes / scale:.1f} {unit}"
    return f"{num_bytes} B"
