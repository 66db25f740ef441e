"""The sum of any loss of rows' logits, in chunks of rows, with gradients formed in forward.

    sums = chunked_sum(hidden_ND, head, score, chunk_size=256)   # score(logits_nV, rows) -> (K,); sums[0] is the loss

The logits are never whole: each chunk's are made, scored, and leave a gradient for its hidden states and the head. The
sum enters a training loss by a factor alone, so that in backward they are multiplied by it, which is exact.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

# N rows, n rows of a chunk, D hidden, V vocabulary, K sums

Score = Callable[[Tensor, slice], Tensor]


def chunked_sum(hidden_ND: Tensor, head: nn.Module, score: Score, *, chunk_size: int) -> tuple[Tensor, Tensor]:
    """The sum of a loss over rows, a scalar with gradients, and sums of whatever is reported beside it, (K - 1,).

    head: gives a chunk's logits, (n, V). score: called with them in float32 and with the chunk's place among the rows;
    returns (K,), the loss first, each summed over the chunk. Gradients reach the hidden states and the head's
    parameters. Without rows the loss is a differentiable zero.
    """
    parameters = [parameter for parameter in head.parameters() if parameter.requires_grad]
    sums_K = _ChunkedSum.apply(hidden_ND, head, score, chunk_size, torch.is_grad_enabled(), *parameters)
    return sums_K[0], sums_K[1:].detach()


class _ChunkedSum(torch.autograd.Function):
    """See `chunked_sum`."""

    @staticmethod
    def forward(ctx, hidden_ND, head, score, chunk_size, with_grad, *parameters):
        wanted = [hidden_ND, *parameters] if with_grad else []
        gradients = [torch.zeros_like(tensor) if tensor.requires_grad else None for tensor in wanted]
        found = []
        for start in range(0, max(1, len(hidden_ND)), chunk_size):
            rows = slice(start, start + chunk_size)
            with torch.set_grad_enabled(with_grad):
                hidden_nD = hidden_ND[rows].detach().requires_grad_(with_grad and hidden_ND.requires_grad)
                sums_K = score(head(hidden_nD).float(), rows)
                if any(gradient is not None for gradient in gradients) and len(hidden_nD):
                    add_gradients(sums_K[0], [hidden_nD, *parameters], gradients, rows)
            found.append(sums_K.detach())
        ctx.gradients = gradients
        return torch.stack(found).sum(dim=0)

    @staticmethod
    def backward(ctx, upstream_K):
        scaled = [
            None if gradient is None else gradient * upstream_K[0].to(gradient.dtype) for gradient in ctx.gradients
        ]
        ctx.gradients = None
        return scaled[0], None, None, None, None, *scaled[1:]


def add_gradients(loss: Tensor, tensors: list[Tensor], gradients: list[Tensor | None], rows: slice) -> None:
    """Add a chunk's gradients to those of all rows: of its hidden states, the first, in their place."""
    places = [place for place, gradient in enumerate(gradients) if gradient is not None]
    found = torch.autograd.grad(loss, [tensors[place] for place in places], allow_unused=True)
    for place, gradient in zip(places, found, strict=True):
        if gradient is not None:
            (gradients[place][rows] if place == 0 else gradients[place]).add_(gradient)
