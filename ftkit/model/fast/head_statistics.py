"""What a row of logits comes to, log-probability and entropy of its target among others, summed tile by tile."""

import torch
from torch import Tensor

# n rows of a chunk, C columns of a vocabulary tile, c of a piece of it

OUTPUTS = ("log_probs", "entropy", "log_sum_sq_probs", "mean_logits", "is_top1")
GAP_COLUMNS = 1024  # of a tile, copied at a time


def at_least_float32(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype that sums are kept in."""
    return torch.promote_types(dtype, torch.float32)


class Statistics:
    """Running maximum, sums and target logit of `n` rows while the tiles of the vocabulary pass by."""

    def __init__(self, targets: Tensor, dtype: torch.dtype, outputs: tuple[str, ...]):
        self.targets, self.outputs = targets, outputs
        zeros = torch.zeros(targets.shape, dtype=dtype, device=targets.device)
        self.maximum, self.target_logit = zeros + torch.finfo(dtype).min, zeros.clone()
        self.sum_exp, self.sum_gap_exp = zeros.clone(), zeros.clone()
        self.sum_sq_exp, self.sum_logits = zeros.clone(), zeros.clone()
        self.first_of_tile = torch.zeros_like(targets, dtype=torch.bool)

    def fold(self, logits_nC: Tensor, start: int, end: int) -> tuple[Tensor, Tensor]:
        """Add one tile; return exp(logits - new maximum) (n, C) and the factor (n, 1) due to earlier sums."""
        self._fold_target(logits_nC, start, end)
        maximum = torch.maximum(self.maximum, logits_nC.amax(-1))
        rescale = torch.exp(self.maximum - maximum)
        exp_nC = (logits_nC - maximum[:, None]).exp_()
        if "entropy" in self.outputs:
            self.sum_gap_exp.add_((self.maximum - maximum) * self.sum_exp).mul_(rescale)
            self.sum_gap_exp.add_(_sum_gap_exp(exp_nC, logits_nC, maximum))
        self.maximum = maximum
        self.sum_exp.mul_(rescale).add_(exp_nC.sum(-1))
        if "log_sum_sq_probs" in self.outputs:
            self.sum_sq_exp.mul_(rescale.square()).add_(torch.einsum("nc,nc->n", exp_nC, exp_nC))
        if "mean_logits" in self.outputs:
            self.sum_logits.add_(logits_nC.sum(-1))
        return exp_nC, rescale[:, None]

    def _fold_target(self, logits_nC: Tensor, start: int, end: int) -> None:
        row = ((self.targets >= start) & (self.targets < end)).nonzero().squeeze(-1)
        if row.numel() == 0:
            return
        local, tile = self.targets[row] - start, logits_nC[row]
        self.target_logit[row] = tile.gather(-1, local[:, None]).squeeze(-1)
        if "is_top1" in self.outputs:  # of equal logits the first token wins, as with argmax
            self.first_of_tile[row] = (tile.argmax(-1) == local) & (self.target_logit[row] > self.maximum[row])

    def results(self, vocab_size: int) -> dict[str, Tensor]:
        """Values (n,) by name: the requested outputs, `log_z` and `target_logit`."""
        log_sum = self.sum_exp.log()
        values = {
            "log_z": self.maximum + log_sum,
            "target_logit": self.target_logit,
            "log_probs": (self.target_logit - self.maximum) - log_sum,  # through log_z it would lose digits near 0
        }
        if "entropy" in self.outputs:
            values["entropy"] = log_sum - self.sum_gap_exp / self.sum_exp
        if "log_sum_sq_probs" in self.outputs:
            values["log_sum_sq_probs"] = self.sum_sq_exp.log() - 2 * self.sum_exp.log()
        if "mean_logits" in self.outputs:
            values["mean_logits"] = self.sum_logits / vocab_size
        if "is_top1" in self.outputs:
            values["is_top1"] = self.first_of_tile & (self.target_logit == self.maximum)
        return values


def _sum_gap_exp(exp_nC: Tensor, logits_nC: Tensor, maximum: Tensor) -> Tensor:
    """Sum of exp(gap) * gap (n,), gap being logit - maximum: summing the logits themselves would cancel in entropy."""
    pieces = zip(exp_nC.split(GAP_COLUMNS, -1), logits_nC.split(GAP_COLUMNS, -1), strict=True)
    return sum(torch.einsum("nc,nc->n", exp_nc, logits_nc - maximum[:, None]) for exp_nc, logits_nc in pieces)
