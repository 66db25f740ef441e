"""Scores of answers: exact match, loss on the answers' tokens, and the baselines a fine-tune has to beat."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ftkit.inference.generation import evaluation_mode

# B batch, T tokens, N scored tokens, D hidden, V vocabulary

IGNORE_INDEX = -100  # label that cross-entropy skips
HEAD_CHUNK = 512  # scored tokens whose logits exist at a time: 100 MB at a vocabulary of 50,000
# Settings by which models change logits after their head (Gemma 2, Cohere, Granite, Falcon-H1, MiniCPM).
LOGIT_SETTINGS = ("final_logit_softcapping", "logit_scale", "logits_scaling", "lm_head_multiplier", "dim_model_base")
HEAD_TOLERANCE = 1e-4  # relative; between two ways to the same logits only rounding differs


def normalize_answer(text: str) -> str:
    """Strip, make runs of white space one space, and drop one full stop at the end; "IRON" is not "iron"."""
    return " ".join(text.split()).removesuffix(".").rstrip()


def exact_match(predictions: Sequence[str], references: Sequence[str]) -> list[bool]:
    """Whether each prediction equals its reference after `normalize_answer`.

    Raises ValueError for unequal lengths.
    """
    if len(predictions) != len(references):
        raise ValueError(f"{len(predictions)} predictions and {len(references)} references; give one of each per row")
    pairs = zip(predictions, references, strict=True)
    return [normalize_answer(prediction) == normalize_answer(reference) for prediction, reference in pairs]


def most_frequent_answer(train_answers: Sequence[str]) -> str:
    """The answer that occurs most often after `normalize_answer`, as first written; the earliest wins a tie.

    Raises ValueError for no answers.
    """
    if not train_answers:
        raise ValueError("no answers; give those of the training rows")
    written: dict[str, str] = {}
    for answer in train_answers:
        written.setdefault(normalize_answer(answer), answer)
    return written[Counter(map(normalize_answer, train_answers)).most_common(1)[0][0]]


def copy_input(rows: Sequence[dict]) -> list[str]:
    """For each Alpaca row what a model that only copies would say, at its best.

    The input if there is one, else the last part of the instruction in double quotes, else the whole instruction.
    """
    return [row.get("input", "").strip() or _last_quoted(row["instruction"]) for row in rows]


def _last_quoted(instruction: str) -> str:
    quoted = re.findall(r'"([^"]+)"|“([^”]+)”', instruction)
    return "".join(quoted[-1]) if quoted else instruction


class TokenScores(NamedTuple):
    """Of one row's scored tokens: summed negative log-likelihood in nats, their number, and how many of them are the
    likeliest token at their place."""

    loss: float
    num_tokens: int
    num_right: int


def answer_loss(model, rows: Sequence[dict], pad_token_id: int, batch_size: int = 8) -> list[tuple[float, int]]:
    """Loss and number of tokens of each row, as `token_scores` gives them."""
    return [score[:2] for score in token_scores(model, rows, pad_token_id, batch_size)]


def token_scores(model, rows: Sequence[dict], pad_token_id: int, batch_size: int = 8) -> list[TokenScores]:
    """Return the scores of each row's trained tokens, in order.

    rows: {"input_ids", "labels"}, labels as in training (IGNORE_INDEX is not scored; label t is predicted at t - 1).
    sum(loss) / sum(num_tokens) is the mean loss per token that transformers reports; a row without any is (0.0, 0, 0).
    Logits exist at scored positions only where the model's head is a plain function of its backbone's output, which is
    checked on the shortest row; soft-capped, scaled and prompt-tuned models take their full forward.
    Raises ValueError where input_ids and labels differ in length.
    """
    for number, row in enumerate(rows):
        if len(row["input_ids"]) != len(row["labels"]):
            raise ValueError(f"row {number}: {len(row['input_ids'])} input_ids and {len(row['labels'])} labels")
    scored = [index for index, row in enumerate(rows) if any(label != IGNORE_INDEX for label in row["labels"][1:])]
    scores = [TokenScores(0.0, 0, 0)] * len(rows)
    if not scored:
        return scores
    scored.sort(key=lambda index: -len(rows[index]["input_ids"]))
    with evaluation_mode(model):
        scorer = choose_scorer(model, rows[scored[-1]]["input_ids"])
        for start in range(0, len(scored), batch_size):
            indices = scored[start : start + batch_size]
            batch = padded([rows[index] for index in indices], pad_token_id, model.device)
            for index, score in zip(indices, batch_scores(scorer, *batch), strict=True):
                scores[index] = score
    return scores


def padded(rows: list[dict], pad_token_id: int, device) -> tuple[Tensor, Tensor, Tensor]:
    """input_ids, attention_mask and labels, each (B, T), padded on the right."""
    width = max(len(row["input_ids"]) for row in rows)
    ids = [list(row["input_ids"]) + [pad_token_id] * (width - len(row["input_ids"])) for row in rows]
    mask = [[1] * len(row["input_ids"]) + [0] * (width - len(row["input_ids"])) for row in rows]
    labels = [list(row["labels"]) + [IGNORE_INDEX] * (width - len(row["labels"])) for row in rows]
    return tuple(torch.tensor(values, device=device) for values in (ids, mask, labels))


def batch_scores(scorer: Callable, input_ids_BT, attention_mask_BT, labels_BT) -> list[TokenScores]:
    """The scores of each row."""
    targets_BT = F.pad(labels_BT[:, 1:], (0, 1), value=IGNORE_INDEX)
    kept_BT = targets_BT != IGNORE_INDEX
    parts = [
        (F.cross_entropy(logits_NV.float(), targets_N, reduction="none"), logits_NV.argmax(dim=-1) == targets_N)
        for logits_NV, targets_N in scorer(input_ids_BT, attention_mask_BT, kept_BT, targets_BT[kept_BT])
    ]
    row_of_N = kept_BT.nonzero()[:, 0]
    sums = []
    for values in zip(*parts, strict=True):
        totals_B = torch.zeros(len(labels_BT), dtype=torch.float64, device=labels_BT.device)
        sums.append(totals_B.index_add_(0, row_of_N, torch.cat(values).double()).tolist())
    losses, num_right = sums
    counts = kept_BT.sum(dim=1).tolist()
    return [TokenScores(*row) for row in zip(losses, counts, map(int, num_right), strict=True)]


def choose_scorer(model, input_ids: Sequence[int]) -> Callable[..., Iterator[tuple[Tensor, Tensor]]]:
    """The compact way to logits at scored positions if it agrees with the model's own forward on `input_ids`."""
    full, compact = FullScorer(model), CompactScorer.of(model)
    if compact is None:
        return full
    ids_BT = torch.tensor([list(input_ids)], device=model.device)
    every_BT = torch.ones_like(ids_BT, dtype=torch.bool)
    wanted_NV, given_NV = (
        torch.cat([logits_NV.float() for logits_NV, _ in scorer(ids_BT, torch.ones_like(ids_BT), every_BT, ids_BT[0])])
        for scorer in (full, compact)
    )
    error = float((wanted_NV - given_NV).detach().abs().max())
    scale = max(1.0, float(wanted_NV.detach().abs().max()))
    resolution = HEAD_TOLERANCE if model.dtype == torch.float32 else 2 * torch.finfo(model.dtype).eps
    return compact if error <= resolution * scale else full


