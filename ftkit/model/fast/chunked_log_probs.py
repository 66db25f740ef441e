"""Per-token log-probabilities of a linear language-model head, in tiles, with gradients formed in forward.

The logits are never whole: a chunk of rows passes over tiles of the vocabulary small enough for the L2 cache. A row's
gradient with respect to its hidden state is its upstream gradient times a vector known in forward,
`W_y - sum_v p_v W_v`, so a frozen head (LoRA) needs only a multiply in backward. A trained head's weight gradient is
accumulated in forward for equally weighted rows and scaled in backward; rows of unequal weight are recomputed.

Rounded to bfloat16, p_y = 0.997 is wrong by as much as 1 - p_y. So each target's term, (1 - p_y) W_y, is left out of
the products and added in float32.
"""

import copy
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import linear

from ftkit.model.fast.head_statistics import OUTPUTS, Statistics, at_least_float32

# N kept rows, n rows of a chunk, D hidden, V vocabulary, C columns of a vocabulary tile, K replaced vocabulary rows

VOCABULARY_TILE = 8192  # columns; as fast as 1024 to 16384 on a quiet CPU, small ones lose 2x and more on a busy one


@dataclass(frozen=True)
class HeadSettings:
    """What to compute: `outputs` (among OUTPUTS) of softcap(logits * logit_scale) / temperature.

    `chunk_size` rows are scored at a time. `uniform_rows` promises that the loss weighs all rows alike, as a mean does:
    a trained head is then differentiated in forward. A broken promise costs time, never exactness.
    """

    outputs: tuple[str, ...] = ("log_probs",)
    temperature: float = 1.0
    logit_scale: float = 1.0
    softcap: float | None = None
    chunk_size: int = 256
    uniform_rows: bool = True

    def transform(self, logits: Tensor) -> Tensor:
        """Scale, cap and cool raw logits."""
        factor = self.logit_scale / self.temperature
        if self.softcap is None:
            return logits if factor == 1 else logits * factor
        return torch.tanh(logits * (self.logit_scale / self.softcap)) * (self.softcap / self.temperature)

    def through_transform(self, gradient: Tensor, transformed: Tensor) -> Tensor:
        """Gradient with respect to raw logits, from the one with respect to `transformed`."""
        factor = self.logit_scale / self.temperature
        if self.softcap is not None:
            factor = factor * (1 - (transformed * (self.temperature / self.softcap)).square())
        elif factor == 1:
            return gradient
        return gradient * factor


class LinearHead(NamedTuple):
    """A head's weight (V, D) and bias (V) or None; `token_rows` (K, D) stand in for the rows `token_ids` (K,)."""

    weight: Tensor
    bias: Tensor | None = None
    token_ids: Tensor | None = None
    token_rows: Tensor | None = None

    def tiles(self, dtype: torch.dtype):
        """Yield (start, end, weight (C, D) in `dtype`) over the vocabulary."""
        for start in range(0, self.weight.shape[0], VOCABULARY_TILE):
            end = min(start + VOCABULARY_TILE, self.weight.shape[0])
            weight_CD = self.weight[start:end]
            if self.token_ids is not None:
                inside = (self.token_ids >= start) & (self.token_ids < end)
                rows = self.token_rows[inside].to(weight_CD.dtype)
                weight_CD = weight_CD.index_copy(0, self.token_ids[inside] - start, rows)
            yield start, end, weight_CD.to(dtype)

    def rows(self, targets: Tensor, dtype: torch.dtype) -> Tensor:
        """Weight rows (n, D) of the targets (n,)."""
        rows_nD = self.weight.index_select(0, targets)
        if self.token_ids is not None:
            row, k = (targets[:, None] == self.token_ids).nonzero(as_tuple=True)
            rows_nD[row] = self.token_rows[k].to(rows_nD.dtype)
        return rows_nD.to(dtype)

    def logits(self, hidden_nD: Tensor, weight_CD: Tensor, start: int, end: int, settings: HeadSettings) -> Tensor:
        """Transformed logits (n, C) of one tile, float32 or wider."""
        bias_C = None if self.bias is None else self.bias[start:end].to(hidden_nD.dtype)
        logits_nC = linear(hidden_nD, weight_CD, bias_C)
        return settings.transform(logits_nC.to(at_least_float32(logits_nC.dtype)))


