"""Puts adapters on their base, and refuses what PEFT would take in silence.

    model = put_adapter(model, "runs/a", tokenizer, base_folder=base_folder)

PEFT loads an adapter of another base, NaN and a zero update without a word, and only warns of missing tensors. Here all
of these are one line.
"""

import copy
import difflib
import logging
import math
import re
import threading
import warnings
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

import torch
from peft import PeftConfig, PeftModel, PeftType, TaskType, get_peft_model_state_dict
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, PreTrainedModel

from ftkit.config.errors import UserError
from ftkit.config.foreign import foreign, tried, within
from ftkit.model.adapters.embeddings import (
    BASE_COPY,
    check_stored,
    embedding_names,
    fit_vocabulary,
    is_whole,
    replaced_weight,
    stored_vocabulary,
)
from ftkit.model.adapters.files import (
    BASE_RECORD,
    CLASSIFIER_HEADS,
    CONFIG_FILE,
    WEIGHTS_FILE,
    adapter_labels,
    adapter_tensors,
    base_fingerprint,
    described_by,
    read_adapter_config,
    recorded_base,
)  # fmt: skip
from ftkit.model.adapters.methods import keep_four_bit_gradients
from ftkit.model.loading import load_config

logger = logging.getLogger(__name__)
Shapes = Mapping[str, tuple[int, ...]]  # of tensors, by name

PATTERN_SECONDS = 2  # of the processor
SHOWN_DIGITS = 12  # of a SHA-256 in a message
LARGE_SCALING = 64  # lora_alpha over rank; published recipes stay at 4 and below
PATTERNS = ("target_modules", "exclude_modules", "layers_pattern", "rank_pattern", "alpha_pattern", "target_parameters")
PLAIN_NAME = re.compile(r"[\w.]*")  # which backtracks nowhere
LORA_FACTOR = re.compile(r"\.lora_(embedding_)?([AB])(\.weight)?$")
# Trained to a value that only a comparison with the base distinguishes from its start.
UNTOLD_START = re.compile(r"\.lora_magnitude_vector(\.weight)?$")


def check_adapter_folder(adapter: str | Path, base_folder: str | Path, *, trust_remote_code: bool = False) -> None:
    """Check an adapter against the local folder of its base without loading the weights of either into a model.

    Raises UserError, one line that names the file: another base, tensors that are missing, unknown or of another shape,
    NaN or infinity, no tensors, an adapter that changes nothing.
    """
    check_base(adapter, base_folder)
    check_tensors(adapter)
    check_fit(adapter, base_folder, trust_remote_code=trust_remote_code)


def check_fit(adapter: str | Path, base_folder: str | Path, *, trust_remote_code: bool = False) -> None:
    """Raise UserError unless the adapter's tensors are those of the base's configuration, as `check_keys` does."""
    with foreign(base_folder, "its model can't be built"):
        labels = adapter_labels(adapter, base_folder)
        auto = AutoModelForSequenceClassification if labels else AutoModelForCausalLM
        settings = {"num_labels": len(labels)} if labels else {}
        config = load_config(base_folder, trust_remote_code=trust_remote_code, **settings)
        vocabulary = stored_vocabulary(adapter)
        if vocabulary is not None:
            config.get_text_config().vocab_size = vocabulary
        with torch.device("meta"):
            model = auto.from_config(config, trust_remote_code=trust_remote_code)
    check_keys(adapter, model)


def check_base(adapter: str | Path, base_folder: str | Path) -> None:
    """Raise UserError if the adapter was trained on other weights; warn where there is no record."""
    record = recorded_base(adapter)
    if record is None:
        logger.warning("%s: has no %s, so its base could not be verified; shapes are", adapter, BASE_RECORD)
        return
    given = base_fingerprint(base_folder)
    if given != record["sha256"]:
        raise UserError(
            f'{adapter}: was trained on other weights: its base "{record["name"]}" has SHA-256 '
            f"{record['sha256'][:SHOWN_DIGITS]}, {base_folder} has {given[:SHOWN_DIGITS]}; "
            "pass its base by --model_name_or_path"
        )


def check_tensors(adapter: str | Path, *, may_do_nothing: bool = False) -> None:
    """Raise UserError unless every tensor is finite and the adapter changes something, or `may_do_nothing`.

    A LoRA whose B (or A) is zero in every module changes nothing, nor does an IA3 of ones, nor anything else of zeros.
    A DoRA's magnitudes are not looked at: B gets gradients from the first step on.
    """
    path = Path(adapter) / WEIGHTS_FILE
    config = read_adapter_config(adapter)
    neutral = 1 if config["peft_type"] == PeftType.IA3 else 0
    num_values, acts, factors = 0, False, {}
    for name, tensor in adapter_tensors(adapter):
        values = tensor.float()
        num_bad = int((~values.isfinite()).sum())
        if num_bad:
            raise UserError(
                f"{path}: tensor {name} holds NaN or infinity ({num_bad} of {values.numel()} values); "
                "take an earlier checkpoint, or train again with a lower --learning_rate"
            )
        num_values += values.numel()
        changed = bool((values != neutral).any())
        if factor := LORA_FACTOR.search(name):
            factors.setdefault(name[: factor.start()], {})[factor[2]] = changed
        elif not UNTOLD_START.search(name) and not BASE_COPY.search(name):
            acts = acts or changed
    if not num_values:
        raise UserError(f"{path}: the adapter is empty, it holds no tensors; train it again")
    is_scaled = config.get("lora_alpha") != 0 or config.get("alpha_pattern")
    if not acts and not (is_scaled and any(all(pair.values()) for pair in factors.values())):
        if not may_do_nothing:
            raise UserError(f"{path}: the adapter changes nothing, its update is zero; train it first")
        logger.warning("%s: the adapter changes nothing yet, its update is zero", path)


