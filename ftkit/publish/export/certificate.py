"""How far exported weights moved from their source: the same conversation through both, logits and greedy text.

before = observe(model, tokenizer)
certificate = compare(before, observe(exported, tokenizer), "f16")
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ftkit.config.errors import UserError
from ftkit.data.templates.answers import PROBES, probe_messages
from ftkit.data.templates.rendering import render
from ftkit.inference.divergence import token_kl

# T tokens, V vocabulary

NUM_GREEDY_TOKENS = 20
# Largest mean KL, nats per token, that rounding to the type explains. SmolLM2-135M: f16 3e-6, bf16 4e-5, q8_0 2e-3.
LARGEST_MEAN_KL = {"f32": 1e-6, "f16": 1e-3, "bf16": 1e-2, "q8_0": 2e-2}
LARGEST_RELATIVE_DIFFERENCE = 1e-4  # of the largest logit, for float32: two orders of summation


@dataclass(frozen=True)
class Observation:
    """What a model says of the golden conversation: logits (T, V) float32 after each token, and greedy token ids."""

    logits_TV: Tensor
    greedy_ids: list[int]


@dataclass(frozen=True)
class Certificate:
    """The change between two observations. mean_kl: KL(before || after), nats per token."""

    num_tokens: int
    max_logit_difference: float
    largest_logit: float
    top1_agreement: float
    mean_kl: float
    greedy_tokens_equal: bool

    def line(self) -> str:
        """One line for people."""
        greedy = "equal" if self.greedy_tokens_equal else "different"
        return (
            f"checked on {self.num_tokens} tokens: largest logit difference {self.max_logit_difference:.2g} (of "
            f"{self.largest_logit:.3g}), KL {self.mean_kl:.2g} nats, top-1 agreement {self.top1_agreement:.1%}, "
            f"greedy text {greedy}"
        )


def golden_ids(tokenizer: PreTrainedTokenizerBase, context: int) -> tuple[list[int], list[int]]:
    """Token ids of the golden conversation and of its first question, cut to what a context of `context` holds.

    Without a chat template both are plain text.
    """
    context -= NUM_GREEDY_TOKENS
    if not tokenizer.chat_template:
        text = " ".join(content for probe in PROBES for _, content in probe)
        return tokenizer(text)["input_ids"][:context], tokenizer(PROBES[0][0][1])["input_ids"][:context]
    try:
        conversation = render(probe_messages(PROBES[1]), tokenizer)
    except UserError:  # the template takes no system turn
        conversation = render(probe_messages(PROBES[0]), tokenizer)
    question = render(probe_messages(PROBES[0])[:1], tokenizer, add_generation_prompt=True)
    texts = (conversation, question)
    ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    return ids[0][:context], ids[1][-context:]


@torch.inference_mode()
def observe(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Observation:
    """Run the golden conversation through a model, in evaluation mode, in the model's precision."""
    model.eval()
    context = getattr(model.config.get_text_config(), "max_position_embeddings", None) or 2048
    conversation, prompt = golden_ids(tokenizer, context)
    logits_TV = model(input_ids=torch.tensor([conversation], device=model.device)).logits[0].float().cpu()
    return Observation(logits_TV, _greedy(model, prompt))


def _greedy(model: PreTrainedModel, prompt: list[int]) -> list[int]:
    """The likeliest next tokens, end tokens included: no setting of the folder's generation config takes part."""
    ids, cache, found = torch.tensor([prompt], device=model.device), None, []
    for _ in range(NUM_GREEDY_TOKENS):
        output = model(input_ids=ids, past_key_values=cache, use_cache=True)
        cache, ids = output.past_key_values, output.logits[:, -1:].argmax(-1)
        found.append(int(ids))
    return found


def compare(before: Observation, after: Observation, kind: str) -> Certificate:
    """Return the change. kind: what the weights were stored in: f32, f16, bf16 or q8_0.

    Raises UserError if it is more than the rounding of `kind` explains.
    """
    if before.logits_TV.shape != after.logits_TV.shape:
        shapes = (tuple(before.logits_TV.shape), tuple(after.logits_TV.shape))
        raise UserError(
            f"the exported model answers in a different shape: {shapes[1]} for {shapes[0]}; nothing was written"
        )
    certificate = Certificate(
        num_tokens=len(before.logits_TV),
        max_logit_difference=float((before.logits_TV - after.logits_TV).abs().max()),
        largest_logit=float(before.logits_TV.abs().max()),
        top1_agreement=float((before.logits_TV.argmax(-1) == after.logits_TV.argmax(-1)).float().mean()),
        mean_kl=float(token_kl(before.logits_TV, after.logits_TV).mean()),
        greedy_tokens_equal=before.greedy_ids == after.greedy_ids,
    )
    limit = LARGEST_RELATIVE_DIFFERENCE * max(1.0, certificate.largest_logit)
    is_within = certificate.mean_kl <= LARGEST_MEAN_KL[kind]  # false for NaN
    if not is_within or (kind == "f32" and not certificate.max_logit_difference <= limit):
        raise UserError(
            f"the exported model differs from the source ({certificate.line()}; allowed for {kind}: KL "
            f"{LARGEST_MEAN_KL[kind]:g}); nothing was written; try a higher precision, and report it if that stays so"
        )
    return certificate