class FullScorer:
    """Logits of all positions by the model's own forward."""

    def __init__(self, model):
        self.model = model

    def __call__(self, input_ids_BT, attention_mask_BT, kept_BT, targets_N):
        logits_BTV = self.model(input_ids=input_ids_BT, attention_mask=attention_mask_BT, use_cache=False).logits
        logits_BTV = logits_BTV[:, -input_ids_BT.shape[1] :]  # soft prompts stand in front
        yield logits_BTV[kept_BT], targets_N


class CompactScorer:
    """Logits at the kept positions only: hidden states of the backbone, then the head in chunks."""

    def __init__(self, backbone, head):
        self.backbone, self.head = backbone, head

    @classmethod
    def of(cls, model) -> "CompactScorer | None":
        """None for a model whose backbone and head can't be told apart, or whose logits are changed after the head."""
        base = model.get_base_model() if hasattr(model, "get_base_model") else model
        backbone = getattr(base, getattr(base, "base_model_prefix", "") or "", None)
        head = base.get_output_embeddings() if hasattr(base, "get_output_embeddings") else None
        if backbone is None or head is None or base.config.is_encoder_decoder:
            return None
        if any(getattr(base.config.get_text_config(), name, None) is not None for name in LOGIT_SETTINGS):
            return None
        return cls(backbone, head)

    def __call__(self, input_ids_BT, attention_mask_BT, kept_BT, targets_N):
        output = self.backbone(input_ids=input_ids_BT, attention_mask=attention_mask_BT, use_cache=False)
        hidden_ND = output.last_hidden_state[kept_BT]
        for start in range(0, len(hidden_ND), HEAD_CHUNK):
            yield self.head(hidden_ND[start : start + HEAD_CHUNK]), targets_N[start : start + HEAD_CHUNK]
