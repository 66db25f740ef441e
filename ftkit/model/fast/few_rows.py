"""Linear layers applied to few rows on a CPU, as in writing one token at a time, by all its cores.

    with by_all_cores(model): model.generate(...)

MKL gives a product of few rows to one core (seen on an AMD EPYC), which reads the weights alone; as a batch of products
for shares of the outputs, every core reads its share. FTKIT_PLAIN_LAYERS=1 turns it off.
"""

import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.pytorch_utils import Conv1D

# N rows, I inputs, O outputs, S shares of the outputs

MOST_ROWS = 64  # more were not measured
LEAST_WEIGHTS = 2**18  # below, a share is read faster than it is handed out
WIDE = 8  # times as many outputs as inputs, as a head has: W X' is then faster than X W'


@contextmanager
def by_all_cores(model: nn.Module) -> Iterator[None]:
    """Inside, the model's linear layers are computed so where it is faster: float32, on a CPU, without gradients."""
    layers = [] if "FTKIT_PLAIN_LAYERS" in os.environ else [one for one in model.modules() if is_known(one)]
    for layer in layers:
        layer.forward = functools.partial(forward, layer)
    try:
        yield
    finally:
        for layer in layers:
            vars(layer).pop("forward", None)


def is_known(layer: nn.Module) -> bool:
    """Whether a layer is x W' + b and nothing else, with weights that are worth sharing out."""
    if type(layer) not in (nn.Linear, Conv1D) or "forward" in vars(layer) or type(layer.weight) is not nn.Parameter:
        return False
    weight = layer.weight
    is_plain = weight.device.type == "cpu" and weight.dtype == torch.float32 and weight.is_contiguous()
    return is_plain and weight.numel() >= LEAST_WEIGHTS


def forward(layer: nn.Linear | Conv1D, x: Tensor) -> Tensor:
    """The layer's own forward, (..., I) -> (..., O)."""
    num_rows, shares = x.numel() // max(1, x.shape[-1]), torch.get_num_threads()
    is_plain = x.dtype == torch.float32 and not torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu")
    if shares == 1 or not is_plain or not 0 < num_rows <= MOST_ROWS:
        return type(layer).forward(layer, x)
    weight_OI = layer.weight.t() if isinstance(layer, Conv1D) else layer.weight
    y_NO = product(x.reshape(num_rows, -1), weight_OI, shares)
    if layer.bias is not None:
        y_NO += layer.bias
    return y_NO.view(*x.shape[:-1], -1)


def product(x_NI: Tensor, weight_OI: Tensor, shares: int) -> Tensor:
    """x W', (N, O), contiguous."""
    (num_rows, inputs), outputs = x_NI.shape, len(weight_OI)
    each = outputs // shares
    weight_SOI = weight_OI[: shares * each].view(shares, each, inputs)
    if num_rows > 1 and outputs >= WIDE * inputs and weight_OI.is_contiguous():
        y_NO = torch.bmm(weight_SOI, x_NI.t().expand(shares, inputs, num_rows)).view(-1, num_rows).t()
    else:
        y_SNO = torch.bmm(x_NI.expand(shares, num_rows, inputs), weight_SOI.transpose(1, 2))
        y_NO = y_SNO.transpose(0, 1).reshape(num_rows, -1)
    if shares * each < outputs:
        y_NO = torch.cat([y_NO, F.linear(x_NI, weight_OI[shares * each :])], dim=1)
    return y_NO.contiguous()
