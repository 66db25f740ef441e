"""What a run does, decided once: `decide(asked, facts)` gives a frozen Decided, each value with its reason.

It is a function of its arguments alone, so decisions for a GPU are tested without one. The first process decides, for
the device that will train; the others are told; `Decided.trainer_settings` is copied once into TRL's configuration.
"""

import dataclasses
import hashlib
import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ftkit.config.errors import UserError
from ftkit.config.estimate import Shape, Work, peak_memory_gib
from ftkit.config.hardware import Hardware

BLOCK_MULTIPLE = 64  # packed block lengths are rounded up to it
MIN_LOGS = 20  # a short run logs more often than every 10 updates, so that its curve has this many points
MEMORY_SHARE = 0.85  # of a device's memory that the estimate may fill before activations are recomputed
FEW_LOGITS = 256 * 49_152  # of a batch; so few are scored faster whole
KERNEL_VARIABLE = "FTKIT_LOSS_HEAD"  # names the loss head's kernel
PACKED_ATTENTION = "packed_sdpa"  # ftkit.model.fast.packed_attention
BEST_WEIGHTS_KEPT = 2  # checkpoints, where the best weights are chosen and nobody says how many are kept


@dataclass(frozen=True)
class Facts:
    """What decisions rest on, beside what was asked.

    shape: of the model. context: its longest input, None for any. lengths: tokens of each training row, of a stream's
    first rows, empty where text is cut into blocks. num_blocks: of such text, None for a stream. isolates: whether
    packed documents see nothing of each other under sdpa, and under document-by-document attention. num_test: held-out
    rows. head_kernel: the faster kernel of the loss head on this GPU, None where it was not timed.
    """

    hardware: Hardware
    shape: Shape
    context: int | None = None
    lengths: Sequence[int] = ()
    is_stream: bool = False
    num_blocks: int | None = None
    num_test: int = 0
    isolates: bool = True
    isolates_by_document: bool = True
    head_kernel: str | None = None

    def digest(self) -> str:
        """SHA-256 of what is known of rows and model: other rows may need other decisions."""
        known = [dataclasses.asdict(self.shape), self.context, list(self.lengths), self.is_stream, self.num_blocks]
        return hashlib.sha256(json.dumps([*known, self.num_test, self.isolates], default=int).encode()).hexdigest()


@dataclass(frozen=True)
class Decided:
    """Every value of a run that was decided, by the names of the settings where there is one, and why.

    attention: the backend. loss_head: kernel of the LM head, "off" for the model's own loss. max_length: longest row.
    block_length: of packed rows or of text, None where rows stay apart. num_updates: about as many as there will be.
    num_parameters, peak_memory_gib: of the model as planned, and the estimate for a training step. facts: the digest
    of those it rests on.
    """

    use_cpu: bool
    bf16: bool
    dtype: str
    attention: str
    packing: bool
    eval_packing: bool
    max_length: int | None
    block_length: int | None
    per_device_train_batch_size: int
    gradient_accumulation_steps: int
    activation_checkpointing: bool
    fused_lora: bool
    loss_head: str
    learning_rate: float
    lr_scheduler_type: str
    lr_scheduler_kwargs: dict | None
    max_steps: int
    num_updates: int
    eval_strategy: str
    eval_on_start: bool
    logging_steps: float
    save_strategy: str
    save_steps: float
    save_total_limit: int | None
    load_best_model_at_end: bool
    metric_for_best_model: str | None
    greater_is_better: bool | None
    ddp_backend: str | None
    ddp_find_unused_parameters: bool | None
    num_parameters: int
    peak_memory_gib: float
    facts: str
    reasons: dict[str, str] = field(default_factory=dict)

    @property
    def tokens_per_update(self) -> int | None:
        """Of packed rows, on one device."""
        blocks = self.per_device_train_batch_size * self.gradient_accumulation_steps
        return self.block_length * blocks if self.block_length else None

    def trainer_settings(self, names: set[str]) -> dict[str, Any]:
        """The values that a trainer's configuration with fields `names` has a place for."""
        values = {name: value for name, value in dataclasses.asdict(self).items() if name in names}
        on = self.loss_head != "off"
        values |= {"compact_loss_head": on, "loss_head_kernel": self.loss_head if on else "auto"}
        if "packing" in names:  # TRL packs to max_length; rows that are not packed have been cut already
            values["max_length"] = self.block_length if self.packing else None
        return {name: value for name, value in values.items() if name in names}


