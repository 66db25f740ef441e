"""What a run does, decided once: `decide(asked, given, facts)` gives a frozen Decided, each value with its reason.

It is a function of its arguments alone, so decisions for a GPU are tested without one. The first process decides, for
the device that will train; the others receive it; `Decided.trainer_settings` is copied once into TRL's configuration.
Blocks and attention are decided in packing.py, memory and kernels in fitting.py, the rest here.
"""

import math

from ftkit.config.errors import UserError
from ftkit.config.settings.needs import plain
from ftkit.config.settings.rates import rate_for
from ftkit.training.answering import answering
from ftkit.training.decided import Decided, Facts
from ftkit.training.fitting import kernels, memory
from ftkit.training.packing import attention, blocks

MIN_LOGS = 20  # a short run logs more often than every 10 updates, so that its curve has this many points
CHECKPOINTS_KEPT = 2  # where nobody chose: the newest, and another one should it be damaged, or the best
SAVES = 10  # of a run, where nobody chose


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
    values |= answering(asked, facts, values, reasons)
    values |= saving(asked, given, values, reasons)
    values |= logging(asked, given, values["num_updates"], reasons)
    values["own"] = asked.training.own_decisions(facts, reasons)
    return Decided(**values, facts=facts.digest(), reasons={name: text for name, text in reasons.items() if text})


def precision(asked, facts: Facts, reasons: dict) -> dict:
    """Device, autocast and the precision of stored weights."""
    model, training, hardware = asked.model, asked.training, facts.hardware
    if (model.load_in_4bit or model.load_in_8bit) and not hardware.bitsandbytes:
        raise UserError(f"--load_in_4bit and --load_in_8bit need bitsandbytes, which {hardware.name} can't run")
    if training.fp16 and hardware.is_cpu:
        raise UserError("--fp16 needs a GPU; drop it, or give --bf16")
    if getattr(training, "activation_offloading", False) and hardware.is_cpu:
        raise UserError("--activation_offloading needs a GPU; drop it")
    if training.bf16 is None:
        bf16 = hardware.bf16 and not training.fp16
        reasons["bf16"] = f"bf16 runs at {hardware.bf16_speedup:.2g}x the speed of fp32 here"
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
        part = training.trained_part(model)
        rate, reasons["learning_rate"] = rate_for(training.learning_rates, part, facts.shape.num_parameters)
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
        sequences -= sequences % per_batch if block_size else 0
        updates = math.ceil(training.num_train_epochs * training.updates_per_pass(sequences, per_batch, accumulation))
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


def saving(asked, given: frozenset[str], values: dict, reasons: dict) -> dict:
    """When checkpoints are written: as the person chose, at each evaluation where one of them chooses the best weights,
    else SAVES times or more (see `ftkit.training.saving`)."""
    training, is_open = asked.training, not given & {"save_strategy", "save_steps"}
    found = {
        "save_strategy": plain(training.save_strategy), "save_steps": training.save_steps,
        "save_total_limit": training.save_total_limit, "load_best_model_at_end": training.load_best_model_at_end,
        "metric_for_best_model": training.metric_for_best_model, "greater_is_better": training.greater_is_better,
        "saves_by_clock": is_open,
    }  # fmt: skip
    if getattr(training, "chooses_best", False):
        metric = training.best_metric
        found |= {"metric_for_best_model": metric, "greater_is_better": training.higher_is_better(metric)}
    if getattr(training, "early_stopping_patience", None):
        found["load_best_model_at_end"] = is_open = True
    if is_open and "save_total_limit" not in given:
        found["save_total_limit"] = CHECKPOINTS_KEPT
    if is_open and found["load_best_model_at_end"] and values["eval_strategy"] != "no":
        steps = training.eval_steps or training.save_steps
        return found | {"save_strategy": values["eval_strategy"], "save_steps": steps}
    if is_open:
        reasons["save_steps"] = (
            "a tenth of the run; sooner when ten minutes have passed, later where saving takes a tenth of the time"
        )
        found |= {"save_strategy": "steps", "save_steps": math.ceil(values["num_updates"] / SAVES)}
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


def num_updates(num_rows: int, training) -> int:
    """Optimizer steps of a run over `num_rows` rows or packed blocks."""
    if training.max_steps > 0:
        return training.max_steps
    per_batch = training.per_device_train_batch_size * training.world_size
    each = training.updates_per_pass(num_rows, per_batch, training.gradient_accumulation_steps)
    return math.ceil(training.num_train_epochs * each)
