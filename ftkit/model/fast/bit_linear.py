"""A linear layer of 1.58 bits (BitNet b1.58): weights of -1, 0 and 1 times one scale, inputs of 8 bits per token.

    strength = Strength(training=0.4)    # shared by a model's layers: 40 % of the way from full precision
    layer = BitLinear(linear.weight, linear.bias, strength)

Unlike its neighbours here it computes something else than what it replaces. It keeps its weights in full precision and
rounds them at each use; gradients pass the rounding as if it were not there ("straight through").
Source of the formulas: Ma et al. 2024, arXiv:2402.17764; of the way there: Nielsen et al. 2025, arXiv:2502.11895.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SMALLEST = 1e-5  # of a mean or a largest value that is divided by
MOST = 127  # of 8 bits, with a sign


@dataclass
class Strength:
    """How far a model's layers are rounded, from 0 (not at all) to 1, while it is trained and while it is evaluated."""

    training: float = 1.0
    evaluation: float = 1.0


def ternary_scale(weight: Tensor) -> Tensor:
    """1 / mean |w| of a weight, in float32: times this, it is rounded to -1, 0 and 1."""
    return 1.0 / weight.float().abs().mean().clamp(min=SMALLEST)


def ternary(weight: Tensor) -> Tensor:
    """The weight rounded to -s, 0 and s, where s is the mean of its absolute values; in its own dtype."""
    scale = ternary_scale(weight)
    return ((weight.float() * scale).round().clamp(-1, 1) / scale).to(weight.dtype)


def eight_bit(inputs: Tensor) -> Tensor:
    """Each token's inputs rounded to steps of its largest absolute value / 127; in their own dtype."""
    values = inputs.float()
    scale = MOST / values.abs().amax(dim=-1, keepdim=True).clamp(min=SMALLEST)
    return ((values * scale).round().clamp(-MOST - 1, MOST) / scale).to(inputs.dtype)


class StraightThrough(torch.autograd.Function):
    """A share of the way from a tensor to its rounded values; the gradient passes unchanged."""

    @staticmethod
    def forward(ctx, values: Tensor, rounding: Callable[[Tensor], Tensor], share: float) -> Tensor:
        rounded = rounding(values)
        return rounded if share == 1 else torch.lerp(values, rounded, share)

    @staticmethod
    def backward(ctx, grad):
        return grad, None, None


class BitLinear(nn.Linear):
    """Computes with `weight` and the inputs rounded. is_rounded: whether `weight` holds rounded values already."""

    def __init__(self, weight: nn.Parameter, bias: nn.Parameter | None, strength: Strength, *, is_rounded=False):
        super().__init__(weight.shape[1], weight.shape[0], bias is not None, device="meta")
        self.weight, self.bias = weight, bias
        self.strength, self.is_rounded = strength, is_rounded

    def forward(self, inputs: Tensor) -> Tensor:
        share = self.strength.training if self.training else self.strength.evaluation
        weight = self.weight
        if share:
            inputs = StraightThrough.apply(inputs, eight_bit, share)
            weight = weight if self.is_rounded else StraightThrough.apply(weight, ternary, share)
        return F.linear(inputs, weight, self.bias)


def bit_layers(model: nn.Module) -> list[BitLinear]:
    """A model's layers of 1.58 bits."""
    return [module for module in model.modules() if isinstance(module, BitLinear)]


def strength_of(model: nn.Module) -> Strength | None:
    """What a model's layers of 1.58 bits share; None where it has none."""
    return next((layer.strength for layer in bit_layers(model)), None)


def round_once(model: nn.Module) -> None:
    """Round the weights of a model that is not trained any more, in place of rounding them at each use."""
    for layer in bit_layers(model):
        if not layer.is_rounded:
            layer.weight = nn.Parameter(ternary(layer.weight.detach()), requires_grad=False)
            layer.is_rounded = True