def row_limit(max_length: int | None, context: int | None, *, is_asked: bool) -> int | None:
    """Longest row in tokens: --max_length within the model's context; None for any. is_asked: not a default.

    Raises UserError where the person asked for more than the context.
    """
    if context is None or max_length is None:
        return context if max_length is None else max_length
    if max_length > context and is_asked:
        raise UserError(f"--max_length {max_length} is more than the model's context of {context}; lower it")
    return min(max_length, context)


def decide(asked, given: frozenset[str], facts: Facts) -> Decided:
    """Decide what the person left open; raise UserError for what was asked for and can't be.

    asked: the settings, as RunSettings holds them. given: names of those the person set.
    """
    reasons: dict[str, str] = {}
    values = precision(asked, facts, reasons)
    values["max_length"] = row_limit(
        getattr(asked.training, "max_length", None), facts.context, is_asked="max_length" in given
    )
    values |= blocks(asked, facts, values["max_length"], given, reasons)
    values |= attention(asked, facts, values, reasons)
    values |= length_and_schedule(asked, facts, values)
    values |= memory(asked, facts, values, reasons)
    values |= kernels(asked, facts, values, reasons)
    values |= evaluation(asked, given, facts, reasons)
    values |= saving(asked, values)
    values |= logging(asked, given, values["num_updates"], reasons)
    return Decided(**values, facts=facts.digest(), reasons={name: text for name, text in reasons.items() if text})


def precision(asked, facts: Facts, reasons: dict) -> dict:
    """Device, autocast and the precision of stored weights."""
    model, training, hardware = asked.model, asked.training, facts.hardware
    if (model.load_in_4bit or model.load_in_8bit) and not hardware.bitsandbytes:
        raise UserError(f"--load_in_4bit and --load_in_8bit need bitsandbytes, which {hardware.name} can't run")
    if training.fp16 and hardware.is_cpu:
        raise UserError("--fp16 needs a GPU; drop it, or give --bf16")
    if training.bf16 is None:
        bf16 = hardware.bf16 and not training.fp16
        reasons["bf16"] = f"bf16 runs at {hardware.bf16_speedup:.1f}x the speed of fp32 here"
    else:
        bf16 = training.bf16
    dtype = model.dtype
    if dtype is None:
        frozen = model.use_peft
        dtype = "bfloat16" if frozen and hardware.bf16 else "float32"
        reasons["dtype"] = "a frozen base may be bf16" if dtype == "bfloat16" else (
            "bf16 is slow here" if frozen else "weights that an optimizer moves stay fp32"
        )  # fmt: skip
    several = hardware.num_devices > 1
    rate = training.learning_rate
    if rate is None:
        rate = training.default_learning_rate(model)
        reasons["learning_rate"] = "the default of this method"
    return {
        "use_cpu": training.use_cpu or hardware.is_cpu,
        "bf16": bf16,
        "dtype": dtype,
        "learning_rate": rate,
        "ddp_backend": training.ddp_backend or ("gloo" if several and hardware.is_cpu else None),
        # every trained weight is used in every step
        "ddp_find_unused_parameters": False
        if training.ddp_find_unused_parameters is None and several
        else training.ddp_find_unused_parameters,
    }


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
    reasons["attention"] = f"{backend} with a mask that keeps packed documents apart"
    return {"attention": backend}


