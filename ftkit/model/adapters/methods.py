"""What is trained: PEFT configurations, quantisation, frozen layers."""

import copy
import logging
import re

import torch
from peft import LoraConfig, PromptTuningConfig, TaskType
from peft.tuners.tuners_utils import check_target_module_exists
from torch import nn
from transformers import BitsAndBytesConfig

from ftkit.config.errors import UserError, did_you_mean
from ftkit.config.versions import has_fused_head

logger = logging.getLogger(__name__)


def quantization_config(model_args, dtype: str | None) -> BitsAndBytesConfig | None:
    """bitsandbytes settings of --load_in_4bit or --load_in_8bit, multiplied in `dtype`; None for neither."""
    if model_args.load_in_4bit:
        return four_bit_config(
            dtype,
            quant_type=model_args.bnb_4bit_quant_type,
            double_quant=model_args.use_bnb_nested_quant,
            storage=model_args.bnb_4bit_quant_storage,
        )
    return BitsAndBytesConfig(load_in_8bit=True) if model_args.load_in_8bit else None


def four_bit_config(dtype: str | None, *, quant_type="nf4", double_quant=True, storage=None) -> BitsAndBytesConfig:
    """4-bit weights, nf4 and doubly quantised by default, multiplied in `dtype` (QLoRA, arXiv:2305.14314)."""
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=quant_type,
        bnb_4bit_use_double_quant=double_quant,
        bnb_4bit_compute_dtype=getattr(torch, dtype or "", torch.float32),
        bnb_4bit_quant_storage=storage,
    )


def keep_four_bit_gradients(model) -> None:
    """Stop bitsandbytes from repacking 4-bit weights for inference while a model is trained.

    On a CPU with AVX512-BF16 it does so at the first evaluation, and its packed product has no backward: every gradient
    below it would be wrong from then on, with no more than a warning.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def peft_config(model_args, model, added_tokens: list[int]):
    """The PEFT configuration of the settings, or None for a full fine-tune and for an adapter that is trained on.

    added_tokens: ids of new template tokens; their rows in the embedding, and in an untied head, are trained and saved.
    """
    if not model_args.use_peft or model_args.adapter:
        return None
    if model_args.peft_method == "prompt_tuning":
        if added_tokens:
            raise UserError(
                "--add_template_tokens needs trained rows, which prompt tuning does not have; use --peft_method lora"
            )
        return PromptTuningConfig(task_type=TaskType.CAUSAL_LM, num_virtual_tokens=model_args.num_virtual_tokens)
    if added_tokens and not can_train_added_tokens():
        raise UserError("--add_template_tokens needs TRL 1.16 or newer (Python 3.11); drop it or upgrade")
    targets = model_args.lora_target_modules  # TRL takes a single name out of its list; PEFT reads it as a pattern then
    if isinstance(targets, str) and re.fullmatch(r"[\w.]+", targets) and targets != "all-linear":
        targets = [targets]
    config = LoraConfig(
        task_type=TaskType.CAUSAL_LM,
        r=model_args.lora_r,
        lora_alpha=model_args.lora_alpha,
        lora_dropout=model_args.lora_dropout,
        target_modules="all-linear" if targets in (["all-linear"], "all-linear", None) else targets,
        target_parameters=model_args.lora_target_parameters,
        modules_to_save=model_args.lora_modules_to_save,
        use_rslora=model_args.use_rslora,
        use_dora=model_args.use_dora,
        trainable_token_indices=trainable_tokens(model, added_tokens, model_args.lora_modules_to_save) or None,
    )
    check_whole_modules(model, config)
    check_targets(model, config)
    tied = tied_targets(model, config)
    if tied:
        raise UserError(
            f"--lora_target_modules takes in {tied[0]}: embedding and head are one tensor in this model, so a "
            "merge would change both; leave it out (--add_template_tokens trains new tokens), or train all weights"
        )
    return config


def check_targets(model, config) -> None:
    """Raise UserError where the modules or parameters that an adapter is to train match nothing in the model."""
    names = [name for name, _ in model.named_modules()]
    parameters = [f".{name}" for name, _ in model.named_parameters()]
    for one in config.target_parameters or ():
        if not any(name.endswith(f".{one}") for name in parameters):
            raise UserError(
                f"--lora_target_parameters {one}: no parameter of the model has that name, as {parameters[0][1:]} is"
            )
    if config.target_modules == "all-linear" or any(check_target_module_exists(config, name) for name in names):
        return
    linear = sorted({name.rpartition(".")[2] for name, part in model.named_modules() if isinstance(part, nn.Linear)})
    raise UserError(
        f"--lora_target_modules {config.target_modules}: no module of the model has that name; linear ones are "
        f"{', '.join(linear)}"
    )


def check_whole_modules(model, config) -> None:
    """Raise UserError where --lora_modules_to_save names nothing, a list of layers, or what LoRA adapts itself."""
    modules, adapts_all = dict(model.named_modules()), config.target_modules == "all-linear"
    adapting = copy.copy(config)
    adapting.modules_to_save = None  # which PEFT takes out of what LoRA adapts, and then fails
    for wanted in config.modules_to_save or []:
        found = [name for name in modules if name.endswith(wanted)]  # as PEFT looks for them
        flag = f"--lora_modules_to_save {wanted}"
        if not found:
            hint = did_you_mean(wanted, {name.rpartition(".")[2] for name in modules})
            raise UserError(f"{flag}: no module of the model has that name{hint}")
        if any(isinstance(modules[name], nn.ModuleList | nn.ModuleDict) for name in found):
            raise UserError(f"{flag}: is a list of modules; name those in it, such as {found[0]}.0")
        heads = (model.get_input_embeddings(), model.get_output_embeddings())
        for name in found:
            is_linear = isinstance(modules[name], nn.Linear) and not any(modules[name] is head for head in heads)
            if is_linear if adapts_all else check_target_module_exists(adapting, name):
                raise UserError(f"{flag}: LoRA adapts {name} already; take it out of one of the two")


def tied_targets(model, config) -> list[str]:
    """Names of the embedding and the head that a LoRA configuration adapts although they share one tensor."""
    if not getattr(model.config.get_text_config(), "tie_word_embeddings", False):
        return []
    wanted = (model.get_input_embeddings(), model.get_output_embeddings())
    names = [name for name, module in model.named_modules() if any(module is other for other in wanted)]
    if config.target_modules in (None, "all-linear"):  # PEFT leaves embedding and head out of these
        return []
    return [name for name in names if check_target_module_exists(config, name)]


def can_train_added_tokens() -> bool:
    """Whether the installed TRL has the loss head that ftkit's takes over; before 1.16 it fails on added tokens."""
    return has_fused_head()


