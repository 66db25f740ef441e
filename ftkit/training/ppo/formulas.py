"""The mathematics of PPO on answers of a language model, as pure functions.

Writing a token is an action; prompt and answer so far are the state. An answer ends the episode.
Papers: GAE arXiv:1506.02438; PPO arXiv:1707.06347; KL per token arXiv:2203.02155; adaptive KL arXiv:1909.08593.
"""

from collections.abc import Callable

import torch
from torch import Tensor

# B answers, K positions in which answers lie, V vocabulary; mask_BK: 1 where the token is one of the answer

KL_STEP, KL_ERROR = 0.1, 0.2  # K_beta of arXiv:1909.08593, section 2.2, and where it clips the error


def token_log_probs(logits_BKV: Tensor, tokens_BK: Tensor, temperature: float = 1.0) -> Tensor:
    """log pi(token), (B, K) float32 in nats, of the distribution that was sampled from."""
    log_probs_BKV = (logits_BKV.float() / temperature).log_softmax(dim=-1)
    return log_probs_BKV.gather(-1, tokens_BK[..., None])[..., 0]


def entropy(logits_BKV: Tensor, temperature: float = 1.0) -> Tensor:
    """The entropy of pi, (B, K) float32 in nats."""
    log_probs_BKV = (logits_BKV.float() / temperature).log_softmax(dim=-1)
    return -(log_probs_BKV.exp() * log_probs_BKV).sum(dim=-1)


def last_positions(mask_BK: Tensor) -> Tensor:
    """(B,): the position of each answer's last token, which is its end token unless it was cut."""
    return (mask_BK * torch.arange(mask_BK.shape[1], device=mask_BK.device)).argmax(dim=1)


def token_rewards(scores_B: Tensor, kl_BK: Tensor, mask_BK: Tensor, kl_coef: float) -> Tensor:
    """(B, K): minus kl_coef times log pi - log pi_ref at each token, and at the last one the answer's score.

    kl_BK: log pi - log pi_ref of the sampled tokens, whose mean is the KL divergence. Source: arXiv:2203.02155, eq. 2.
    """
    rewards_BK = -kl_coef * kl_BK * mask_BK
    at_end_B1 = last_positions(mask_BK)[:, None]
    return rewards_BK.scatter_add(1, at_end_B1, scores_B[:, None].to(rewards_BK))


def advantages_and_returns(
    rewards_BK: Tensor, values_BK: Tensor, mask_BK: Tensor, gamma: float, lam: float
) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimates and the returns that values are to predict, (B, K), 0 outside the answer.

    delta_t = r_t + gamma V_{t+1} - V_t; A_t = delta_t + gamma lam A_{t+1}; return_t = A_t + V_t. What follows the last
    token is worth 0. With lam 1 a return is the discounted sum of rewards. Source: arXiv:1506.02438, eq. 16.
    """
    values_BK = values_BK * mask_BK
    next_value_B = next_advantage_B = torch.zeros_like(values_BK[:, 0])
    columns = []
    for t in reversed(range(values_BK.shape[1])):
        delta_B = rewards_BK[:, t] + gamma * next_value_B - values_BK[:, t]
        next_advantage_B = (delta_B + gamma * lam * next_advantage_B) * mask_BK[:, t]
        next_value_B = values_BK[:, t]
        columns.append(next_advantage_B)
    advantages_BK = torch.stack(columns[::-1], dim=1)
    return advantages_BK, advantages_BK + values_BK


def mean_and_variance(values_BK: Tensor, mask_BK: Tensor, total: Callable = lambda sums: sums) -> tuple[Tensor, Tensor]:
    """Over the answers' tokens. total: adds up a tensor over processes."""
    kept = values_BK[mask_BK.bool()].double()
    count, first = total(torch.stack([torch.ones_like(kept).sum(), kept.sum()]))
    mean = first / count
    return mean, total((kept - mean).square().sum()) / count


def whitened(values_BK: Tensor, mask_BK: Tensor, total: Callable = lambda sums: sums) -> Tensor:
    """Mean 0 and variance 1 over the answers' tokens, and 0 outside them: the scale of the score then sets no step."""
    mean, variance = mean_and_variance(values_BK, mask_BK, total)
    return ((values_BK - mean) * (variance + 1e-8).rsqrt()).to(values_BK) * mask_BK


def policy_loss(
    log_probs_BK: Tensor, old_log_probs_BK: Tensor, advantages_BK: Tensor, mask_BK: Tensor, cliprange: float
) -> tuple[Tensor, Tensor]:
    """The clipped loss, summed over tokens, and how many of them the clip holds back.

    A token whose ratio pi / pi_old has left [1 - cliprange, 1 + cliprange] the way of its advantage has no gradient.
    At the first step the ratio is 1, and the gradient that of REINFORCE. Source: arXiv:1707.06347, eq. 7.
    """
    ratio_BK = ((log_probs_BK - old_log_probs_BK) * mask_BK).exp()
    free_BK = -advantages_BK * ratio_BK
    clipped_BK = -advantages_BK * ratio_BK.clamp(1 - cliprange, 1 + cliprange)
    return (torch.maximum(free_BK, clipped_BK) * mask_BK).sum(), ((clipped_BK > free_BK) * mask_BK).sum()


def value_loss(
    values_BK: Tensor, old_values_BK: Tensor, returns_BK: Tensor, mask_BK: Tensor, cliprange: float
) -> Tensor:
    """Half the squared error of the values, summed over tokens; a value that left old +- cliprange gains no more.

    Source: the authors' code of arXiv:1707.06347 (openai/baselines, ppo2).
    """
    near_BK = old_values_BK + (values_BK - old_values_BK).clamp(-cliprange, cliprange)
    errors_BK = torch.maximum((values_BK - returns_BK).square(), (near_BK - returns_BK).square())
    return 0.5 * (errors_BK * mask_BK).sum()


def explained_variance(values_BK: Tensor, returns_BK: Tensor, mask_BK: Tensor, total: Callable) -> float:
    """1 - Var(returns - values) / Var(returns): 1 for a perfect value head, 0 for a constant, below 0 for worse."""
    _, left = mean_and_variance(returns_BK - values_BK, mask_BK, total)
    _, whole = mean_and_variance(returns_BK, mask_BK, total)
    return float(1 - left / whole) if whole > 0 else 0.0


def adapted_kl_coef(kl_coef: float, kl: float, target: float) -> float:
    """The weight of the KL term for the next rollout: up by at most 2 % where kl is above its target, down below it.

    kl, target: in nats per answer. Source: arXiv:1909.08593, section 2.2.
    """
    error = min(max(kl / target - 1, -KL_ERROR), KL_ERROR)
    return kl_coef * (1 + KL_STEP * error)