class Rows(NamedTuple):
    """What differentiating `n` rows needs; every field (n,) except hidden (n, D)."""

    hidden: Tensor
    targets: Tensor
    target_logit: Tensor
    log_probs: Tensor
    log_z: Tensor
    entropy: Tensor | None
    grad_log_probs: Tensor
    grad_entropy: Tensor | None = None

    def gradient_of_others(self, logits_nC: Tensor, settings: HeadSettings) -> Tensor:
        """Gradient with respect to the raw logits (n, C) of tokens that are no target; may overwrite `logits_nC`."""
        if self.grad_entropy is None and settings.softcap is None:
            gradient = logits_nC.sub_(self.log_z[:, None]).exp_().mul_(-self.grad_log_probs[:, None])
            return settings.through_transform(gradient, logits_nC)
        log_p = logits_nC - self.log_z[:, None]
        p = torch.exp(log_p)
        gradient = p * -self.grad_log_probs[:, None]
        if self.grad_entropy is not None:  # d entropy / d z_j = -p_j (log p_j + entropy)
            gradient -= self.grad_entropy[:, None] * p * (log_p + self.entropy[:, None])
        return settings.through_transform(gradient, logits_nC)

    def gradient_of_target(self, settings: HeadSettings) -> Tensor:
        """Gradient (n,) with respect to each target's raw logit."""
        gradient = self.grad_log_probs * -torch.expm1(self.log_probs)
        if self.grad_entropy is not None:
            gradient = gradient - self.grad_entropy * self.log_probs.exp() * (self.log_probs + self.entropy)
        return settings.through_transform(gradient, self.target_logit)


def add_product(total: Tensor, gradient: Tensor, factor: Tensor, *, overwrite: bool = False) -> None:
    """total += gradient @ factor, never rounded on the way to a narrower dtype than `total` has.

    Sums of products that were each rounded to bfloat16 bias training. `gradient` itself is rounded on a GPU, where the
    product needs equal dtypes.
    """
    if factor.dtype == total.dtype or total.device.type != "cuda":
        total.addmm_(gradient, factor.to(total.dtype), beta=float(not overwrite))
        return
    gradient, how = gradient.to(factor.dtype), {"out_dtype": total.dtype, "out": total}
    torch.mm(gradient, factor, **how) if overwrite else torch.addmm(total, gradient, factor, **how)


def zero_targets(tile_nC: Tensor, targets: Tensor, start: int) -> None:
    """Set each row's target to 0 where it lies in the tile that begins at `start`; no wait for the device."""
    column = targets - start
    inside = (column >= 0) & (column < tile_nC.shape[1])
    column = column.clamp(0, tile_nC.shape[1] - 1)[:, None]
    tile_nC.scatter_(1, column, tile_nC.gather(1, column).masked_fill_(inside[:, None], 0))