def check_keys(adapter: str | Path, model: PreTrainedModel, known: dict[str, Shapes] | None = None) -> None:
    """Raise UserError unless the adapter has exactly the tensors, in name and shape, that PEFT saves for this model.

    known: shapes by what a configuration says of them, kept between adapters of one model, as making them takes long.
    """
    path, key = Path(adapter) / WEIGHTS_FILE, described_by(adapter)
    known = {} if known is None else known
    if key not in known:
        try_patterns(adapter, [name for name, _ in model.named_modules()])
        known[key] = expected_shapes(model, peft_config_of(adapter))
    expected, names = known[key], embedding_names(model)
    found = {name: tuple(tensor.shape) for name, tensor in adapter_tensors(adapter)}
    missing = sorted(expected.keys() - found.keys())
    surplus = sorted(key for key in found.keys() - expected.keys() if not is_whole(key, names))
    if missing and surplus:
        pairs = ((name, difflib.get_close_matches(name, missing, n=1)) for name in surplus)
        name, near = next(((name, near[0]) for name, near in pairs if near), (surplus[0], missing[0]))
        raise UserError(
            f"{path}: has tensor {name} where {near} is expected ({len(surplus)} unknown, {len(missing)} missing); "
            "it was renamed or trained on another model: save it again, or pass its base by --model_name_or_path"
        )
    if missing:
        raise UserError(f"{path}: tensor {missing[0]} is missing ({len(missing)} of {len(expected)}); save it again")
    if surplus:
        raise UserError(f"{path}: tensor {surplus[0]} has no place in this model ({len(surplus)} such); save it again")
    for name, shape in expected.items():
        if found[name] != shape:
            raise UserError(
                f"{path}: tensor {name} has shape {found[name]} and this base needs {shape}; "
                "it was trained on another model: pass that by --model_name_or_path"
            )


def try_patterns(adapter: str | Path, names: Iterable[str]) -> None:
    """Match the patterns of an adapter's configuration to names of modules, as PEFT will.

    Raises LimitError where they backtrack without end.
    """
    config, modules = read_adapter_config(adapter), list(names)
    found = [config.get(key) or [] for key in PATTERNS]
    patterns = [pattern for value in found for pattern in (value if isinstance(value, list | dict) else [value])]
    patterns = [pattern for pattern in patterns if not PLAIN_NAME.fullmatch(str(pattern))]
    where, fix = f"{Path(adapter) / CONFIG_FILE}: matching its patterns to the modules", "look at target_modules"

    def match() -> None:
        for pattern in patterns:
            with suppress(re.error, TypeError):  # which PEFT will name
                for name in modules:
                    re.fullmatch(pattern, name)
                    re.match(rf"(.*\.)?({pattern})$", name)
                    re.match(rf".*\.{pattern}\.(\d+)\.", name)

    if threading.current_thread() is threading.main_thread():
        with within(PATTERN_SECONDS, where, fix):
            match()
    elif patterns:  # of a server, where no timer stops a thread
        tried(match, where, fix)


def peft_config_of(adapter: str | Path) -> PeftConfig:
    """The adapter's configuration as PEFT's object."""
    read_adapter_config(adapter)
    with foreign(Path(adapter) / CONFIG_FILE, "PEFT refuses it", "save the adapter again"):
        config = PeftConfig.from_pretrained(str(adapter))
    if getattr(config, "prompt_tuning_init", None):
        config.prompt_tuning_init = "RANDOM"  # its tensors are in the file: no tokenizer is loaded to make them again
    if config.task_type == TaskType.SEQ_CLS and not config.modules_to_save:
        config.modules_to_save = list(CLASSIFIER_HEADS)  # which older versions of PEFT left unsaid
    return config


