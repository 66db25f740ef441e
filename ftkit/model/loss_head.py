"""Compact loss head at the one seam that all TRL trainers share: `model(..., labels=..., fused_lm_head=True)`.

TRL patches the model's forward with a chunked head that, without Triton, scores padding and prompt too and recomputes
the logits in backward. `use_compact_loss_head` takes over that patch: rows with an ignored label are dropped before the
vocabulary projection and gradients are formed in forward (ftkit.model.chunked_log_probs).
"""

import functools
import inspect
import logging
import types
from collections.abc import Callable

import torch
from peft import PeftModel
from peft.utils.other import ModulesToSaveWrapper, TrainableTokensWrapper
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled
from trl.trainer.utils import FusedCausalLMOutput

from ftkit.model.chunked_log_probs import OUTPUTS, HeadSettings, LinearHead, chunked_log_probs

# B batch, T tokens, N kept rows, D hidden

logger = logging.getLogger(__name__)

IGNORE_INDEX = -100  # label that cross-entropy skips
SETTINGS_IN_TRL = ("backbone_attr", "temperature", "logit_scale", "final_logit_softcapping", "cast_lm_head_to_fp32")


def use_compact_loss_head(
    model: PreTrainedModel | PeftModel,
    outputs: tuple[str, ...] = ("log_probs", "entropy", "is_top1"),
    *,
    chunk_size: int = 256,
    uniform_rows: bool = True,
) -> None:
    """Score `model(..., labels=..., fused_lm_head=True)` by the compact head; call it after TRL's trainer is built.

    The result is TRL's FusedCausalLMOutput, per-token fields (B, T - 1), zero where the label is ignored, float32;
    `outputs` names the fields to compute. `chunk_size` is rows scored at a time: a trained head keeps that many rows of
    logits, a frozen one none. Set `uniform_rows=False` when the loss weighs tokens unequally (dft, DPO) and the head is
    trained. Temperature, logit scale and soft-capping are those TRL resolved. TRL's own head stays, with one warning,
    for what is not known to be exact here (sharded or quantised heads, several devices, mixture of experts), and
    without a warning where it has Triton kernels.
    Raises ValueError for a model without TRL's head and for an unknown output.
    """
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    trl_forward = base.forward
    unknown = [name for name in outputs if name not in OUTPUTS]
    if unknown:
        raise ValueError(f'unknown loss head output "{unknown[0]}"; allowed: {", ".join(OUTPUTS)}')
    if not _takes_fused_lm_head(trl_forward):
        raise ValueError(
            f"{type(base).__name__}.forward has no fused_lm_head; construct TRL's trainer (or call its "
            "add_fused_lm_head) before use_compact_loss_head"
        )
    resolved = inspect.getclosurevars(trl_forward.__func__).nonlocals
    missing = [name for name in SETTINGS_IN_TRL if name not in resolved]
    if missing:
        logger.warning("this TRL's loss head keeps no %s; its own head is used, slower on a CPU", missing[0])
        return
    settings = HeadSettings(
        outputs=("log_probs", *(name for name in outputs if name != "log_probs")),
        temperature=resolved["temperature"],
        logit_scale=resolved["logit_scale"],
        softcap=resolved["final_logit_softcapping"],
        chunk_size=chunk_size,
        uniform_rows=uniform_rows,
    )
    warned = set()

    @functools.wraps(type(base).forward)  # generate checks its keywords against the model's own signature
    def compact_forward(self, *args, fused_lm_head=False, labels=None, shift_labels=None, **kwargs):
        given = {"labels": labels, "shift_labels": shift_labels}
        given = {name: value for name, value in given.items() if value is not None}
        if not fused_lm_head:
            return trl_forward(*args, **given, **kwargs)
        head, reason = _find_head(self, kwargs, resolved["cast_lm_head_to_fp32"])
        if head is None:
            if reason and reason not in warned:
                warned.add(reason)
                logger.warning("%s: TRL's own loss head is used, slower on a CPU", reason)
            return trl_forward(*args, fused_lm_head=True, **given, **kwargs)
        num_items_in_batch = kwargs.pop("num_items_in_batch", None)
        backbone = getattr(self, resolved["backbone_attr"])
        hidden_BTD = backbone(*args, **{**kwargs, "use_cache": False}).last_hidden_state
        return _score(hidden_BTD, labels, shift_labels, num_items_in_batch, head, settings)

    base.forward = types.MethodType(compact_forward, base)