class _Gradients:
    """Gradients being summed over chunks: hidden (N, D), weight (V, D), bias (V); None where not needed."""

    def __init__(self, hidden: Tensor, head: LinearHead, needs: tuple[bool, bool, bool]):
        dtype = at_least_float32(hidden.dtype)
        self.hidden = hidden.new_zeros(hidden.shape, dtype=dtype) if needs[0] else None
        self.weight = hidden.new_empty(head.weight.shape, dtype=dtype) if needs[1] else None
        self.bias = hidden.new_zeros(head.bias.shape, dtype=dtype) if needs[2] else None

    def add(self, span: slice, rows: Rows, head: LinearHead, settings: HeadSettings, logits_tiles=None) -> None:
        """Add a chunk of rows, from its kept logits tiles or by computing them again."""
        for i, (start, end, weight_CD) in enumerate(head.tiles(rows.hidden.dtype)):
            if logits_tiles is None:
                logits_nC = head.logits(rows.hidden, weight_CD, start, end, settings)
            else:
                logits_nC, logits_tiles[i] = logits_tiles[i], None
            gradient_nC = rows.gradient_of_others(logits_nC, settings)
            zero_targets(gradient_nC, rows.targets, start)
            if self.hidden is not None:
                add_product(self.hidden[span], gradient_nC, weight_CD)
            if self.weight is not None:
                first = span.start == 0  # overwrites: zeroing the weight's size would cost a pass
                add_product(self.weight[start:end], gradient_nC.t(), rows.hidden, overwrite=first)
            if self.bias is not None:
                self.bias[start:end] += gradient_nC.sum(0)
        self.add_targets(span, rows, head, settings)

    def add_targets(self, span: slice, rows: Rows, head: LinearHead, settings: HeadSettings) -> None:
        """Add the targets' own terms."""
        term_n1 = rows.gradient_of_target(settings)[:, None]
        if self.hidden is not None:
            self.hidden[span] += head.rows(rows.targets, term_n1.dtype) * term_n1
        if self.weight is not None:
            self.weight.index_add_(0, rows.targets, rows.hidden.to(term_n1.dtype) * term_n1)
        if self.bias is not None:
            self.bias.index_add_(0, rows.targets, term_n1.squeeze(-1))


def _score_chunk(span: slice, hidden_nD, targets, head: LinearHead, settings: HeadSettings, gradients):
    """Return the chunk's values by name; add its gradients, at weight one per row, to `gradients` if given."""
    statistics = Statistics(targets, at_least_float32(hidden_nD.dtype), settings.outputs)
    trained = gradients is not None and (gradients.weight is not None or gradients.bias is not None)
    logits_tiles = []
    for start, end, weight_CD in head.tiles(hidden_nD.dtype):
        logits_nC = head.logits(hidden_nD, weight_CD, start, end, settings)
        exp_nC, rescale_n1 = statistics.fold(logits_nC, start, end)
        if trained:  # p is needed at its final scale: keeping this chunk's logits is cheaper than a second product
            logits_tiles.append(logits_nC)
        elif gradients is not None:
            exp_nC = settings.through_transform(exp_nC, logits_nC)
            zero_targets(exp_nC, targets, start)
            add_product(gradients.hidden[span].mul_(rescale_n1), exp_nC, weight_CD)
    values = statistics.results(head.weight.shape[0])
    if gradients is not None:
        weight_one = torch.ones_like(values["log_z"])
        known = (values[name] for name in ("target_logit", "log_probs", "log_z"))
        rows = Rows(hidden_nD, targets, *known, None, weight_one)
        if trained:
            gradients.add(span, rows, head, settings, logits_tiles)
        else:
            gradients.hidden[span].div_(-statistics.sum_exp[:, None])
            gradients.add_targets(span, rows, head, settings)
    return values


