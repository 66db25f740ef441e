"""How far one model's next-token distribution is from another's, at the answers' tokens of rows: KL, top-1, logits.

    compare_models(reference, candidate, rows, pad_token_id).mean_kl     # nats per token

This is what merging, quantising and exporting are held against. Logits exist for a chunk of tokens at a time.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ftkit.inference.generation import evaluation_mode
from ftkit.inference.scoring import HEAD_CHUNK, IGNORE_INDEX, choose_scorer, padded

# B batch, T tokens, N scored tokens, V vocabulary


@dataclass(frozen=True)
class Divergence:
    """The change from a reference to a candidate over `num_tokens` answer tokens of `num_rows` rows.

    mean_kl, max_kl: KL(reference || candidate) per token, in nats; rounding in float32 leaves about 1e-7, of either
    sign. top1_agreement: share of tokens where both find the same token likeliest. max_logit_difference: over all
    tokens and the whole vocabulary. max_abs_logit: the largest logit of the reference, for scale.
    """

    num_rows: int
    num_tokens: int
    mean_kl: float
    max_kl: float
    top1_agreement: float
    max_logit_difference: float
    max_abs_logit: float

    def as_dict(self) -> dict:
        """The figures by name, as plain JSON values."""
        return dataclasses.asdict(self)


def token_kl(reference_NV: Tensor, candidate_NV: Tensor) -> Tensor:
    """KL(reference || candidate) of each token, in nats: (N,) float32, from logits of any floating dtype.

    sum over the vocabulary of p (log p - log q), with p and q the softmax of the logits in float32. Where p is 0 the
    term is 0. Source: Kullback and Leibler 1951.
    Raises ValueError if the shapes differ.
    """
    if reference_NV.shape != candidate_NV.shape:
        raise ValueError(
            f"logits of shape {tuple(reference_NV.shape)} and {tuple(candidate_NV.shape)}; one vocabulary is needed"
        )
    reference_NV, candidate_NV = reference_NV.float(), candidate_NV.float()
    log_p_NV, log_q_NV = F.log_softmax(reference_NV, dim=-1), F.log_softmax(candidate_NV, dim=-1)
    p_NV = log_p_NV.exp()
    return torch.where(p_NV > 0, p_NV * (log_p_NV - log_q_NV), 0.0).sum(dim=-1)


def compare_models(
    reference, candidate, rows: Sequence[dict], pad_token_id: int, *, num_tokens: int | None = None, batch_size: int = 8
) -> Divergence:
    """Compare two models of one vocabulary on the answers' tokens of tokenized rows; their modes are restored.

    rows: {"input_ids", "labels"}, labels as in training (IGNORE_INDEX is not scored; label t is predicted at t - 1).
    num_tokens: of the vocabulary that both know, where one head has padding beyond it.
    Raises ValueError if no row has a scored token or the vocabularies differ.
    """
    rows = [row for row in rows if any(label != IGNORE_INDEX for label in row["labels"][1:])]
    if not rows:
        raise ValueError("no row has an answer token to compare at; give rows with answers")
    rows.sort(key=lambda row: -len(row["input_ids"]))
    num_scored, total_kl, same = 0, 0.0, 0
    max_kl, max_difference, max_logit = -torch.inf, 0.0, 0.0
    with evaluation_mode(reference), evaluation_mode(candidate):
        scorers = [choose_scorer(model, rows[-1]["input_ids"]) for model in (reference, candidate)]
        for pair in paired_logits(scorers, (reference, candidate), rows, pad_token_id, batch_size):
            reference_NV, candidate_NV = (logits_NV[:, :num_tokens] for logits_NV in pair)
            kl_N = token_kl(reference_NV, candidate_NV)
            num_scored += len(kl_N)
            total_kl += kl_N.double().sum().item()
            max_kl = max(max_kl, kl_N.max().item())
            same += int((reference_NV.argmax(dim=-1) == candidate_NV.argmax(dim=-1)).sum())
            max_difference = max(max_difference, (reference_NV - candidate_NV).abs().max().item())
            max_logit = max(max_logit, reference_NV.abs().max().item())
    return Divergence(
        len(rows), num_scored, total_kl / num_scored, max_kl, same / num_scored, max_difference, max_logit
    )


def row_divergences(
    reference, candidate, rows: Sequence[dict], pad_token_id: int, *, num_tokens: int | None = None, batch_size: int = 8
) -> list[float]:
    """KL(reference || candidate) of each row, summed over its scored tokens, in nats; 0 of a row without any.

    num_tokens: of the vocabulary that both know, where one head has padding beyond it. Raises ValueError as
    `compare_models` does, for two heads of different sizes where it is not given.
    """
    places = [place for place, row in enumerate(rows) if any(label != IGNORE_INDEX for label in row["labels"][1:])]
    places.sort(key=lambda place: -len(rows[place]["input_ids"]))
    found = [0.0] * len(rows)
    if not places:
        return found
    scored = [rows[place] for place in places]
    owners = [
        place for place in places for label in rows[place]["labels"][1:] if label != IGNORE_INDEX
    ]  # fmt: skip
    with evaluation_mode(reference), evaluation_mode(candidate):
        models = (reference, candidate)
        scorers = [choose_scorer(model, scored[-1]["input_ids"]) for model in models]
        start = 0
        for pair in paired_logits(scorers, models, scored, pad_token_id, batch_size):
            kl_N = token_kl(*(logits_NV[:, :num_tokens] for logits_NV in pair)).double().tolist()
            for owner, value in zip(owners[start : start + len(kl_N)], kl_N, strict=True):
                found[owner] += value
            start += len(kl_N)
    return found


def paired_logits(
    scorers: list, models: tuple, rows: list[dict], pad_token_id: int, batch_size: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Logits of both models, float32, (up to HEAD_CHUNK, V) each, at the positions that predict an answer token."""
    for start in range(0, len(rows), batch_size):
        streams = []
        for scorer, model in zip(scorers, models, strict=True):
            ids_BT, mask_BT, labels_BT = padded(rows[start : start + batch_size], pad_token_id, model.device)
            targets_BT = F.pad(labels_BT[:, 1:], (0, 1), value=IGNORE_INDEX)
            kept_BT = targets_BT != IGNORE_INDEX
            streams.append(chunks(scorer(ids_BT, mask_BT, kept_BT, targets_BT[kept_BT])))
        for reference_NV, candidate_NV in zip(*streams, strict=True):
            yield reference_NV, candidate_NV.to(reference_NV.device)


def chunks(scored: Iterator[tuple[Tensor, Tensor]]) -> Iterator[Tensor]:
    """A scorer's logits in equal chunks, whether it gives them so or all at once."""
    for logits_NV, _ in scored:
        for chunk_NV in logits_NV.split(HEAD_CHUNK):
            yield chunk_NV.float()
