"""What the files of a model or an adapter may ask for, so that reading them ends: sizes far beyond any that is known.

config = check_model_files(folder)
"""

import re
from pathlib import Path
from typing import Any

from ftkit.config.errors import UserError
from ftkit.config.foreign import tried
from ftkit.config.json_object import read_object

FIX = "take another model, or download it again"
JSON_FILES = (
    "config.json", "generation_config.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "model.safetensors.index.json",
)  # fmt: skip
SETTINGS = {"config.json", "generation_config.json"}
LAYERS = re.compile(r"(num|n)_(\w+_)?layers?|\w+_layers")
MAX_LAYERS, MAX_SIZE = 2**12, 2**31
SIZES = {
    "vocab_size": 2**24,
    "hidden_size": 2**20,
    "n_embd": 2**20,
    "d_model": 2**20,
    "num_labels": 2**20,
    "num_beams": 2**10,
}
TOKEN_IDS = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")
MAX_RANK, MAX_VIRTUAL_TOKENS = 2**16, 2**20
MAX_ADDED_TOKENS, MAX_TOKENIZER_BYTES = 2**16, 2**28
# Where a pattern backtracks, or a normalizer makes of each letter many.
TRIAL_TEXT = "".join(letter * 40 for letter in "a e1.\n") + "Ab, c'd 12! \u00e9\u9ce5" + " Aa1." * 12
TOKENIZER_FIX = "take the tokenizer of another model"


def check_model_files(folder: Path) -> dict:
    """The config.json of a model's folder. Raises UserError where it, or a JSON file beside it, asks for too much."""
    found = {name: read_object(folder / name, FIX) for name in JSON_FILES if (folder / name).is_file()}
    config = found["config.json"]
    for name in SETTINGS & found.keys():
        for key, value in _items(found[name]):
            check_setting(folder / name, key, value)
    if not isinstance(config.get("model_type", ""), str):
        raise UserError(f"{folder / 'config.json'}: model_type is not text; {FIX}")
    return config


def check_setting(path: Path, key: str, value: Any) -> None:
    """Raise UserError for one setting of a configuration that is out of all reason, or would run code."""
    limit = MAX_LAYERS if LAYERS.fullmatch(key) else SIZES.get(key)
    if isinstance(value, int) and value > (limit or MAX_SIZE):
        raise UserError(f"{path}: {key} is {value:,}, more than any model has; {FIX}")
    if isinstance(value, int) and limit and value < 0:
        raise UserError(f"{path}: {key} is {value}; {FIX}")
    if key in ("attn_implementation", "_attn_implementation") and "/" in str(value):
        raise UserError(f"{path}: {key} {value} would run code of that repository; take it out of the file")
    ids = value if isinstance(value, list) else [value]
    if key in TOKEN_IDS and not all(token is None or isinstance(token, int) for token in ids):
        raise UserError(f"{path}: {key} is {value!r:.40}, not a token id; {FIX}")


def _items(config: dict) -> list[tuple[str, Any]]:
    """Settings of a configuration and of those inside it."""
    found: list[tuple[str, Any]] = []
    for key, value in config.items():
        found += _items(value) if isinstance(value, dict) else [(key, value)]
    return found


def check_adapter_config(path: Path, config: dict) -> None:
    """Raise UserError where an adapter's configuration asks for too much, or for code to be run."""
    fix = "save the adapter again, or take another"
    base = config.get("base_model_name_or_path")
    if base is not None and not isinstance(base, str):
        raise UserError(f"{path}: base_model_name_or_path is not text; {fix}")
    if config.get("megatron_config"):  # PEFT would import the module named beside it
        raise UserError(f"{path}: megatron_config names code to import; set it to null")
    if (config.get("tokenizer_kwargs") or {}) != {}:  # PEFT would load a tokenizer by them
        raise UserError(f"{path}: tokenizer_kwargs may ask for code to be run; set it to null")
    tokens = config.get("trainable_token_indices") or []
    for ids in tokens.values() if isinstance(tokens, dict) else [tokens]:
        if not isinstance(ids, list) or not all(type(token) is int and token >= 0 for token in ids):
            raise UserError(f"{path}: trainable_token_indices are not token ids; {fix}")
    replicated = config.get("layer_replication") or []
    try:
        num_layers = sum(abs(int(end) - int(start)) for start, end in replicated)
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: layer_replication is not a list of [start, end]; {fix}") from error
    if num_layers > MAX_LAYERS:
        raise UserError(f"{path}: layer_replication makes {num_layers:,} layers, more than any model has; {fix}")
    needed = ("r", "lora_alpha") if config["peft_type"] == "LORA" else ()
    for key, most in (("r", MAX_RANK), ("num_virtual_tokens", MAX_VIRTUAL_TOKENS), ("lora_alpha", MAX_SIZE)):
        value = config.get(key)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if (value is None and key not in needed) or (
            is_number and (key == "lora_alpha" or value >= 1) and value <= most
        ):
            continue
        raise UserError(f"{path}: {key} is {value!r:.40}, expected a number up to {most:,}; {fix}")


def check_tokenizer_file(folder: Path) -> None:
    """Raise UserError for a tokenizer.json that takes long to read."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        return
    if path.stat().st_size > MAX_TOKENIZER_BYTES:
        raise UserError(f"{path}: is larger than {MAX_TOKENIZER_BYTES >> 20} MiB; {TOKENIZER_FIX}")
    num_added = path.read_bytes().count(b'"single_word"')
    if num_added > MAX_ADDED_TOKENS:
        raise UserError(f"{path}: has {num_added:,} added tokens, of at most {MAX_ADDED_TOKENS:,}; {TOKENIZER_FIX}")


def try_tokenizer(tokenizer: Any, folder: str | Path) -> None:
    """Raise LimitError for a tokenizer whose patterns or replacements hang, or take all memory.

    UserError for one whose greatest length is no number.
    """
    if not isinstance(tokenizer.model_max_length, int | float):
        raise UserError(f"{folder}: its tokenizer's model_max_length is not a number; {TOKENIZER_FIX}")
    backend = getattr(tokenizer, "backend_tokenizer", None)
    parts = (getattr(backend, "normalizer", None), getattr(backend, "pre_tokenizer", None))
    states = [part.__getstate__() for part in parts if part is not None]
    if any(b'"Regex"' in state or b'"Replace"' in state for state in states):
        tried(lambda: tokenizer(TRIAL_TEXT), f"{folder}: its tokenizer", TOKENIZER_FIX)