class _ChunkedLogProbs(torch.autograd.Function):
    """See `chunked_log_probs`."""

    @staticmethod
    def forward(ctx, hidden, weight, bias, token_rows, token_ids, targets, settings: HeadSettings, with_grad: bool):
        ctx.set_materialize_grads(False)
        device = hidden.device.type
        ctx.dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
        ctx.settings, head = settings, LinearHead(weight, bias, token_ids, token_rows)
        needs = ctx.needs_input_grad[:3] if with_grad else (False, False, False)
        now = settings.uniform_rows if needs[1] or needs[2] else needs[0]
        with torch.autocast(device, enabled=False):
            ctx.gradients = _Gradients(hidden, head, needs) if now else None
            chunks = []
            for span in _spans(len(hidden), settings.chunk_size):
                chunks.append(
                    _score_chunk(span, hidden[span].to(ctx.dtype), targets[span], head, settings, ctx.gradients)
                )
            values = {name: torch.cat([chunk[name] for chunk in chunks]) for name in chunks[0]}
        ctx.save_for_backward(
            hidden, weight, bias, token_rows, token_ids, targets,
            values["target_logit"], values["log_probs"], values["log_z"], values.get("entropy"),
        )  # fmt: skip
        outputs = tuple(values[name] if name in settings.outputs else None for name in OUTPUTS)
        ctx.mark_non_differentiable(*(x for x in outputs[2:] if x is not None))
        return outputs

    @staticmethod
    def backward(ctx, grad_log_probs, grad_entropy, *_):
        if grad_log_probs is None and grad_entropy is None:
            return (None,) * 8
        hidden, weight, bias, token_rows, token_ids, targets, *known = ctx.saved_tensors
        upstream = torch.zeros_like(known[0]) if grad_log_probs is None else grad_log_probs
        rows = Rows(hidden.to(ctx.dtype), targets, *known, upstream, grad_entropy)
        head = LinearHead(weight, bias, token_ids, token_rows)
        with torch.autocast(hidden.device.type, enabled=False):
            gradients = _scaled(ctx, upstream) if grad_entropy is None else None
            if gradients is None:
                gradients = _Gradients(hidden, head, ctx.needs_input_grad[:3])
                for span in _spans(len(hidden), ctx.settings.chunk_size):
                    chunk = Rows(*(None if x is None else x[span] for x in rows))
                    gradients.add(span, chunk, head, ctx.settings)
            token_gradient = _token_rows_gradient(rows, head, ctx.settings) if ctx.needs_input_grad[3] else None
        found = (gradients.hidden, gradients.weight, gradients.bias, token_gradient)
        inputs = (hidden, weight, bias, token_rows)
        return (*(None if g is None else g.to(x.dtype) for g, x in zip(found, inputs, strict=True)), *(None,) * 4)


def _spans(num_rows: int, chunk_size: int) -> list[slice]:
    """Slices of at most `chunk_size` rows; one empty slice for no rows, so that results keep their dtype."""
    return [slice(first, min(first + chunk_size, num_rows)) for first in range(0, max(num_rows, 1), chunk_size)]


def _scaled(ctx, upstream: Tensor) -> _Gradients | None:
    """Return the gradients of forward times the upstream gradient, or None where that is not exact."""
    stored = ctx.gradients
    if stored is None:
        return None
    if stored.weight is None and stored.bias is None:
        scaled = copy.copy(stored)
        scaled.hidden = stored.hidden * upstream[:, None]
        return scaled
    if upstream.numel() and bool((upstream != upstream[0]).any()):
        return None
    ctx.gradients = None  # scaled in place to save a copy of the weight, so it serves one backward
    for gradient in vars(stored).values():
        if gradient is not None and upstream.numel():
            gradient.mul_(upstream[0])
    return stored


def _token_rows_gradient(rows: Rows, head: LinearHead, settings: HeadSettings) -> Tensor:
    """Gradient (K, D) of the replaced rows, from their own logits alone."""
    weight_KD = head.token_rows.to(head.weight.dtype).to(rows.hidden.dtype)
    bias = None if head.bias is None else head.bias[head.token_ids]
    logits_NK = LinearHead(weight_KD, bias).logits(rows.hidden, weight_KD, 0, len(weight_KD), settings)
    gradient_NK = rows.gradient_of_others(logits_NK, settings)
    is_target_NK = rows.targets[:, None] == head.token_ids
    gradient_NK = torch.where(is_target_NK, rows.gradient_of_target(settings)[:, None], gradient_NK)
    return gradient_NK.t() @ rows.hidden.to(gradient_NK.dtype)


def chunked_log_probs(hidden: Tensor, head: LinearHead, targets: Tensor, settings: HeadSettings):
    """Return OUTPUTS as a tuple of (N,) tensors, None for those `settings.outputs` does not name.

    hidden: (N, D), any N including 0; under autocast both factors are cast to its dtype. targets: (N,) int64, none
    ignored. Sums are float32 or wider. Gradients reach hidden, weight, bias and token_rows through `log_probs` and
    `entropy`; a weight whose rows are replaced by `token_rows` counts as frozen.
    """
    weight = head.weight if head.token_rows is None else head.weight.detach()
    return _ChunkedLogProbs.apply(
        hidden, weight, head.bias, head.token_rows, head.token_ids, targets, settings, torch.is_grad_enabled()
    )