def expected_shapes(model: PreTrainedModel, config: PeftConfig) -> Shapes:
    """Shapes of the tensors that PEFT saves for an adapter of this configuration on `model`, by name.

    They are read off a copy of the model that has no weights, so that neither the model nor memory is touched.
    """
    config, model_config = copy.deepcopy(config), copy.deepcopy(model.config)
    config.inference_mode = True
    if isinstance(getattr(config, "init_lora_weights", None), str):
        config.init_lora_weights = True  # PiSSA and its like decompose weights, of which there are none here
    tokens = getattr(config, "trainable_token_indices", None) or []
    rows = [row for rows in (tokens.values() if isinstance(tokens, dict) else [tokens]) for row in rows]
    sizes = model_config.get_text_config()
    sizes.vocab_size = max([sizes.vocab_size - 1, *rows]) + 1
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    with (
        foreign("the adapter", f"does not fit {model_config.model_type}"),
        torch.device("meta"),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")  # said again when the adapter is put on the model itself
        skeleton = PeftModel(type(base)._from_config(model_config), config)
    tensors = get_peft_model_state_dict(skeleton, save_embedding_layers=False)
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def put_adapter(
    model,
    adapter: str | Path,
    tokenizer,
    *,
    name: str = "default",
    base_folder: str | Path | None = None,
    is_trainable: bool = False,
) -> PeftModel:
    """Put an adapter on its base and return the PeftModel, in evaluation mode unless it is to be trained.

    model: the base, or a PeftModel that has other adapters already; the new one joins them and the active one stays.
    The vocabulary is resized first to the rows that the adapter carries, or to its tokenizer's new tokens. A 4-bit base
    must not have been evaluated before, unless `keep_four_bit_gradients` was called on it: bitsandbytes rounds its
    weights then. base_folder: local folder of the base, whose weights are compared with those recorded at training;
    None compares shapes only.
    Raises UserError as `check_adapter_folder` does, and where methods can't stand side by side.
    """
    if base_folder is not None:
        check_base(adapter, base_folder)
    check_tensors(adapter)
    keep_four_bit_gradients(model)  # also because repacked 4-bit weights are not those it was trained on
    config = peft_config_of(adapter)
    fit_vocabulary(model, adapter, len(tokenizer))
    check_keys(adapter, model)
    warn_of_scaling(adapter, config)
    if isinstance(model, PeftModel):
        check_company(model, adapter, config)
        model.load_adapter(str(adapter), adapter_name=name, is_trainable=is_trainable, torch_device="cpu")
    else:
        config.base_model_name_or_path = model.name_or_path  # PEFT looks there when it saves, if need be on the Hub
        model = PeftModel.from_pretrained(
            model, str(adapter), adapter_name=name, is_trainable=is_trainable, config=config
        )
    check_loaded(model, adapter, name)
    return model if is_trainable else model.eval()


def warn_of_scaling(adapter: str | Path, config: PeftConfig) -> None:
    """Warn of an update that is multiplied by more than anyone trains with."""
    if getattr(config, "lora_alpha", None) is None or not getattr(config, "r", 0):
        return
    scaling = config.lora_alpha / (math.sqrt(config.r) if getattr(config, "use_rslora", False) else config.r)
    if scaling > LARGE_SCALING:
        logger.warning(
            "%s: lora_alpha %g at rank %d multiplies the update by %g; expect nonsense", adapter, config.lora_alpha,
            config.r, scaling,
        )  # fmt: skip


def check_company(model: PeftModel, adapter: str | Path, config: PeftConfig) -> None:
    """Raise UserError unless the adapter can share the base with those on it, each switched without a trace."""
    if config.peft_type != model.peft_type:
        raise UserError(
            f"{adapter}: is {config.peft_type.value}, the adapters before it {PeftType(model.peft_type).value}; "
            "adapters of one method share a base: start a second command for the other"
        )
    for other in (config, *model.peft_config.values()):
        if changes_base(other):
            raise UserError(
                f"{adapter}: an adapter with init_lora_weights {other.init_lora_weights} moves the base's weights when "
                "it is loaded, so others can't share them; convert it to plain LoRA first (see PEFT's documentation)"
            )
    if replaced := replaced_weight(model, adapter):
        raise UserError(f"{adapter}: replaces the base's {replaced}, which others share; load it alone")


def changes_base(config: PeftConfig) -> bool:
    """Whether loading such an adapter subtracts something from the base's weights (PiSSA, OLoRA, CorDA, LoftQ)."""
    start = getattr(config, "init_lora_weights", None)
    return isinstance(start, str) and start.lower().split("_")[0] in ("pissa", "olora", "corda", "loftq")


def check_loaded(model: PeftModel, adapter: str | Path, name: str) -> None:
    """Raise UserError unless the adapter in the model is, value by value, the one in the file."""
    # Not model.state_dict(): it copies every weight of the base.
    state = dict(model.named_buffers(remove_duplicate=False)) | dict(model.named_parameters(remove_duplicate=False))
    loaded = get_peft_model_state_dict(model, state, adapter_name=name, save_embedding_layers=False)
    for key, tensor in adapter_tensors(adapter):
        if key in loaded:
            if not torch.equal(loaded[key].cpu(), tensor.to(loaded[key].dtype)):
                raise UserError(f"{adapter}: PEFT loaded something else as {key} than the file holds; upgrade peft")
    check_stored(model, adapter, state)
