"""The next token of an answer, drawn by its own settings, whoever is answered beside it.

    pen = Pen(drawing, prompt_ids, end_ids, device)
    pen.draw(logits_V)                                 # a Drawn

The order is: bias, constraint, repetition, presence and frequency, temperature, min_p, top_k, top_p.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ftkit.inference.batching.request import Drawing, Drawn

# V vocabulary, K tokens that are looked at

COLDEST = 1e-5  # the least temperature above 0: logits by less would be infinite

FEW = 512  # of the likeliest tokens, which mostly have the probability that top_p asks for


class Pen:
    """How the tokens of one answer are drawn, with what it has drawn so far.

    seed: of its generator; a new one each time where the drawing has none.
    """

    def __init__(self, drawing: Drawing, prompt_ids: Sequence[int], end_ids: Sequence[int], device: torch.device):
        self.drawing, self.device = drawing, device
        self.ids: list[int] = []
        self.end_ids = list(end_ids)
        self.counts: dict[int, int] = {}
        self.repeated = set(prompt_ids) if drawing.repetition_penalty != 1 else set()
        self.bias = on_device(drawing.logit_bias, device) if drawing.logit_bias else None
        self.generator = None
        if drawing.temperature > 0:
            self.generator = torch.Generator(device=device)
            if drawing.seed is None:
                self.generator.seed()
            else:
                self.generator.manual_seed(drawing.seed)

    @property
    def is_plain(self) -> bool:
        """Whether the likeliest token is taken as it is."""
        one = self.drawing
        return (
            one.temperature == 0 and one.num_top is None and one.constraint is None and self.bias is None
            and one.repetition_penalty == 1 and not one.presence_penalty and not one.frequency_penalty
            and len(self.ids) >= one.min_tokens
        )  # fmt: skip

    def take(self, token: int) -> None:
        """Go on by a token."""
        self.ids.append(token)
        self.counts[token] = self.counts.get(token, 0) + 1
        if self.drawing.repetition_penalty != 1:
            self.repeated.add(token)
        if self.drawing.constraint is not None:
            self.drawing.constraint.accept(token)

    def draw(self, logits_V: Tensor) -> Drawn:
        """The next token of this answer. Does not change the logits."""
        changed_V = self.changed(logits_V.clone())
        if self.generator is None:
            token = int(changed_V.argmax())
        else:
            temperature = max(self.drawing.temperature, COLDEST)
            probs_V = cut(torch.softmax(changed_V / temperature, dim=-1), self.drawing)
            token = int(torch.multinomial(probs_V, 1, generator=self.generator))
        if self.drawing.num_top is None:
            return Drawn(token)
        log_probs_V = torch.log_softmax(logits_V, dim=-1)
        values, places = log_probs_V.topk(min(self.drawing.num_top, len(log_probs_V)))
        return Drawn(token, float(log_probs_V[token]), tuple(zip(places.tolist(), values.tolist(), strict=True)))

    def changed(self, logits_V: Tensor) -> Tensor:
        """The logits with everything but temperature and what is cut off, in place."""
        one = self.drawing
        if self.bias is not None:
            logits_V.index_add_(0, *self.bias)
        if len(self.ids) < one.min_tokens:
            logits_V[[*self.end_ids, *one.stop_token_ids]] = -torch.inf
        if one.constraint is not None:
            one.constraint.mask(logits_V)
        if self.repeated:
            places = torch.tensor(sorted(self.repeated), device=self.device)
            found_K = logits_V[places]
            logits_V[places] = torch.where(
                found_K > 0, found_K / one.repetition_penalty, found_K * one.repetition_penalty
            )
        if self.counts and (one.presence_penalty or one.frequency_penalty):
            taken = {token: one.presence_penalty + one.frequency_penalty * num for token, num in self.counts.items()}
            places, values_K = on_device(taken, self.device)
            logits_V.index_add_(0, places, values_K, alpha=-1)
        return logits_V


def on_device(values: Mapping[int, float], device: torch.device) -> tuple[Tensor, Tensor]:
    """Tokens, (K,), and their values, (K,), of a mapping."""
    items = sorted(values.items())
    places, numbers = zip(*items, strict=True)
    return torch.tensor(places, device=device), torch.tensor(numbers, dtype=torch.float32, device=device)


def cut(probs_V: Tensor, drawing: Drawing) -> Tensor:
    """Probabilities with those that min_p, top_k and top_p leave out set to 0; their sum is no longer 1."""
    if drawing.min_p:
        probs_V = probs_V.masked_fill(probs_V < drawing.min_p * probs_V.max(), 0)
    if drawing.top_k and drawing.top_k < len(probs_V):
        least = probs_V.topk(drawing.top_k).values[-1]
        probs_V = probs_V.masked_fill(probs_V < least, 0)
    if drawing.top_p < 1:
        least = drawing.top_p * probs_V.sum()
        sorted_V, order_V = probs_V.topk(min(FEW, len(probs_V)))
        if sorted_V.sum() < least:  # seldom: sorting a whole vocabulary takes as long as a layer
            sorted_V, order_V = probs_V.sort(descending=True)
        kept_V = order_V[sorted_V.cumsum(0) - sorted_V < least]  # the first one is always among them
        probs_V = torch.zeros_like(probs_V).index_copy(0, kept_V, probs_V[kept_V])
    return probs_V
