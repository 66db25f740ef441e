"""Losses of pairs that need no reference: ORPO, CPO and SimPO in place of DPO's, with the metrics TRL logs of them.

TRL has them as experimental trainers of their own, each with another tokenization, collator and a head that makes all
logits; here they share those of DPO. They are held against TRL's in tests/training/test_reference_free.py.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from trl.trainer.utils import selective_log_softmax

from ftkit.config.versions import has_fused_head
from ftkit.data.tokens.tokenization import IGNORE_INDEX
from ftkit.training.reference import log_lengths, log_metric

# B batch, T tokens


class PairLogProbs(NamedTuple):
    """Log-probabilities of a batch's answers, (B,) each, summed over their tokens; lengths in tokens, float32.

    nll: the mean loss, in nats per token, of the chosen sequences, for ORPO with their prompts.
    """

    chosen_B: Tensor
    rejected_B: Tensor
    chosen_lengths_B: Tensor
    rejected_lengths_B: Tensor
    nll: Tensor

    def means(self) -> tuple[Tensor, Tensor]:
        """Log-probabilities per token."""
        return self.chosen_B / self.chosen_lengths_B, self.rejected_B / self.rejected_lengths_B


def orpo_loss(pairs: PairLogProbs, config) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss of the chosen sequences and, times beta, the log-sigmoid of the answers' log odds ratio; with its metrics.

    Probabilities are those per token. Source: Hong et al. 2024, arXiv:2403.07691, equations 4, 6 and 7.
    """
    chosen_B, rejected_B = pairs.means()
    log_odds_B = (chosen_B - rejected_B) - (log1mexp(chosen_B) - log1mexp(rejected_B))
    ratio_B = F.logsigmoid(log_odds_B)
    loss = pairs.nll - config.beta * ratio_B.mean()
    logged = {"nll_loss": pairs.nll, "log_odds_ratio": ratio_B, "log_odds_chosen": log_odds_B}
    return loss, logged | rewards(chosen_B, rejected_B, config.beta)


def cpo_loss(pairs: PairLogProbs, config) -> tuple[Tensor, dict[str, Tensor]]:
    """DPO's loss as if the reference thought all answers equally likely, and cpo_alpha times the loss of the chosen.

    Source: Xu et al. 2024, arXiv:2401.08417, equations 3 and 4.
    """
    loss = margin_loss(config.beta * (pairs.chosen_B - pairs.rejected_B), config.label_smoothing)
    loss = loss + config.cpo_alpha * pairs.nll
    return loss, {"nll_loss": pairs.nll} | rewards(pairs.chosen_B, pairs.rejected_B, config.beta)


def simpo_loss(pairs: PairLogProbs, config) -> tuple[Tensor, dict[str, Tensor]]:
    """Log-sigmoid of beta times the difference of log-probabilities per token, less the margin simpo_gamma.

    With cpo_alpha, the loss of the chosen answers is added (CPO-SimPO).
    Source: Meng et al. 2024, arXiv:2405.14734, equation 6.
    """
    chosen_B, rejected_B = pairs.means()
    loss = margin_loss(config.beta * (chosen_B - rejected_B) - config.simpo_gamma, config.label_smoothing)
    loss = loss + config.cpo_alpha * pairs.nll
    return loss, {"nll_loss": pairs.nll} | rewards(chosen_B, rejected_B, config.beta)


LOSSES = {"orpo": orpo_loss, "cpo": cpo_loss, "simpo": simpo_loss}


def margin_loss(margins_B: Tensor, smoothing: float) -> Tensor:
    """Mean of -log sigmoid(margin), `smoothing` of it with the margin's sign turned: so many labels may be wrong."""
    return -(F.logsigmoid(margins_B) * (1 - smoothing) + F.logsigmoid(-margins_B) * smoothing).mean()


def log1mexp(values: Tensor) -> Tensor:
    """log(1 - exp(x)) for x < 0, exact near 0 too. Source: Mächler 2012, doi:10.32614/CRAN.package.Rmpfr, log1mexp."""
    small = values > -0.6931471805599453
    return torch.where(small, torch.log(-torch.expm1(values)), torch.log1p(-torch.exp(values)))


def rewards(chosen_B: Tensor, rejected_B: Tensor, beta: float) -> dict[str, Tensor]:
    """What is logged of the answers, under the names of TRL's trainers."""
    return {
        "rewards/chosen": beta * chosen_B,
        "rewards/rejected": beta * rejected_B,
        "rewards/accuracies": (chosen_B > rejected_B).float(),
        "rewards/margins": beta * (chosen_B - rejected_B),
        "logps/chosen": chosen_B,
        "logps/rejected": rejected_B,
    }


class ReferenceFreeMixin:
    """Stands left of DPOTrainer: where the loss is one of LOSSES, nothing is held against a reference."""

    def _precompute_ref_logps(self, dataset, name, batch_size):
        return dataset  # nor scored by one

    def _compute_loss(self, model, inputs, return_outputs):
        name = self.loss_types[0]
        pairs, aux_loss = self.pair_log_probs(model, inputs, with_prompt=name == "orpo")
        loss, logged = LOSSES[name](pairs, self.args)
        mode = "train" if self.model.training else "eval"
        if aux_loss is not None:
            loss = loss + self.router_aux_loss_coef * aux_loss
            logged["aux_loss"] = aux_loss
        for key, value in logged.items():
            log_metric(self, key, self.accelerator.gather(value.detach().float().reshape(-1)).mean().item())
        if mode == "train":
            self._total_train_tokens += int(self.accelerator.gather(inputs["attention_mask"].sum()).sum())
        self._metrics[mode]["num_tokens"] = [self._total_train_tokens]
        log_lengths(self, inputs["completion_mask"])
        return (loss, None) if return_outputs else loss

    def pair_log_probs(self, model, inputs, *, with_prompt: bool) -> tuple[PairLogProbs, Tensor | None]:
        """What the model makes of a batch of DPO's collator, chosen sequences first, and a mixture's router loss.

        with_prompt: whether the loss of the chosen sequences counts their prompts as well, as ORPO does in TRL.
        """
        ids, seen, is_answer = inputs["input_ids"], inputs["attention_mask"], inputs["completion_mask"]
        num_pairs = len(ids) // 2
        is_scored = is_answer.clone()
        if with_prompt:
            is_scored[:num_pairs] = seen[:num_pairs]
        router = {"output_router_logits": True} if self.aux_loss_enabled else {}
        given = {"input_ids": ids, "attention_mask": seen, "use_cache": False} | router
        num_targets = ids.shape[1] - 1
        if has_fused_head():
            outputs = model(**given, labels=ids.masked_fill(is_scored == 0, IGNORE_INDEX), fused_lm_head=True)
            log_probs = outputs.log_probs[:, -num_targets:]  # a soft prompt stands before them
        else:
            outputs = model(**given)
            log_probs = selective_log_softmax(outputs.logits[:, -num_targets - 1 : -1], ids[:, 1:])
        answers, scored = is_answer[:, 1:], is_scored[:num_pairs, 1:]
        nll = -(log_probs[:num_pairs] * scored).sum() / scored.sum()
        sums, lengths = (log_probs * answers).sum(dim=1), answers.sum(dim=1).float()
        pairs = PairLogProbs(*sums.chunk(2), *lengths.chunk(2), nll)
        return pairs, outputs.aux_loss if self.aux_loss_enabled else None
