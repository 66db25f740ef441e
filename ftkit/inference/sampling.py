"""Samples of a model's own distribution, for training on them: ids, texts and the log-probability of each token.

    groups = sample(model, tokenizer, prompts_ids, num_samples=8, max_new_tokens=64, end_ids=[2])
    groups[0][3].ids, groups[0][3].text, groups[0][3].log_probs, groups[0][3].is_ended

A prompt is read once for all of its samples, and answers that have ended leave the batch. There is a temperature and
nothing else: top_p, top_k, a repetition penalty and their like sample from one distribution and score another.
"""

import copy
import inspect
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedTokenizerBase
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from ftkit.inference.generation import (
    answer_limit,
    batches,
    context_limit,
    continuation_text,
    evaluation_mode,
    in_halves,
    padded,
    uses_soft_prompt,
)

# B rows in the batch, T tokens so far, V vocabulary

SEQUENCES = 64  # answered at once
FEWER = 0.75  # of the rows still open: then the others leave the batch


@dataclass(frozen=True)
class Sample:
    """An answer. ids: with its end token, where it has one (is_ended). log_probs: of each of them, in nats, at the
    temperature that they were sampled with."""

    ids: list[int]
    text: str
    log_probs: list[float]
    is_ended: bool


def sample(
    model,
    tokenizer: PreTrainedTokenizerBase,
    prompts_ids: Sequence[list[int]],
    *,
    num_samples: int,
    max_new_tokens: int,
    end_ids: Sequence[int],
    temperature: float = 1.0,
    batch_size: int = SEQUENCES,
    generator: torch.Generator | None = None,
) -> list[list[Sample]]:
    """`num_samples` answers to each prompt, in order, drawn from the model's own distribution at a temperature.

    prompts_ids: token ids up to where the answer begins, template included. batch_size: answers at once, at least one
    prompt's; halved where memory does not hold them. generator: on the model's device; the global one where None. The
    model's modes are restored. An answer that reaches max_new_tokens, or the end of the context, is cut: not ended.
    Raises ValueError for a prompt that is empty or fills the context, numbers out of range, and soft prompts.
    """
    if min(num_samples, max_new_tokens, batch_size) < 1 or temperature <= 0:
        raise ValueError("num_samples, max_new_tokens and batch_size must be at least 1, the temperature above 0")
    if uses_soft_prompt(model):
        raise ValueError("a soft prompt can't be sampled in batches: PEFT drops the positions; train a LoRA")
    if any(len(ids) == 0 for ids in prompts_ids):
        raise ValueError("a prompt has no tokens; give at least one")
    if not prompts_ids:
        return []
    answer_limit(model, max(map(len, prompts_ids)), max_new_tokens)  # raises before anything is sampled
    sampler = Sampler(model, list(end_ids), num_samples, max_new_tokens, temperature, generator)
    found: list[list[Sample]] = [[] for _ in prompts_ids]
    fitting = context_limit(model) - max_new_tokens
    with evaluation_mode(model):
        for places in batches(list(map(len, prompts_ids)), max(1, batch_size // num_samples), fitting):
            drawn = in_halves(sampler.of, [prompts_ids[place] for place in places])
            for place, answers in zip(places, drawn, strict=True):
                found[place] = [as_sample(ids, logs, end_ids, tokenizer) for ids, logs in answers]
    return found


def as_sample(ids: list[int], log_probs: list[float], end_ids: Sequence[int], tokenizer) -> Sample:
    """What was drawn, with its text: without the end token, which may be plain text to the tokenizer."""
    is_ended = ids[-1] in end_ids
    text = continuation_text(ids[:-1] if is_ended else ids, tokenizer).strip()
    return Sample(ids, text, log_probs, is_ended)


@dataclass(frozen=True)
class Sampler:
    """How answers are drawn; see `sample`."""

    model: torch.nn.Module
    end_ids: list[int]
    num_samples: int
    max_new_tokens: int
    temperature: float
    generator: torch.Generator | None

    def of(self, prompts: Sequence[list[int]]) -> list[list[tuple[list[int], list[float]]]]:
        """(ids, log-probabilities) of each answer of each prompt."""
        device, num = next(self.model.parameters()).device, self.num_samples
        input_ids_BT, mask_BT = padded(prompts, 0, prompts[0][-1], device)
        steps = answer_limit(self.model, input_ids_BT.shape[1], self.max_new_tokens)
        state = Reading(self.model, input_ids_BT, mask_BT)
        logits_BV = state.next_logits().repeat_interleave(num, dim=0)
        state.repeat(num)
        rows = list(range(len(prompts) * num))  # of the answers that are still open
        answers: list[tuple[list[int], list[float]]] = [([], []) for _ in rows]
        ends = torch.tensor(self.end_ids, device=device)
        open_rows = set(rows)
        for step in range(steps):
            tokens_B, log_probs_B = self.draw(logits_BV)
            has_ended = torch.isin(tokens_B, ends).tolist()
            for row, token, log_prob, ended in zip(
                rows, tokens_B.tolist(), log_probs_B.tolist(), has_ended, strict=True
            ):
                if row in open_rows:
                    answers[row][0].append(token)
                    answers[row][1].append(log_prob)
                    if ended:
                        open_rows.discard(row)
            if not open_rows or step + 1 == steps:
                break
            if len(open_rows) <= FEWER * len(rows):
                kept = [place for place, row in enumerate(rows) if row in open_rows]
                rows, tokens_B = [rows[place] for place in kept], tokens_B[kept]
                state.keep(kept)
            logits_BV = state.next_logits(tokens_B)
        return [answers[start : start + num] for start in range(0, len(answers), num)]

    def draw(self, logits_BV: Tensor) -> tuple[Tensor, Tensor]:
        """A token for each row, and its log-probability, (B,) each."""
        log_probs_BV = torch.log_softmax(logits_BV.float() / self.temperature, dim=-1)
        tokens_B1 = torch.multinomial(log_probs_BV.exp(), 1, generator=self.generator)
        return tokens_B1[:, 0], log_probs_BV.gather(1, tokens_B1)[:, 0]


class Reading:
    """What the model has read: rows that grow by a token at a time, with their keys and values where these can be
    repeated and selected, else read again whole."""

    def __init__(self, model, input_ids_BT: Tensor, mask_BT: Tensor):
        self.model, self.ids_BT, self.mask_BT = model, input_ids_BT, mask_BT
        base = model.get_base_model() if hasattr(model, "get_base_model") else model
        known = inspect.signature(base.forward).parameters
        self.takes_positions, self.keeps_logits = "position_ids" in known, "logits_to_keep" in known
        cache = DynamicCache(config=copy.copy(model.config.get_text_config()))
        plain = all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in cache.layers)
        self.cache = cache if plain and "past_key_values" in known else None

    def next_logits(self, tokens_B: Tensor | None = None) -> Tensor:
        """The logits, (B, V), of each row's next token, after one more has been added to it."""
        unread_BT = self.ids_BT
        if tokens_B is not None:
            self.ids_BT = torch.cat([self.ids_BT, tokens_B[:, None]], dim=1)
            self.mask_BT = torch.cat([self.mask_BT, torch.ones_like(self.mask_BT[:, :1])], dim=1)
            unread_BT = self.ids_BT if self.cache is None else tokens_B[:, None]
        given = {"attention_mask": self.mask_BT, "use_cache": self.cache is not None}
        if self.takes_positions:
            positions_BT = (self.mask_BT.cumsum(dim=1) - 1).clamp(min=0)
            given["position_ids"] = positions_BT[:, -unread_BT.shape[1] :]
        if self.keeps_logits:
            given["logits_to_keep"] = 1
        if self.cache is not None:
            given["past_key_values"] = self.cache
        return self.model(input_ids=unread_BT, **given).logits[:, -1]

    def repeat(self, num: int) -> None:
        """Make `num` rows of each."""
        self.ids_BT, self.mask_BT = (tensor.repeat_interleave(num, dim=0) for tensor in (self.ids_BT, self.mask_BT))
        if self.cache is not None:
            self.cache.batch_repeat_interleave(num)

    def keep(self, places: list[int]) -> None:
        """Forget all other rows."""
        self.ids_BT, self.mask_BT = self.ids_BT[places], self.mask_BT[places]
        if self.cache is not None:
            self.cache.batch_select_indices(torch.tensor(places, device=self.ids_BT.device))
