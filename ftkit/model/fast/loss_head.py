"""Compact loss head at the one seam that all TRL trainers share: `model(..., labels=..., fused_lm_head=True)`.

TRL patches the model's forward with a chunked head that, without Triton, scores padding and prompt too and recomputes
the logits in backward. `use_compact_loss_heads(trainer)` takes over that patch: rows with an ignored label are dropped
before the vocabulary projection and gradients are formed in forward (ftkit.model.fast.chunked_log_probs).
"""

import contextlib
import functools
import inspect
import logging
import types
from collections.abc import Callable

import torch
from peft import PeftModel
from peft.utils.other import ModulesToSaveWrapper, TrainableTokensWrapper
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, Partial, Replicate
from transformers import PreTrainedModel, Trainer

from ftkit.model.fast.chunked_log_probs import OUTPUTS, HeadSettings, LinearHead, chunked_log_probs
from ftkit.model.fast.head_kernels import KERNELS, settle_kernel, weighs_rows_alike

# B batch, T tokens, N kept rows, D hidden

logger = logging.getLogger(__name__)

IGNORE_INDEX = -100  # label that cross-entropy skips
LEAST_ROWS = 32  # scored at a time
CHUNK_LOGITS = 256 * 49_152  # 48 MiB in float32, whatever the vocabulary
SETTINGS_IN_TRL = (
    "backbone_attr", "temperature", "logit_scale", "final_logit_softcapping", "cast_lm_head_to_fp32", "outputs",
)  # fmt: skip


