"""A rollout: answers drawn from the policy, with all that the updates on them have to know.

A rollout is a dict of tensors with a row for each answer: "input_ids" and "attention_mask" (B, T), padded on the right;
over the last K positions, in which all answers lie, "mask", "log_probs", "values", "advantages" and "returns" (B, K).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers.modeling_layers import GradientCheckpointingLayer

from ftkit.model.value_head import with_states
from ftkit.training.ppo.formulas import log_probs_and_entropy

# B answers, T tokens, K positions in which answers lie

Rollout = dict[str, Tensor]


@dataclass(frozen=True)
class Order:
    """Which prompts a rollout takes and in which order its answers are learned from, by number and seed alone, so that
    a run that was stopped goes on with the same.

    size: prompts of a rollout, of all processes. is_shuffled: anew in each pass over the prompts.
    """

    num_prompts: int
    size: int
    seed: int
    is_shuffled: bool = True

    @property
    def per_pass(self) -> int:
        """Rollouts of a pass over the prompts; what does not fill one is left for the next pass."""
        return self.num_prompts // self.size

    def prompts(self, rollout: int, process: int, num_processes: int) -> list[int]:
        """The prompts that a process answers, of a rollout counted from the first of the run."""
        turn, place = divmod(rollout, self.per_pass)
        order = permutation(self.num_prompts, self.seed, turn) if self.is_shuffled else range(self.num_prompts)
        return list(order[place * self.size : (place + 1) * self.size][process::num_processes])


def permutation(length: int, *seeds: int) -> list[int]:
    """An order of `length` things that depends on the seeds alone."""
    return torch.randperm(length, generator=generator_of(*seeds)).tolist()


def generator_of(*seeds: int, device="cpu") -> torch.Generator:
    """A generator of random numbers that depends on the seeds alone."""
    mixed = 0
    for seed in seeds:
        mixed = (mixed * 1_000_003 + seed) % 2**63
    return torch.Generator(device).manual_seed(mixed)


def padded_rollout(prompts_ids: Sequence[list[int]], answers_ids: Sequence[list[int]], pad_id: int, device) -> Rollout:
    """Prompts with their answers, padded on the right, so that positions are those of the text in any model."""
    rows = [torch.tensor([*prompt, *answer]) for prompt, answer in zip(prompts_ids, answers_ids, strict=True)]
    input_ids_BT = pad_sequence(rows, batch_first=True, padding_value=pad_id)
    places_T = torch.arange(input_ids_BT.shape[1])
    starts_B1 = torch.tensor([[len(prompt)] for prompt in prompts_ids])
    is_token_BT = places_T < torch.tensor([[len(row)] for row in rows])
    num_kept = input_ids_BT.shape[1] - int(starts_B1.min())
    mask_BK = (is_token_BT & (places_T >= starts_B1))[:, -num_kept:]
    found = {"input_ids": input_ids_BT, "attention_mask": is_token_BT.long(), "mask": mask_BK.float()}
    return {name: tensor.to(device) for name, tensor in found.items()}


def policy_outputs(model, base, batch: Rollout, temperature: float) -> tuple[Tensor, Tensor, Tensor | None]:
    """Log-probabilities and entropies of the answers' tokens and, where `base` has a head, values; (B, K) each.

    model: called; maybe a wrapper of `base`.
    """
    num_kept = batch["mask"].shape[1]
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    logits_BKV, states_BKD = with_states(model, base, num_kept, **inputs)
    log_probs_BK, entropy_BK = log_probs_and_entropy(logits_BKV, batch["input_ids"][:, -num_kept:], temperature)
    values_BK = base.value(states_BKD, **inputs) if hasattr(base, "value") else None
    return log_probs_BK, entropy_BK, values_BK


def without_dropout(model: nn.Module) -> None:
    """Have a model that is trained act as it did when it answered: dropout would make the ratios to that noise.

    Only layers whose activations are recomputed stay in training mode, as they look for it.
    """
    for module in model.modules():
        module.training = isinstance(module, GradientCheckpointingLayer)


def parts(batch: Rollout, size: int) -> Iterator[Rollout]:
    """A batch in parts of `size` answers."""
    for start in range(0, len(batch["mask"]), size):
        yield {name: tensor[start : start + size] for name, tensor in batch.items()}