def length_and_schedule(asked, facts: Facts, values: dict) -> dict:
    """Updates of the run, and what the learning rate's schedule has to know of them."""
    training, data = asked.training, asked.data
    per_batch = values["per_device_train_batch_size"] * facts.hardware.num_devices
    accumulation, max_steps = values["gradient_accumulation_steps"], training.max_steps
    block_size = getattr(data, "block_size", None)
    if block_size and training.max_tokens:
        max_steps = max(1, round(training.max_tokens / (per_batch * accumulation * block_size)))
    if block_size and facts.num_blocks is not None and facts.num_blocks < per_batch:
        raise UserError(
            f"{facts.num_blocks} blocks of {block_size} tokens do not fill one batch; "
            "give more text, or lower --per_device_train_batch_size or --block_size"
        )
    if max_steps > 0:
        updates = max_steps
    elif facts.is_stream:
        raise UserError("--dataset_streaming needs --max_tokens or --max_steps: how much text there is is not known")
    else:
        sequences = facts.num_blocks or len(facts.lengths)
        if values["packing"]:
            sequences = math.ceil(sum(facts.lengths) / values["block_length"])
        batches = sequences // per_batch if block_size else math.ceil(sequences / per_batch)
        updates = math.ceil(training.num_train_epochs * max(1, math.ceil(batches / accumulation)))
    return {"max_steps": max_steps, "num_updates": updates, **schedule(training, updates)}


def schedule(training, updates: int) -> dict:
    """The learning rate's schedule with its settings; where it ends is known for pretraining's two."""
    kind = plain(training.lr_scheduler_type)
    settings = training.lr_scheduler_kwargs
    end = getattr(training, "min_learning_rate_share", None)
    if end is not None and not settings and kind == "warmup_stable_decay":
        decay = max(1, round(training.decay_share * updates))
        settings = {"num_decay_steps": decay, "decay_type": "1-sqrt", "min_lr_ratio": end}
    elif end is not None and not settings and kind == "cosine":
        kind, settings = "cosine_with_min_lr", {"min_lr_rate": end}
    return {"lr_scheduler_type": kind, "lr_scheduler_kwargs": settings}


def memory(asked, facts: Facts, values: dict, reasons: dict) -> dict:
    """The estimated peak, and whether activations are recomputed: only where memory asks for it."""
    training, hardware = asked.training, facts.hardware
    wanted = training.activation_checkpointing
    wanted = training.gradient_checkpointing if wanted is None else wanted
    work = work_of(asked, facts, values)
    without = peak_memory_gib(facts.shape, work)
    checkpointing = without > MEMORY_SHARE * hardware.memory_gib if wanted is None else wanted
    estimate = peak_memory_gib(facts.shape, dataclasses.replace(work, checkpointing=bool(checkpointing)))
    if wanted is None:
        reasons["activation_checkpointing"] = (
            f"about {without:.1f} GiB without it, {hardware.memory_gib:.0f} GiB are there"
        )
    return {
        "activation_checkpointing": bool(checkpointing),
        "num_parameters": facts.shape.num_parameters,
        "peak_memory_gib": round(estimate, 2),
    }


def work_of(asked, facts: Facts, values: dict) -> Work:
    """What a forward pass holds, for the memory estimate, without recomputed activations."""
    model, shape = asked.model, facts.shape
    is_pairs = hasattr(asked.training, "precompute_ref_log_probs")
    row = values["block_length"] or max(facts.lengths, default=values["max_length"] or 0)
    rows = values["per_device_train_batch_size"] * (2 if is_pairs else 1)
    copies = 2 if is_pairs and not model.use_peft and not asked.training.precompute_ref_log_probs else 1
    stored = 2.0 if values["dtype"] in ("bfloat16", "float16") else 4.0
    stored = 0.52 if model.load_in_4bit else 1.05 if model.load_in_8bit else stored
    half = values["bf16"] or bool(asked.training.fp16)
    return Work(
        tokens=rows * row,
        num_trained=shape.num_lora(model.lora_r) if model.use_peft else shape.num_parameters,
        weight_bytes=stored,
        half=half,
        autocast=half and stored == 4.0,
        checkpointing=False,
        copies=copies,
        on_gpu=not values["use_cpu"],
    )


def kernels(asked, facts: Facts, values: dict, reasons: dict) -> dict:
    """Fused layers and the kernel of the loss head."""
    model, training = asked.model, asked.training
    plain_lora = model.use_peft and model.peft_method == "lora" and not (model.use_dora or model.lora_dropout)
    can_fuse = plain_lora and values["use_cpu"] and not (model.load_in_4bit or model.load_in_8bit)
    if training.fused_lora and not can_fuse:
        reasons["fused_lora"] = "asked for, without effect: plain LoRA layers are fused on a CPU only"
    fuse = can_fuse and training.fused_lora is not False
    return {"fused_lora": fuse, "loss_head": loss_head(asked, facts, values, reasons)}