def rows_at_a_time(vocab_size: int) -> int:
    """Rows whose logits together are about CHUNK_LOGITS, so that memory is flat in the vocabulary."""
    return max(LEAST_ROWS, CHUNK_LOGITS // vocab_size)


def use_compact_loss_heads(trainer: Trainer, *, kernel: str = "auto") -> str:
    """Put the compact head on a TRL trainer's model and, where it has one, its reference model.

    Works for SFT, DPO, KTO, GRPO and RLOO, once per trainer, when TRL's own heads are in place: after the constructor,
    or before anything is scored in it. A reference that is the model with its adapter disabled goes through the same
    head. Returns the kernel used, "compact" or "trl": what `kernel` or FTKIT_LOSS_HEAD names; with "auto" compact on a
    CPU and on a GPU the faster one, as timed there (ftkit.model.fast.head_kernels). A run that names what this returned
    repeats.
    Raises ValueError for a trainer without TRL's head (reward modelling) and for an unknown kernel.
    """
    heads = [model for model in (trainer.model, getattr(trainer, "ref_model", None)) if model is not None]
    kernel = settle_kernel(kernel, trainer)
    for model in heads:
        # Accelerate puts autocast around the forward of a prepared model; the policy's is prepared later
        prepared = "_original_forward" in vars(_without_peft(model))
        use_compact_loss_head(
            model,
            kernel=kernel,
            uniform_rows=weighs_rows_alike(trainer),
            autocast=trainer.accelerator.autocast if prepared else contextlib.nullcontext,
        )
    return kernel


def use_compact_loss_head(
    model: PreTrainedModel | PeftModel,
    outputs: tuple[str, ...] | None = None,
    *,
    kernel: str = "compact",
    chunk_size: int | None = None,
    uniform_rows: bool = True,
    autocast: Callable = contextlib.nullcontext,
) -> None:
    """Score `model(..., labels=..., fused_lm_head=True)` by the compact head; call it when TRL's head is in place.

    The result is TRL's FusedCausalLMOutput, per-token fields (B, T - 1), zero where the label is ignored, float32;
    `outputs` names the fields to compute, by default those that TRL's trainer asked for. `chunk_size` is rows scored at
    a time: a trained head keeps that many rows of logits, a frozen one none; by default as many as make 12.6 M
    logits, 48 MiB, so that memory is flat in the vocabulary up to 393,216 tokens. Set `uniform_rows=False` when the
    loss weighs tokens unequally (dft, DPO) and the head is trained. Temperature, logit scale, soft-capping and the cast
    to float32 are those TRL resolved. `autocast()` surrounds a scoring forward. With kernel "trl" only a head with
    trained token rows, which TRL's can't score, is taken over.

    A head that FSDP2 shards is gathered as a whole; its gradient is averaged over the mesh and sharded again. TRL's own
    head stays, with one warning, for what is not known to be exact here (tensor parallel or quantised heads,
    several devices, mixture of experts).
    Raises ValueError for a model without TRL's head and for an unknown output or kernel.
    """
    base = _without_peft(model)
    forward = base.forward
    if kernel not in KERNELS:
        raise ValueError(f'unknown loss head kernel "{kernel}"; allowed: {", ".join(KERNELS)}')
    resolved = _trls_settings(base)
    missing = [name for name in SETTINGS_IN_TRL if name not in resolved]
    if missing:
        logger.warning("this TRL's loss head keeps no %s; its own head is used, slower on a CPU", missing[0])
        return
    settings = _head_settings(base, resolved, outputs, chunk_size, uniform_rows)
    cast = resolved["cast_lm_head_to_fp32"]
    warned = set()

    @functools.wraps(type(base).forward)  # generate checks its keywords against the model's own signature
    def compact_forward(self, *args, fused_lm_head=False, labels=None, shift_labels=None, **kwargs):
        given = {"labels": labels, "shift_labels": shift_labels}
        given = {name: value for name, value in given.items() if value is not None}
        if not fused_lm_head:
            return forward(*args, **given, **kwargs)
        reason = _reason_for_trls_head(self, kwargs, kernel)
        if reason is not None:
            if reason and reason not in warned:
                warned.add(reason)
                logger.warning("%s: TRL's own loss head is used, slower on a CPU", reason)
            return forward(*args, fused_lm_head=True, **given, **kwargs)
        num_items_in_batch = kwargs.pop("num_items_in_batch", None)
        backbone = getattr(self, resolved["backbone_attr"])
        with autocast():
            hidden_BTD = backbone(*args, **{**kwargs, "use_cache": False}).last_hidden_state
            # FSDP2 gathers the head with the backbone's last norm: it is looked at when both are there
            head = _linear_head(self.get_output_embeddings(), gather=True)
            with torch.autocast(hidden_BTD.device.type, enabled=False) if cast else contextlib.nullcontext():
                hidden_BTD = hidden_BTD.float() if cast else hidden_BTD
                return _score(hidden_BTD, labels, shift_labels, num_items_in_batch, head, settings)

    base.forward = types.MethodType(compact_forward, base)


def _trls_settings(base: PreTrainedModel) -> dict:
    """What TRL's head of a model was resolved to, by name. Raises ValueError for a model without TRL's head."""
    forward = vars(base).get("_original_forward", base.forward)
    if not _takes_fused_lm_head(forward):
        raise ValueError(
            f"{type(base).__name__}.forward has no fused_lm_head; construct TRL's trainer (or call its "
            "add_fused_lm_head) before use_compact_loss_head"
        )
    return dict(inspect.getclosurevars(forward.__func__).nonlocals)


def _head_settings(base, resolved: dict, outputs: tuple[str, ...] | None, chunk_size, uniform_rows) -> HeadSettings:
    """The compact head's settings, where they are not TRL's own. Raises ValueError for an unknown output."""
    unknown = [name for name in outputs or () if name not in OUTPUTS]
    if unknown:
        raise ValueError(f'unknown loss head output "{unknown[0]}"; allowed: {", ".join(OUTPUTS)}')
    outputs = resolved["outputs"] if outputs is None else outputs
    return HeadSettings(
        outputs=("log_probs", *(name for name in outputs if name != "log_probs")),
        temperature=resolved["temperature"],
        logit_scale=resolved["logit_scale"],
        softcap=resolved["final_logit_softcapping"],
        chunk_size=chunk_size or rows_at_a_time(base.config.get_text_config().vocab_size),
        uniform_rows=uniform_rows,
    )


def _without_peft(model: PreTrainedModel | PeftModel) -> PreTrainedModel:
    return model.get_base_model() if isinstance(model, PeftModel) else model


def _takes_fused_lm_head(forward: Callable) -> bool:
    code = getattr(getattr(forward, "__func__", None), "__code__", None)
    return code is not None and "fused_lm_head" in code.co_varnames


def _score(hidden_BTD, labels, shift_labels, num_items_in_batch, head: LinearHead, settings):
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
    from trl.trainer.utils import FusedCausalLMOutput  # since TRL 1.16; older ones have no seam, and none asks for this

    return FusedCausalLMOutput(loss=-placed["log_probs"].sum() / count, label_mask=mask, **placed)


def _reason_for_trls_head(model: PreTrainedModel, kwargs: dict, kernel: str) -> str | None:
    """Return why TRL's head scores this batch, "" where it was chosen, or None for the compact head."""
    module = model.get_output_embeddings()
    if kernel == "trl" and not isinstance(module, TrainableTokensWrapper):
        return ""
    if len(set((getattr(model, "hf_device_map", None) or {}).values())) > 1:
        return "the model is split across devices"
    if kwargs.get("output_router_logits") or getattr(model.config.get_text_config(), "output_router_logits", False):
        return "the router loss of a mixture of experts is asked for"
    if _linear_head(module) is None:
        return f"the head is a {type(module).__name__} whose weight is not a plain parameter"
    return None


def _linear_head(module: nn.Module, *, gather: bool = False) -> LinearHead | None:
    """Return what `module` computes as a LinearHead, through PEFT's wrappers, or None if it is not known to be one.

    `gather` makes a sharded weight whole, which every process of its mesh has to ask for.
    """
    if isinstance(module, ModulesToSaveWrapper):
        active = module.active_adapters
        if module.disable_adapters or not active:
            return _linear_head(module.original_module, gather=gather)
        copies = module.modules_to_save
        return _linear_head(copies[active[0]], gather=gather) if active[0] in copies else None
    if isinstance(module, TrainableTokensWrapper):
        return _trained_tokens_head(module, gather)
    if not _is_plain_linear(module):
        return None
    if isinstance(module.weight, DTensor):
        parameters = (module.weight, module.bias)
        if not all(parameter is None or _is_data_parallel(parameter) for parameter in parameters):
            return None
        return LinearHead(*(_gathered(p) if gather and p is not None else p for p in parameters))
    return LinearHead(module.weight, module.bias)


def _is_plain_linear(module: nn.Module) -> bool:
    """Whether `module` computes x W' + b of plain parameters and nothing else, FSDP2's subclass and hooks aside."""
    sharded = isinstance(module, FSDPModule)
    kind = type(module).__mro__[2] if sharded else type(module)
    if kind is not nn.Linear or "_hf_hook" in vars(module):
        return False
    if not isinstance(module.weight, nn.Parameter) or type(module.weight) not in (nn.Parameter, DTensor):
        return False
    num_hooks = int(sharded)  # fully_shard registers one of each
    return len(module._forward_pre_hooks) == len(module._forward_hooks) == num_hooks


def _is_data_parallel(parameter: DTensor) -> bool:
    """Whether `parameter` is sharded over one dimension of its mesh, as fully_shard does, and replicated otherwise."""
    return sum(not isinstance(placement, Replicate) for placement in parameter.placements) <= 1


def _gathered(parameter: DTensor) -> Tensor:
    """Return the whole of a sharded parameter; its gradient is averaged over the mesh, as FSDP averages the others'."""
    mesh = parameter.device_mesh
    whole = parameter.full_tensor(grad_placements=[Partial()] * mesh.ndim)
    if whole.requires_grad:
        whole.register_hook(lambda gradient: gradient / mesh.size())
    return whole


def _trained_tokens_head(module: TrainableTokensWrapper, gather: bool) -> LinearHead | None:
    """Return the base head with its trained token rows in place (`trainable_token_indices`, tied or not)."""
    adapter = module.token_adapter
    head = _linear_head(adapter.base_layer, gather=gather)
    active = [name for name in adapter.active_adapters if name in adapter.trainable_tokens_delta]
    if head is None or adapter.merged or adapter.disable_adapters or module.disable_adapters or not active:
        return head
    rows: list[Tensor] = [adapter.trainable_tokens_delta[name] for name in active]
    if head.weight.requires_grad or any(isinstance(each, DTensor) for each in rows):
        return None
    token_ids = torch.cat([torch.as_tensor(adapter.token_indices[name]) for name in active])
    # PEFT's own forward of such a head leaves out the bias; generation would too
    return LinearHead(head.weight, None, token_ids.to(head.weight.device), torch.cat(rows))