def _takes_fused_lm_head(forward: Callable) -> bool:
    code = getattr(getattr(forward, "__func__", None), "__code__", None)
    return code is not None and "fused_lm_head" in code.co_varnames


def _score(hidden_BTD, labels, shift_labels, num_items_in_batch, head: LinearHead, settings) -> FusedCausalLMOutput:
    """Score the positions whose next label counts. `shift_labels` (B, T) are already shifted, `labels` (B, T) not."""
    if shift_labels is None:
        hidden_BTD, targets = hidden_BTD[:, :-1], labels[:, 1:]
    else:
        targets = shift_labels
    mask = targets != IGNORE_INDEX
    kept_N = mask.reshape(-1).nonzero().squeeze(-1)
    hidden_ND = hidden_BTD.reshape(-1, hidden_BTD.shape[-1]).index_select(0, kept_N)
    scored = chunked_log_probs(hidden_ND, head, targets.reshape(-1)[kept_N], settings)
    # masked_scatter keeps an all-ignored batch connected to the model: it contributes a differentiable zero
    placed = {
        name: None if value is None else value.new_zeros(mask.shape).masked_scatter(mask, value)
        for name, value in zip(OUTPUTS, scored, strict=True)
    }
    count = mask.sum().clamp(min=1) if num_items_in_batch is None else num_items_in_batch
    return FusedCausalLMOutput(loss=-placed["log_probs"].sum() / count, label_mask=mask, **placed)


def _find_head(model: PreTrainedModel, kwargs: dict, cast_to_fp32: bool) -> tuple[LinearHead | None, str]:
    """Return the output head to use, or None with the reason for TRL's own ("" where TRL's is the better one)."""
    module = model.get_output_embeddings()
    if is_deepspeed_zero3_enabled():
        return None, "parameters are partitioned by ZeRO-3"
    if len(set((getattr(model, "hf_device_map", None) or {}).values())) > 1:
        return None, "the model is split across devices"
    if kwargs.get("output_router_logits") or getattr(model.config.get_text_config(), "output_router_logits", False):
        return None, "the router loss of a mixture of experts is asked for"
    if cast_to_fp32:
        return None, "the head is cast to float32"
    head = _linear_head(module)
    if head is None:
        return None, f"the head is a {type(module).__name__} whose weight is not a plain parameter"
    if head.weight.device.type != "cpu" and head.token_rows is None:
        return None, ""  # TRL's head drops ignored rows there and runs fused kernels
    return head, ""


def _linear_head(module: nn.Module) -> LinearHead | None:
    """Return what `module` computes as a LinearHead, through PEFT's wrappers, or None if it is not known to be one."""
    if isinstance(module, ModulesToSaveWrapper):
        active = module.active_adapters
        if module.disable_adapters or not active:
            return _linear_head(module.original_module)
        copies = module.modules_to_save
        return _linear_head(copies[active[0]]) if active[0] in copies else None
    if isinstance(module, TrainableTokensWrapper):
        return _trained_tokens_head(module)
    weight = getattr(module, "weight", None)
    if type(module) is not nn.Linear or type(weight) is not nn.Parameter or isinstance(weight, DTensor):
        return None
    if module._forward_hooks or module._forward_pre_hooks or hasattr(module, "_hf_hook"):
        return None
    return LinearHead(weight, module.bias)


def _trained_tokens_head(module: TrainableTokensWrapper) -> LinearHead | None:
    """Return the base head with its trained token rows in place (`trainable_token_indices`, tied or not)."""
    adapter = module.token_adapter
    head = _linear_head(adapter.base_layer)
    active = [name for name in adapter.active_adapters if name in adapter.trainable_tokens_delta]
    if head is None or adapter.merged or adapter.disable_adapters or module.disable_adapters or not active:
        return head
    if head.weight.requires_grad:
        return None
    token_ids = [torch.as_tensor(adapter.token_indices[name]) for name in active]
    token_rows: list[Tensor] = [adapter.trainable_tokens_delta[name] for name in active]
    # PEFT's own forward of such a head leaves out the bias; generation would too
    return LinearHead(head.weight, None, torch.cat(token_ids).to(head.weight.device), torch.cat(token_rows))