def loss_head(asked, facts: Facts, values: dict, reasons: dict) -> str:
    """The kernel of the loss head, "off" for the model's own loss."""
    training = asked.training
    if training.compact_loss_head is False:
        return "off"
    block_size = getattr(asked.data, "block_size", None)
    num_logits = values["per_device_train_batch_size"] * (block_size or 0) * facts.shape.vocab_size
    is_open = training.compact_loss_head is None and training.loss_head_kernel == "auto"
    if is_open and block_size and num_logits <= FEW_LOGITS:
        reasons["loss_head"] = "so few logits are scored faster whole"
        return "off"
    named = training.loss_head_kernel
    named = os.environ.get(KERNEL_VARIABLE, "auto") if named == "auto" else named
    if named != "auto":
        return named
    if values["use_cpu"] or facts.head_kernel is None:
        reasons["loss_head"] = "scores trained tokens only, in chunks"
        return "compact"
    reasons["loss_head"] = "the faster one, timed on this device"
    return facts.head_kernel


def evaluation(asked, given: frozenset[str], facts: Facts, reasons: dict) -> dict:
    """Evaluate before the first step and after each epoch where rows are held out, unless the person chose.

    Raises UserError when evaluation was asked for and nothing is held out.
    """
    training, strategy = asked.training, plain(asked.training.eval_strategy)
    if getattr(training, "early_stopping_patience", None) and strategy == "no":
        strategy = "epoch"
    if not facts.num_test:
        if strategy != "no" or training.eval_on_start:
            name = "eval_on_start" if strategy == "no" else "eval_strategy"
            raise UserError(f"--{name} needs test rows; add --test_size 0.1 or a test split")
        return {"eval_strategy": "no", "eval_on_start": False}
    if "eval_strategy" not in given and strategy == "no":
        strategy = "epoch"
        reasons["eval_strategy"] = "rows are held out"
    on_start = training.eval_on_start if "eval_on_start" in given else strategy != "no"
    return {"eval_strategy": strategy, "eval_on_start": on_start}


def saving(asked, values: dict) -> dict:
    """When checkpoints are written; where early stopping chooses the best weights, at each evaluation."""
    training = asked.training
    found = {
        "save_strategy": plain(training.save_strategy), "save_steps": training.save_steps,
        "save_total_limit": training.save_total_limit, "load_best_model_at_end": training.load_best_model_at_end,
        "metric_for_best_model": training.metric_for_best_model, "greater_is_better": training.greater_is_better,
    }  # fmt: skip
    if getattr(training, "chooses_best", False):
        metric = training.best_metric
        found |= {"metric_for_best_model": metric, "greater_is_better": training.higher_is_better(metric)}
    if getattr(training, "early_stopping_patience", None):
        found |= {
            "save_strategy": values["eval_strategy"],
            "save_steps": training.eval_steps or training.save_steps,
            "save_total_limit": training.save_total_limit or BEST_WEIGHTS_KEPT,
            "load_best_model_at_end": True,
        }
    return found


def logging(asked, given: frozenset[str], updates: int, reasons: dict) -> dict:
    """Log at least MIN_LOGS times unless the person chose."""
    steps = asked.training.logging_steps
    if "logging_steps" in given:
        return {"logging_steps": steps}
    often = max(1, min(int(steps), updates // MIN_LOGS))
    if often != steps:
        reasons["logging_steps"] = f"about {updates} updates: at least {MIN_LOGS} points of the curve"
    return {"logging_steps": often}


def plain(value):
    """An enum's value; anything else as it is."""
    return getattr(value, "value", value)


def num_updates(num_rows: int, training) -> int:
    """Optimizer steps of a run over `num_rows` rows or packed blocks, counted as transformers' Trainer does."""
    if training.max_steps > 0:
        return training.max_steps
    batches = math.ceil(num_rows / (training.per_device_train_batch_size * training.world_size))
    return math.ceil(training.num_train_epochs * max(1, math.ceil(batches / training.gradient_accumulation_steps)))