def trainable_tokens(model, added_tokens: list[int], whole: list[str] | None = None) -> dict[str, list[int]]:
    """Rows of the embedding to train and, where the head is not tied to it, the same rows of the head.

    whole: modules that are trained as a whole, the added rows with them.
    """
    if not added_tokens:
        return {}
    modules = {id(module): name for name, module in model.named_modules()}
    names = [modules[id(model.get_input_embeddings())]]
    if not model.config.tie_word_embeddings:
        names.append(modules[id(model.get_output_embeddings())])
    return {name: added_tokens for name in names if not any(name.endswith(module) for module in whole or [])}


def freeze_layers(model, num_frozen_layers: int) -> None:
    """Freeze the embeddings and the first `num_frozen_layers` decoder layers.

    Raises UserError when the model has no more layers than that.
    """
    layers = model.get_decoder().layers
    if num_frozen_layers >= len(layers):
        raise UserError(
            f"--num_frozen_layers {num_frozen_layers} leaves nothing to train: the model has {len(layers)} layers"
        )
    for module in (model.get_input_embeddings(), *layers[:num_frozen_layers]):
        module.requires_grad_(False)


def count_parameters(model) -> tuple[int, int]:
    """(trained, all) parameters; a 4-bit weight counts its elements, not its bytes."""
    trained = total = 0
    for parameter in model.parameters():
        num = parameter.numel()
        if parameter.__class__.__name__ == "Params4bit":
            num = parameter.quant_state.shape.numel() if parameter.quant_state else num * 2
        total += num
        trained += num if parameter.requires_grad else 0
    return trained, total
