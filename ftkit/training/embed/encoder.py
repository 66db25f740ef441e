"""An encoder and its pooling as one sentence-transformers model; LoRA put on it, and merged at the end of the run.

encoder = load_encoder(folder, max_length=256, dtype="float32")    # Transformer, Pooling, Normalize
"""

from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, TaskType, get_peft_model, set_peft_model_state_dict
from safetensors.torch import load_file
from transformers.utils import logging as hf_logging

from ftkit.config.foreign import foreign
from ftkit.inference.sentences import MEAN, SentenceModel, check_parts, has_parts
from ftkit.model.adapters.methods import peft_config
from ftkit.model.finite import check_loaded
from ftkit.model.weights.shards import safetensors_files

ADAPTER_FILE = "adapter_model.safetensors"


def load_encoder(
    folder: str, *, max_length: int, dtype: str, pooling: str | None = None, attn_implementation: str | None = None,
    trust_remote_code: bool = False,
) -> Any:  # fmt: skip
    """A SentenceTransformer of a local folder on the CPU, its weights trained but for a pooler that nothing uses.

    A folder without a pooling of its own gets `pooling`, or the mean, and vectors of length 1.
    Raises UserError for one that does not load, or has parts other than pooling and normalisation.
    """
    check_parts(Path(folder))
    model = {
        "dtype": dtype if dtype == "auto" else getattr(torch, dtype), "use_safetensors": True,
        "attn_implementation": attn_implementation,
    }  # fmt: skip
    verbosity = hf_logging.get_verbosity()
    hf_logging.set_verbosity_error()  # that a pooler is new, or a head unused, is no news
    try:
        with foreign(folder, "does not load as an encoder"):
            encoder = (whole if has_parts(Path(folder)) else plain)(
                folder, model, {"model_max_length": max_length}, trust_remote_code
            )
    finally:
        hf_logging.set_verbosity(verbosity)
    if pooling:
        encoder[1].pooling_mode = pooling
    check_loaded(encoder[0].model, safetensors_files(folder))
    for name, weight in encoder.named_parameters():
        weight.requires_grad_(".pooler." not in name)
    return encoder


def whole(folder: str, model: dict, tokenizer: dict, trust_remote_code: bool):
    """The SentenceTransformer of a folder in sentence-transformers' form. model, tokenizer: how they are loaded."""
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(
        folder, device="cpu", trust_remote_code=trust_remote_code, local_files_only=True, model_kwargs=model,
        processor_kwargs=tokenizer,
    )  # fmt: skip


def plain(folder: str, model: dict, tokenizer: dict, trust_remote_code: bool):
    """A new SentenceTransformer of a plain encoder: the mean of its states, of length 1."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer import modules

    trust = {"trust_remote_code": trust_remote_code}
    states = modules.Transformer(
        folder, model_kwargs=model | trust, processor_kwargs=tokenizer | trust, config_kwargs=trust
    )
    parts = [states, modules.Pooling(states.get_embedding_dimension(), MEAN), modules.Normalize()]
    return SentenceTransformer(modules=parts, device="cpu", trust_remote_code=trust_remote_code)


def put_lora(encoder, model_args) -> None:
    """Put the LoRA of the settings on an encoder; nothing without --use_peft."""
    config = peft_config(model_args, encoder[0].model, [])
    if config is not None:
        config.task_type = TaskType.FEATURE_EXTRACTION
        encoder[0].model = get_peft_model(encoder[0].model, config)


def merge_lora(encoder) -> None:
    """Merge the LoRA into the weights, in float32: what is saved is an encoder like any other."""
    if isinstance(encoder[0].model, PeftModel):
        dtype = encoder[0].model.dtype
        encoder[0].model = encoder[0].model.float().merge_and_unload().to(dtype)


def load_checkpoint(encoder, folder: str) -> None:
    """Give an encoder the weights of a checkpoint, or its LoRA those of the checkpoint's."""
    inner = encoder[0].model
    if isinstance(inner, PeftModel):
        set_peft_model_state_dict(inner, load_file(Path(folder) / ADAPTER_FILE))
        return
    saved = load_encoder(folder, max_length=encoder[0].tokenizer.model_max_length, dtype=str(inner.dtype)[6:])
    encoder.load_state_dict(saved.state_dict())


def sentence_model(encoder, tokenizer) -> SentenceModel:
    """The encoder as a server or an index asks it."""
    parts = [type(part).__name__ for part in encoder]
    return SentenceModel(
        "the encoder", encoder[0].model, tokenizer, max_length=tokenizer.model_max_length,
        pools_first=encoder[1].pooling_mode == "cls", normalizes="Normalize" in parts,
    )  # fmt: skip
