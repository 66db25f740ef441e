"""A LoRA layer as one autograd function, y = x W' + s (x A') B', on a CPU.

    use_fused_lora(model)     # a model with PEFT's LoRA; layers it does not know stay PEFT's

PEFT computes the same with casts, a scaled copy and a sum in between, each of the size of the layer's output, and keeps
more of them for backward. Layers with dropout, DoRA, quantised or trained base weights stay as they are, and so does
every layer while its adapter is merged, disabled or one of several.
"""

import functools
import types

import torch
from peft.tuners.lora.layer import Linear as LoraLinear
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

# N rows (all tokens of a batch), I inputs, O outputs, R rank


def use_fused_lora(model: nn.Module) -> int:
    """Fuse the forward of PEFT's LoRA layers whose weights are on a CPU; return how many there are."""
    layers = [module for module in model.modules() if type(module) is LoraLinear and is_fusible(module)]
    for layer in layers:
        layer.forward = types.MethodType(functools.partial(fused_forward, layer.forward), layer)
    return len(layers)


def use_plain_lora(model: nn.Module) -> None:
    """Take `use_fused_lora` back: the same up to rounding, and to the last bit what PEFT computes elsewhere."""
    for module in model.modules():
        if type(module) is LoraLinear:
            vars(module).pop("forward", None)


def is_fusible(layer: LoraLinear) -> bool:
    """Whether the frozen layer below is x W' + b and nothing else, on a CPU."""
    base = layer.base_layer
    hooked = bool(base._forward_hooks or base._forward_pre_hooks or "_hf_hook" in vars(base))
    if type(base) is not nn.Linear or hooked or type(base.weight) is not nn.Parameter:
        return False
    return base.weight.device.type == "cpu" and base.weight.is_floating_point() and not base.weight.requires_grad


def fused_forward(forward, layer: LoraLinear, x: Tensor, *args, **kwargs) -> Tensor:
    """LoraLinear.forward; `forward` is PEFT's, which computes what is not known here."""
    name = single_adapter(layer)
    if args or kwargs or name is None or torch.compiler.is_compiling():
        return forward(x, *args, **kwargs)
    base = layer.base_layer
    a_RI, b_OR = layer.lora_A[name].weight, layer.lora_B[name].weight
    autocast = torch.is_autocast_enabled("cpu")
    if not autocast and a_RI.dtype != base.weight.dtype:
        return forward(x)  # PEFT adds the finer of the two, and rounds the sum
    dtype = torch.get_autocast_dtype("cpu") if autocast else base.weight.dtype
    y_NO = FusedLora.apply(
        x.reshape(-1, x.shape[-1]).to(dtype), base.weight.to(dtype), base.bias, a_RI, b_OR, layer.scaling[name]
    )
    return y_NO.view(*x.shape[:-1], -1)


def single_adapter(layer: LoraLinear) -> str | None:
    """The adapter in use, if it is one plain LoRA adapter and nothing else happens between x and y."""
    active = [name for name in layer.active_adapters if name in layer.lora_A]
    if len(active) != 1 or layer.disable_adapters or layer.merged or active[0] in layer.lora_variant:
        return None
    (name,) = active
    plain = not layer.lora_bias[name] and isinstance(layer.lora_dropout[name], nn.Identity)
    return name if plain and type(layer.lora_A[name].weight) is nn.Parameter else None


class FusedLora(torch.autograd.Function):
    """y = x W' + b + s (x A') B', all products in the dtype of x; W and b are frozen."""

    @staticmethod
    def forward(ctx, x_NI, weight_OI, bias_O, a_RI, b_OR, scaling: float):
        ctx.adapter_dtype, ctx.scaling = a_RI.dtype, scaling
        a_RI, b_OR = a_RI.to(x_NI.dtype), b_OR.to(x_NI.dtype)
        h_NR = x_NI @ a_RI.t()
        y_NO = x_NI @ weight_OI.t()
        if bias_O is not None:
            y_NO += bias_O
        y_NO.addmm_(h_NR, b_OR.t(), alpha=scaling)
        ctx.save_for_backward(x_NI, weight_OI, a_RI, b_OR, h_NR)
        return y_NO

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_NO):
        x_NI, weight_OI, a_RI, b_OR, h_NR = ctx.saved_tensors
        grad_h_NR = grad_NO @ b_OR
        grad_x_NI = None
        if ctx.needs_input_grad[0]:
            grad_x_NI = (grad_NO @ weight_OI).addmm_(grad_h_NR, a_RI, alpha=ctx.scaling)
        grad_a_RI = (grad_h_NR.t() @ x_NI).to(ctx.adapter_dtype).mul_(ctx.scaling)
        grad_b_OR = (grad_NO.t() @ h_NR).to(ctx.adapter_dtype).mul_(ctx.scaling)
        return grad_x_NI, None, None, grad_a_RI, grad_b_OR, None
