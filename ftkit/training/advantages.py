"""Advantages of sampled answers from their rewards, and what of a group teaches nothing.

A_B = advantages(rewards_BK, weights_K, num_generations=8, aggregation="sum_then_normalize", scale="group")

Where no reward is missing these are TRL's. A missing one is left out of its group's mean and deviation.
"""

import math

import torch
from torch import Tensor

from ftkit.config.settings.grpo import EACH
from ftkit.training.learning_receipt import SAME
from ftkit.training.rewards import total, with_missing_filled

# B answers, K rewards, N prompts, G answers of a prompt

EPSILON = 1e-4  # TRL's, beside a standard deviation
BY_SEQUENCE, BY_TOKEN = ("grpo", "dr_grpo", "sapo", "luspo", "rloo"), ("dapo", "cispo", "vespo")  # denominators


def nanstd(values: Tensor, dim: int) -> Tensor:
    """The sample standard deviation of what is there; 0 of a single value, kept as a dimension."""
    count = (~values.isnan()).sum(dim=dim, keepdim=True)
    squares = (values - values.nanmean(dim=dim, keepdim=True)).square().nansum(dim=dim, keepdim=True)
    return (squares / (count - 1).clamp(min=1)).sqrt()


def advantages(rewards_BK: Tensor, weights_K: Tensor, *, num_generations: int, aggregation: str, scale: str) -> Tensor:
    """(B,): how much better each answer is than the others to its prompt; 0 for one without a reward.

    aggregation: "sum_then_normalize", or "normalize_then_sum" (GDPO, arXiv:2601.05242). scale, of the first: by the
    deviation of the "group" or the "batch", or "none" (Dr. GRPO, arXiv:2503.20783).
    """
    if aggregation == EACH:
        groups_NGK = rewards_BK.view(-1, num_generations, rewards_BK.shape[1])
        centred = groups_NGK - groups_NGK.nanmean(dim=1, keepdim=True)
        scaled_BK = (centred / (nanstd(groups_NGK, 1) + EPSILON)).view_as(rewards_BK)
        summed_B = total(scaled_BK, weights_K)
        found = (summed_B - summed_B.nanmean()) / (nanstd(summed_B, 0) + EPSILON)
        return found.nan_to_num(nan=0.0)
    summed_NG = total(with_missing_filled(rewards_BK, num_generations), weights_K).view(-1, num_generations)
    found_NG = summed_NG - summed_NG.nanmean(dim=1, keepdim=True)
    if scale == "group":
        found_NG = found_NG / (nanstd(summed_NG, 1) + EPSILON)
    elif scale == "batch":
        found_NG = found_NG / (nanstd(summed_NG.reshape(-1), 0) + EPSILON)
    return found_NG.reshape(-1).nan_to_num(nan=0.0)


def teaches(rewards_BK: Tensor, weights_K: Tensor, num_generations: int, aggregation: str) -> Tensor:
    """(B,) bool: whether an answer has a reward, and the rewards of its group differ.

    Where each reward is normalised for itself, one that differs is enough.
    """
    filled_BK = with_missing_filled(rewards_BK, num_generations)
    sums_BM = filled_BK if aggregation == EACH else total(filled_BK, weights_K)[:, None]
    groups_NGM = sums_BM.view(-1, num_generations, sums_BM.shape[1])
    low = groups_NGM.nan_to_num(nan=math.inf).amin(dim=1, keepdim=True)
    high = groups_NGM.nan_to_num(nan=-math.inf).amax(dim=1, keepdim=True)
    differ = (high - low > SAME).any(dim=2, keepdim=True).expand_as(groups_NGM[:, :, :1])
    return differ.reshape(-1) & ~rewards_BK.isnan().all(dim=1)


def denominator_factor(loss_type: str, teaches_B: Tensor, num_tokens_B: Tensor) -> float:
    """What advantages are multiplied by, so that answers that teach nothing are not in the loss's denominator.

    All answers of the batch over those that teach: counted in answers or in tokens, as the loss does; 1 for bnpo, which
    divides by the tokens of a part of the batch, and where nothing teaches.
    """
    if loss_type not in (*BY_SEQUENCE, *BY_TOKEN) or not teaches_B.any():
        return 1.0
    sizes_B = num_tokens_B if loss_type in BY_TOKEN else torch.ones_like(num_tokens_B)
    taught = sizes_B[teaches_B].sum().item()
    return sizes_B.sum().item() / taught if taught else 1.0
