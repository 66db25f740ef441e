"""How far a student's next-token distribution is from its teacher's: KL, reverse KL and what lies between.

beta as TRL and GKD have it (arXiv:2306.13649, equation 1): 0 is KL(teacher || student), 1 KL(student || teacher), and
between them the generalised Jensen-Shannon divergence: with m = beta teacher + (1 - beta) student,
beta KL(teacher || m) + (1 - beta) KL(student || m).

Of a teacher that was kept, the top tokens have a log-probability each, and all others together one: the tail is one
outcome, for teacher and student alike. That is never more than the divergence over the whole vocabulary, equal to it
where the top is all of it, and zero, with a zero gradient, where the two agree.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

# n tokens, V vocabulary, K top tokens

LEAST = -100.0  # log-probability of a tail that is empty: e^-100 is zero beside any other
OUTSIDE = -1e4  # logit of a token that is left out


class Top(NamedTuple):
    """What a teacher says of n tokens: ids (n, K) of the likeliest and log_probs (n, K + 1), the last of all others."""

    ids: Tensor
    log_probs: Tensor


def divergence(student: Tensor, teacher: Tensor, beta: float) -> Tensor:
    """The divergence of each row, (n,), in nats. student, teacher: log-probabilities of the same outcomes, (n, K)."""
    if beta == 0:
        return kl(teacher, student)
    if beta == 1:
        return kl(student, teacher)
    mixture = torch.logaddexp(teacher + math.log(beta), student + math.log1p(-beta))
    return beta * kl(teacher, mixture) + (1 - beta) * kl(student, mixture)


def kl(one: Tensor, other: Tensor) -> Tensor:
    """KL(one || other) of each row, from log-probabilities."""
    return (one.exp() * (one - other)).sum(dim=-1)


def top_of(logits_nV: Tensor, num: int, temperature: float) -> Top:
    """The likeliest `num` tokens at a temperature, and what is left for all others."""
    scaled_nV = logits_nV.float() / temperature
    values_nK, ids_nK = scaled_nV.topk(min(num, scaled_nV.shape[-1]), dim=-1)
    return Top(ids_nK, with_tail(scaled_nV, ids_nK))


def with_tail(scaled_nV: Tensor, ids_nK: Tensor) -> Tensor:
    """Log-probabilities, (n, K + 1), of the tokens `ids` and of all others together."""
    log_z_n1 = scaled_nV.logsumexp(dim=-1, keepdim=True)
    rest_n1 = scaled_nV.scatter(-1, ids_nK, OUTSIDE).logsumexp(dim=-1, keepdim=True)
    return torch.cat([scaled_nV.gather(-1, ids_nK) - log_z_n1, (rest_n1 - log_z_n1).clamp(min=LEAST)], dim=-1)


class Loss(NamedTuple):
    """(1 - hard_label_weight) T^2 divergence + hard_label_weight answer loss, of each token (arXiv:1503.02531).

    The factor T^2 keeps the gradient of the first about as large at any temperature. num_tokens: of the vocabulary;
    what a head has beyond them, padding, is left out.
    """

    beta: float
    temperature: float
    hard_label_weight: float
    num_tokens: int

    def sums(self, logits_nV: Tensor, targets_n: Tensor, teacher: Tensor | Top | None) -> Tensor:
        """Of n tokens (3,): the loss, the divergence at this temperature and the answer loss, each summed.

        teacher: logits (n, V) or what was kept of them; None where answers alone are trained on.
        """
        logits_nV = logits_nV[:, : self.num_tokens]
        hard = F.cross_entropy(logits_nV, targets_n, reduction="sum")
        if teacher is None:
            return torch.stack([hard, torch.zeros_like(hard), hard])
        scaled_nV = logits_nV / self.temperature
        if isinstance(teacher, Top):
            student, expected = with_tail(scaled_nV, teacher.ids), teacher.log_probs
        else:
            student = scaled_nV.log_softmax(dim=-1)
            expected = (teacher[:, : self.num_tokens].float() / self.temperature).log_softmax(dim=-1)
        soft = divergence(student, expected, self.beta).sum()
        weight = self.hard_label_weight
        loss = soft * (1 - weight) * self.temperature**2
        return torch.stack([loss + weight * hard if weight else loss, soft, hard])
