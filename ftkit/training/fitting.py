"""What fits the device: the memory of a step, recomputed activations, fused layers and the kernel of the loss head."""

import dataclasses
import os

from ftkit.config.estimate import EIGHT_BIT_BYTES, FOUR_BIT_BYTES, Shape, Work, peak_memory_gib
from ftkit.config.settings.needs import plain
from ftkit.training.decided import Facts

MEMORY_SHARE = 0.85  # of a device's memory that the estimate may fill before activations are recomputed
FEW_LOGITS = 256 * 49_152  # of a batch; so few are scored faster whole
SURE_SHARE_OF_LORA = 0.8  # of the weights that a LoRA on all linear layers is estimated to have
MOMENTS = {"adamw_torch": 2, "adamw_torch_fused": 2}  # that an optimizer keeps of each weight, as the weight is stored
KERNEL_VARIABLE = "FTKIT_LOSS_HEAD"  # names the loss head's kernel


def memory(asked, facts: Facts, values: dict, reasons: dict) -> dict:
    """The estimated peak, and whether activations are recomputed: only where memory asks for it."""
    training, hardware = asked.training, facts.hardware
    wanted = training.activation_checkpointing
    wanted = training.gradient_checkpointing if wanted is None else wanted
    work = work_of(asked, facts, values)
    without = peak_memory_gib(facts.shape, work)
    checkpointing = without > MEMORY_SHARE * hardware.memory_gib if wanted is None else wanted
    estimate = peak_memory_gib(facts.shape, dataclasses.replace(work, checkpointing=bool(checkpointing)))
    if wanted is None:
        reasons["activation_checkpointing"] = (
            f"about {without:.1f} GiB without it, {hardware.memory_gib:.0f} GiB are there"
        )
    return {
        "activation_checkpointing": bool(checkpointing),
        "num_parameters": facts.shape.num_parameters,
        "peak_memory_gib": round(estimate, 2),
        "checkpoint_bytes": checkpoint_bytes(asked, facts.shape, values["dtype"]),
    }


def checkpoint_bytes(asked, shape: Shape, dtype: str) -> int:
    """Bytes of a checkpoint's tensors at least, or of the result where no checkpoints are written: what is not known
    here, such as which modules an adapter is on, counts nothing."""
    model, training = asked.model, asked.training
    if model.use_peft or model.adapter:  # PEFT keeps an adapter in float32
        is_on_all = model.lora_target_modules in (None, "all-linear", ["all-linear"])
        is_known = is_on_all and model.peft_method == "lora" and not model.adapter
        num_saved, stored = shape.num_lora(model.lora_r) * SURE_SHARE_OF_LORA if is_known else 0, 4
    else:
        num_saved, stored = shape.num_parameters, 4 if dtype == "float32" else 2
    some_frozen = model.num_frozen_layers or getattr(model, "num_trained_layers", None)
    has_state = plain(training.save_strategy) != "no" and not training.save_only_model and not some_frozen
    kept = MOMENTS.get(plain(training.optim), 0) * stored if has_state else 0
    return int(num_saved * (stored + kept))


def work_of(asked, facts: Facts, values: dict) -> Work:
    """What a forward pass holds, for the memory estimate, without recomputed activations."""
    model, shape = asked.model, facts.shape
    has_reference = getattr(asked.training, "precompute_ref_log_probs", None) is False
    has_reference = has_reference and not getattr(asked.training, "is_reference_free", False)
    row = values["block_length"] or max(facts.lengths, default=values["max_length"] or 0)
    rows = values["per_device_train_batch_size"] * getattr(asked.training, "sequences_per_row", 1)
    rounds = getattr(asked.training, "ternary", False)  # all weights, at each use
    copies = 2 if (has_reference and not model.use_peft) or rounds else 1
    stored = 2.0 if values["dtype"] in ("bfloat16", "float16") else 4.0
    stored = FOUR_BIT_BYTES if model.load_in_4bit else EIGHT_BIT_BYTES if model.load_in_8bit else stored
    half = values["bf16"] or bool(asked.training.fp16)
    return Work(
        tokens=rows * row,
        num_trained=shape.num_lora(model.lora_r) if model.use_peft else shape.num_parameters,
        weight_bytes=stored,
        half=half,
        autocast=half and stored == 4.0,
        checkpointing=False,
        copies=copies,
        on_gpu=not values["use_cpu"],
    )


def kernels(asked, facts: Facts, values: dict, reasons: dict) -> dict:
    """Fused layers and the kernel of the loss head."""
    model, training = asked.model, asked.training
    plain_lora = model.use_peft and model.peft_method == "lora" and not (model.use_dora or model.lora_dropout)
    can_fuse = plain_lora and values["use_cpu"] and not (model.load_in_4bit or model.load_in_8bit)
    if training.fused_lora and not can_fuse:
        reasons["fused_lora"] = "asked for, without effect: plain LoRA layers are fused on a CPU only"
    fuse = can_fuse and training.fused_lora is not False
    return {"fused_lora": fuse, "loss_head": loss_head(asked, facts, values, reasons)}


def loss_head(asked, facts: Facts, values: dict, reasons: dict) -> str:
    """The kernel of the loss head, "off" for the model's own loss."""
    training = asked.training
    if training.compact_loss_head is False:
        return "off"
    block_size = getattr(asked.data, "block_size", None)
    num_logits = values["per_device_train_batch_size"] * (block_size or 0) * facts.shape.vocab_size
    is_open = training.compact_loss_head is None and training.loss_head_kernel == "auto"
    if is_open and block_size and num_logits <= FEW_LOGITS:
        reasons["loss_head"] = "so few logits are scored faster whole"
        return "off"
    named = training.loss_head_kernel
    named = os.environ.get(KERNEL_VARIABLE, "auto") if named == "auto" else named
    if named != "auto":
        return named
    if values["use_cpu"] or facts.head_kernel is None:
        reasons["loss_head"] = "scores trained tokens only, in chunks"
        return "compact"
    reasons["loss_head"] = "the faster one, timed on this device"
    return facts.head_kernel
