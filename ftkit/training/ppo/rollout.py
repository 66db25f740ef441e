"""A rollout: answers drawn from the policy, with all that the updates on them have to know.

It is a dict of tensors with a row for each answer: "input_ids" and "attention_mask" (B, T), padded on the right; over
the last K positions, in which all answers lie, "mask", "log_probs", "values", "advantages" and "returns" (B, K).
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ftkit.model.value_head import with_states
from ftkit.training.ppo import formulas

# B answers, T tokens, K positions in which answers lie

Rollout = dict[str, Tensor]


def permutation(length: int, *seeds: int) -> list[int]:
    """An order of `length` things that depends on the seeds alone, so that a run goes on with the same one."""
    return torch.randperm(length, generator=generator_of(*seeds)).tolist()


def generator_of(*seeds: int, device="cpu") -> torch.Generator:
    """A generator of random numbers that depends on the seeds alone."""
    mixed = 0
    for seed in seeds:
        mixed = (mixed * 1_000_003 + seed) % 2**63
    return torch.Generator(device).manual_seed(mixed)


def prompt_places(rollout: int, num_prompts: int, size: int, seed: int | None) -> list[int]:
    """Which prompts a rollout takes, counted from the first of the run; those of a pass that fill none wait.

    seed: mixes them, in each pass in another way; None leaves them in order.
    """
    turn, place = divmod(rollout, num_prompts // size)
    order = range(num_prompts) if seed is None else permutation(num_prompts, seed, turn)
    return list(order[place * size : (place + 1) * size])


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


def read(model, base, batch: Rollout, temperature: float) -> Rollout:
    """What a model says of the answers' tokens, (B, K) each: "log_probs", "values" with a head, "entropy" unless
    gradients are taken.

    model: called; maybe a wrapper of `base`.
    """
    num_kept = batch["mask"].shape[1]
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    logits_BKV, states_BKD = with_states(model, base, num_kept, **inputs)
    found = {"log_probs": formulas.token_log_probs(logits_BKV, batch["input_ids"][:, -num_kept:], temperature)}
    if hasattr(base, "value"):  # which the reference has not
        found["values"] = base.value(states_BKD, **inputs)
    if not torch.is_grad_enabled():
        found["entropy"] = formulas.entropy(logits_BKV, temperature)
    return found


def parts(batch: Rollout, size: int) -> Iterator[Rollout]:
    """A batch in parts of `size` answers."""
    for start in range(0, len(batch["mask"]), size):
        yield {name: tensor[start : start + size] for name, tensor in batch.items()}


def joined(batches: Sequence[Rollout]) -> Rollout:
    """The parts as one batch."""
    return {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}
