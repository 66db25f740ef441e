"""Rows in blocks: whether they are packed, how long a block is, and how attention keeps documents apart."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ftkit.config.errors import UserError
from ftkit.training.decided import Facts

BLOCK_MULTIPLE = 64  # packed block lengths are rounded up to it
PACKED_ATTENTION = "packed_sdpa"  # ftkit.model.fast.packed_attention
VARLEN_ATTENTION = "packed_varlen"  # ftkit.model.fast.varlen_attention
GPU_LIBRARIES = ("flash_attention_2", "flex_attention")  # that keep packed documents apart, the faster one first


@dataclass
class PackingPlan:
    """Packed block length in tokens, and the batch that keeps tokens per update near those of the unpacked run."""

    block_length: int
    per_device_train_batch_size: int
    gradient_accumulation_steps: int

    @property
    def tokens_per_update(self) -> int:
        """Tokens of all blocks of an update."""
        return self.block_length * self.per_device_train_batch_size * self.gradient_accumulation_steps


def plan_packing(
    lengths: Sequence[int], batch_size: int, accumulation: int, max_length: int, longest: int | None = None
) -> PackingPlan:
    """Choose the packed block so that an update sees about as many tokens as without packing.

    lengths: tokens of each row. Packing rows into blocks of max_length would turn 935 short rows into ten updates; the
    block is therefore as long as a batch of average rows, at least as long as the longest row, at most max_length.
    """
    target = batch_size * accumulation * sum(lengths) / len(lengths)
    wanted = max(longest or max(lengths), target / accumulation)
    block = min(max_length, math.ceil(wanted / BLOCK_MULTIPLE) * BLOCK_MULTIPLE)
    return PackingPlan(block, 1, max(1, round(target / block)))


def blocks(asked, facts: Facts, max_length: int | None, given: frozenset[str], reasons: dict) -> dict:
    """Whether rows are packed, the length of a block, and how many make an update."""
    training = asked.training
    batch, accumulation = training.per_device_train_batch_size, training.gradient_accumulation_steps
    values = {
        "packing": False, "eval_packing": bool(getattr(training, "eval_packing", False)),  # scored row by row
        "block_length": getattr(asked.data, "block_size", None),
        "per_device_train_batch_size": batch, "gradient_accumulation_steps": accumulation,
    }  # fmt: skip
    wanted = getattr(training, "packing", False)
    if wanted is False:
        return values
    obstacle = packing_obstacle(asked, facts, max_length)
    if obstacle and wanted:
        raise UserError(f"--packing: {obstacle}; drop --packing")
    if obstacle:
        reasons["packing"] = obstacle
        return values
    longest = max_length if facts.is_stream else max(facts.lengths)
    if wanted:
        return values | {"packing": True, "block_length": max_length or longest}
    plan = plan_packing(facts.lengths, batch, accumulation, max_length or longest, longest)
    reasons["packing"] = f"rows stay isolated here; blocks of {plan.block_length} tokens keep the size of an update"
    asked_rows = sorted({"per_device_train_batch_size", "gradient_accumulation_steps"} & given)
    if asked_rows:
        num_blocks = plan.per_device_train_batch_size * plan.gradient_accumulation_steps
        reasons["per_device_train_batch_size"] = (
            f"{batch * accumulation} rows per update were asked for: {num_blocks} "
            f"block{'s' if num_blocks > 1 else ''} of packed rows hold about as many (--packing false keeps rows apart)"
        )
    return values | {"packing": True, **vars(plan)}


def packing_obstacle(asked, facts: Facts, max_length: int | None) -> str | None:
    """Why rows can't be packed, or None."""
    if asked.model.use_peft and asked.model.peft_method == "prompt_tuning":
        return "soft prompts lose the positions that keep packed rows apart"
    if not facts.isolates:
        return "packed rows see each other in this model"
    if facts.is_stream and max_length is None:
        return "a stream of rows without --max_length has no longest row"
    return None


def attention(asked, facts: Facts, values: dict, reasons: dict) -> dict:
    """The attention backend, and how it keeps packed documents apart."""
    backend = asked.model.attn_implementation or "sdpa"
    isolated = getattr(asked.data, "isolate_documents", False)
    if isolated and not facts.isolates:
        raise UserError("--isolate_documents: documents see each other in this model; drop it")
    if not (values["packing"] or isolated):
        return {"attention": backend}
    if backend == "sdpa" and values["use_cpu"] and facts.isolates_by_document:
        reasons["attention"] = "on a CPU each packed document is attended by itself"
        return {"attention": PACKED_ATTENTION}
    if asked.model.attn_implementation is None and facts.gpu_attention and (values["bf16"] or asked.training.fp16):
        reasons["attention"] = "packed documents stay apart without a mask"
        return {"attention": facts.gpu_attention}
    reasons["attention"] = f"{backend} with a mask that keeps packed documents apart"
    return {"attention": backend}
