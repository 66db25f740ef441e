"""Merges an adapter into its base: a plain model folder that loads without PEFT.

    merge_adapter("runs/a", "merged", dtype="bfloat16")

The base is loaded in float32, the update added in float32, and the sum rounded to `dtype` once. An adapter of a
quantised base (QLoRA) is merged into the dequantised weights, which are the ones it was trained on.
"""

import logging
import warnings
from pathlib import Path
from types import SimpleNamespace

import torch
from peft import PeftConfig, PeftModel
from transformers import BitsAndBytesConfig, GenerationConfig, PreTrainedModel

from ftkit.config.disk import require_room
from ftkit.config.errors import UserError
from ftkit.config.files import staged_folder
from ftkit.config.json_object import read_object
from ftkit.data.templates.lock import copy_lock, verify_lock
from ftkit.model.adapters.embeddings import tied_adapted, untie
from ftkit.model.adapters.files import (
    adapter_labels,
    recorded_base,
    resolve_base,
    run_folder,
    run_settings,
    tokenizer_folder,
)
from ftkit.model.adapters.loading import peft_config_of, put_adapter, try_patterns
from ftkit.model.adapters.methods import keep_four_bit_gradients, quantization_config, tied_targets
from ftkit.model.classifier import REGRESSION, load_classifier, stored_problem, unquantised_head
from ftkit.model.finite import check_finite
from ftkit.model.loading import load_model, load_tokenizer
from ftkit.model.weights.shards import num_weights

MERGED_DTYPES = ("float32", "bfloat16", "float16")
QUANTIZATION_DEFAULTS = {
    "load_in_4bit": False, "load_in_8bit": False, "dtype": "float32", "bnb_4bit_quant_type": "nf4",
    "use_bnb_nested_quant": True, "bnb_4bit_quant_storage": None,
}  # fmt: skip


def merge_adapter(
    adapter: str | Path,
    output_dir: str | Path,
    *,
    base: str | None = None,
    dtype: str = "float32",
    as_trained: bool = True,
    trust_remote_code: bool = False,
) -> Path:
    """Write base plus adapter as one model folder with tokenizer, chat template and generation config; return it.

    base: folder, Hub id or .gguf; None takes the one the run names. dtype: of the written weights. as_trained: merge
    into the weights the adapter was trained on, which for a run with --load_in_4bit are the dequantised ones; False
    takes the base's own. Needs memory for the base in float32. The folder appears whole or not at all.
    Raises UserError for an adapter that fails the checks of `put_adapter` or of its template lock, that has nothing to
    merge (soft prompts), and for a used `output_dir`. An embedding that is tied to the head and adapted apart from it
    is untied.
    """
    if dtype not in MERGED_DTYPES:
        raise UserError(f"dtype {dtype}; allowed are {', '.join(MERGED_DTYPES)}")
    config = peft_config_of(adapter)
    check_method(adapter, config)
    folder = resolve_base(adapter, base)
    require_room(output_dir, num_weights(folder) * getattr(torch, dtype).itemsize)
    with staged_folder(output_dir) as staging:
        tokenizer = load_tokenizer(tokenizer_folder(adapter, folder), trust_remote_code=trust_remote_code)
        verify_lock(adapter, tokenizer)
        quantization = trained_quantization(adapter) if as_trained else None
        model = load_base(folder, adapter, quantization, trust_remote_code=trust_remote_code)
        if getattr(model, "hf_quantizer", None) is not None:
            model = dequantise(model)
        try_patterns(adapter, [name for name, _ in model.named_modules()])
        is_apart = tied_adapted(model, config, tied_targets(model, config))
        model = put_adapter(model.float(), adapter, tokenizer, base_folder=folder)
        check_biases(adapter, model)
        if is_apart:
            untie(model)
        model = model.merge_and_unload()
        source = next(
            (path for path in (Path(adapter), run_folder(adapter)) if (path / "generation_config.json").is_file()), None
        )
        if source:
            model.generation_config = GenerationConfig.from_pretrained(source)
        model.to(getattr(torch, dtype))
        check_finite(model, adapter)
        model.save_pretrained(staging)
        tokenizer.save_pretrained(staging)
        copy_lock(adapter, staging)
    return Path(output_dir)


def dequantise(model: PreTrainedModel) -> PreTrainedModel:
    """The model with its quantised weights as plain float32 ones, ready to be saved."""
    logger = logging.getLogger("transformers.integrations.bitsandbytes")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it warns that it does what it is asked
    try:
        model = model.dequantize(dtype=torch.float32)
    finally:
        logger.setLevel(level)
    model._weight_conversions = None  # those of the quantised tensors, which `save_pretrained` would undo
    return model


def check_method(adapter: str | Path, config: PeftConfig) -> None:
    """Raise UserError for a method whose result is not a change of the base's weights."""
    if config.is_prompt_learning or config.is_adaption_prompt:
        method = config.peft_type.value.lower().replace("_", " ")
        raise UserError(f"{adapter}: {method} changes no weights, so there is nothing to merge; use it by --adapter")


def check_biases(adapter: str | Path, model: PeftModel) -> None:
    """Raise UserError where LoRA has trained the bias of a module that has none in the base: nothing can take it."""
    for name, module in model.get_base_model().named_modules():
        biases = {key for key, added in getattr(module, "lora_bias", {}).items() if added}
        if biases and getattr(module.base_layer, "bias", None) is None:
            raise UserError(f"{adapter}: has a bias for {name}, which has none in the base; use it by --adapter")


def trained_quantization(adapter: str | Path) -> BitsAndBytesConfig | None:
    """How the base of an adapter was quantised in training, by the run's run.yaml; None if it was not."""
    settings = {**QUANTIZATION_DEFAULTS, **run_settings(adapter)}
    return quantization_config(SimpleNamespace(**settings), settings["dtype"])


def load_base(
    folder: str | Path,
    adapter: str | Path,
    quantization: BitsAndBytesConfig | None,
    *,
    dtype: str = "float32",
    attn_implementation: str | None = None,
    trust_remote_code: bool = False,
) -> PreTrainedModel:
    """The base of an adapter: in `dtype`, or quantised from the precision in which training quantised it.

    For a classifier's adapter it has a head, which the adapter replaces.
    """
    own = read_object(Path(folder) / "config.json").get("quantization_config")
    if own and own.get("quant_method") != "bitsandbytes":
        raise UserError(f"{folder}: is quantised by {own.get('quant_method')}; merge into the unquantised model")
    quantization = BitsAndBytesConfig.from_dict(own) if own else quantization
    dtype = run_settings(adapter).get("dtype", "float32") if quantization else dtype
    labels = adapter_labels(adapter, folder)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="You passed `quantization_config`")  # the folder's own, as it is
        settings = {
            "dtype": dtype, "attn_implementation": attn_implementation, "trust_remote_code": trust_remote_code,
        }  # fmt: skip
        if labels is None:
            model = load_model(folder, quantization_config=quantization, **settings)
        else:
            tokenizer = load_tokenizer(tokenizer_folder(adapter, folder), trust_remote_code=trust_remote_code)
            quantization = unquantised_head(folder, quantization, trust_remote_code=trust_remote_code)
            settings |= {"quantization_config": quantization, "pad_token_id": tokenizer.pad_token_id}
            if len(labels) == 1:
                settings["problem_type"] = REGRESSION
            elif recorded_base(adapter) is None:  # of PEFT alone; ours choose one class
                settings["problem_type"] = stored_problem(folder)
            model = load_classifier(folder, labels, **settings).model
    keep_four_bit_gradients(model)
    return model
