"""The plan of a run, settled and printed before the first step: packing, batches, evaluation, updates, and why."""

import math
from dataclasses import dataclass

import torch
from datasets import Dataset
from transformers import PreTrainedModel, Trainer
from transformers.trainer_utils import IntervalStrategy

from ftkit.config.errors import UserError
from ftkit.config.hardware import probe
from ftkit.model.adapters.methods import count_parameters
from ftkit.model.fast.packed_attention import use_packed_attention

BLOCK_MULTIPLE = 64  # packed block lengths are rounded up to it
FEW_UPDATES = 50  # with fewer, most of a run is warm-up and the loss has hardly moved
MIN_LOGS = 20  # a short run logs more often than every 10 updates, so that its curve has this many points
ISOLATION_TOLERANCE = 0.02  # relative; a leak moves hidden states by far more, bf16 rounding by less


@dataclass
class PackingPlan:
    """Packed block length in tokens, and the batch that keeps tokens per update near those of the unpacked run."""

    block_length: int
    per_device_train_batch_size: int
    gradient_accumulation_steps: int

    @property
    def tokens_per_update(self) -> int:
        return self.block_length * self.per_device_train_batch_size * self.gradient_accumulation_steps


def plan_packing(lengths: list[int], batch_size: int, accumulation: int, max_length: int) -> PackingPlan:
    """Choose the packed block so that an update sees about as many tokens as without packing.

    lengths: tokens of each row. Packing rows into blocks of max_length would turn 935 short rows into ten updates; the
    block is therefore as long as a batch of average rows, at least as long as the longest row, at most max_length.
    """
    target = batch_size * accumulation * sum(lengths) / len(lengths)
    wanted = max(max(lengths), target / accumulation)
    block = min(max_length, math.ceil(wanted / BLOCK_MULTIPLE) * BLOCK_MULTIPLE)
    return PackingPlan(block, 1, max(1, round(target / block)))


@torch.no_grad()
def packing_leak(model: PreTrainedModel) -> float:
    """Largest relative change of a document's hidden states when another document is packed in front of it.

    About 0 where attention isolates packed documents (they are told apart by position_ids that restart at 0).
    """
    embeddings = model.get_input_embeddings()
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(len(embeddings.weight), (1, 12), generator=generator).to(embeddings.weight.device)
    positions = torch.arange(6, device=ids.device).repeat(2)[None]
    was_training = model.training
    model.eval()
    decoder = model.get_decoder()
    packed = decoder(input_ids=ids, position_ids=positions, use_cache=False).last_hidden_state[:, 6:]
    alone = decoder(input_ids=ids[:, 6:], position_ids=positions[:, 6:], use_cache=False).last_hidden_state
    model.train(was_training)
    return ((packed - alone).abs().max() / alone.abs().max()).item()


def settle_packing(settings, model: PreTrainedModel, lengths: list[int]) -> str | None:
    """Decide whether rows are packed, and with it the batch; return the reason, None when the person chose.

    Raises UserError where packing was asked for and rows of this model would see each other.
    """
    training = settings.training
    asked = training.packing
    if training.eval_packing is None:
        training.eval_packing = False
    if asked is False:
        return None
    reason = None
    if settings.model.use_peft and settings.model.peft_method == "prompt_tuning":
        reason = "soft prompts lose the positions that keep packed rows apart"
    elif (leak := packing_leak(model)) > ISOLATION_TOLERANCE:
        reason = f"packed rows see each other in this model (hidden states move by {leak:.0%})"
    if reason and asked:
        raise UserError(f"--packing: {reason}; drop --packing")
    training.packing = reason is None
    if training.packing and use_packed_attention(model) and packing_leak(model) > ISOLATION_TOLERANCE:
        model.set_attn_implementation("sdpa")  # this model keeps position_ids from its attention
    if reason or asked:
        return reason
    accumulation, longest = training.gradient_accumulation_steps, training.max_length or max(lengths)
    plan = plan_packing(lengths, training.per_device_train_batch_size, accumulation, longest)
    training.max_length = plan.block_length
    training.per_device_train_batch_size = plan.per_device_train_batch_size
    training.gradient_accumulation_steps = plan.gradient_accumulation_steps
    return f"rows stay isolated here; blocks of {plan.block_length} tokens keep the size of an update"


def settle_dtype(model_args) -> None:
    """Where nobody chose: a frozen base may be bf16; weights that an optimizer moves stay fp32."""
    if model_args.dtype is None:
        model_args.dtype = "bfloat16" if probe().bf16 and model_args.use_peft else "float32"


def settle_evaluation(settings, has_test_rows: bool) -> None:
    """Evaluate before the first step and after each epoch when there are test rows, unless the person chose.

    Raises UserError when evaluation was asked for and nothing is held out.
    """
    training, given = settings.training, settings.given
    if not has_test_rows:
        if training.eval_strategy != IntervalStrategy.NO:
            raise UserError("--eval_strategy needs test rows; add --test_size 0.1 or a test split")
        return
    if "eval_strategy" not in given:
        training.eval_strategy = IntervalStrategy.EPOCH
    if "eval_on_start" not in given:
        training.eval_on_start = training.eval_strategy != IntervalStrategy.NO


def settle_logging(settings, trainer: Trainer) -> int:
    """Log at least MIN_LOGS times unless the person chose; return the number of updates."""
    updates = trainer.args.max_steps  # the only way to end a stream
    if isinstance(trainer.train_dataset, Dataset):
        updates = num_updates(len(trainer.train_dataset), trainer.args)
    if "logging_steps" not in settings.given:
        trainer.args.logging_steps = max(1, min(int(trainer.args.logging_steps), updates // MIN_LOGS))
    return updates


def num_updates(num_rows: int, training) -> int:
    """Optimizer steps of a run over `num_rows` rows or packed blocks, counted as transformers' Trainer does."""
    if training.max_steps > 0:
        return training.max_steps
    batches = math.ceil(num_rows / (training.per_device_train_batch_size * training.world_size))
    return math.ceil(training.num_train_epochs * max(1, math.ceil(batches / training.gradient_accumulation_steps)))


def decided_lines(training, reasons: dict[str, str]) -> list[str]:
    """What was decided, and why, where anything was."""
    lines = [f"  {name} {'on' if getattr(training, name) else 'off'}: {reason}" for name, reason in reasons.items()]
    return ["decided    (each has a flag of its name)", *lines] if lines else []


def plan_lines(settings, trainer: Trainer, data, receipt: dict, updates: int, reasons: dict[str, str]) -> list[str]:
    """The plan for a person: hardware, model, data, what was decided and why, updates and their size.

    reasons: why settings that depend on model and data are what they are; those of the hardware are added.
    """
    model_args, training = settings.model, settings.training
    trained, total = count_parameters(trainer.model)
    is_stream = not isinstance(trainer.train_dataset, Dataset)
    tokens = receipt["num_tokens"]
    rows = receipt["num_sequences"] if is_stream else len(trainer.train_dataset)
    a_batch = training.per_device_train_batch_size * training.gradient_accumulation_steps * training.world_size
    reasons = training.hardware_reasons(settings.given) | reasons
    lines = [
        f"hardware   {probe().describe()}; {torch.get_num_threads()} threads",
        f"model      {model_args.model_name_or_path}: {total / 1e6:.1f} M parameters, {trained / 1e6:.2f} M trained, "
        f"loaded as {model_args.dtype}, {trainer.model.config._attn_implementation} attention",
        f"data       {data.rows.source}: {len(data.rows.train)} {'first rows of a stream' if is_stream else 'rows'} "
        f"({data.rows.format}), "
        f"{len(data.rows.test or [])} held out",
        f"template   {data.template.name if data.template else 'none (plain text)'}",
        *decided_lines(training, reasons),
        f"plan       {updates} updates of about {round(tokens / rows * min(a_batch, rows))} tokens; "
        f"{tokens} tokens {'at the beginning' if is_stream else 'a pass'}, {trained_text(receipt)}; "
        f"learning rate {training.learning_rate:g}",
    ]
    if updates < FEW_UPDATES:
        lines.append(f"warning    only {updates} updates; add rows or --num_train_epochs, or use a smaller batch")
    return lines


def trained_text(receipt: dict) -> str:
    """What of a receipt's tokens is trained; a classifier's rows have one label each."""
    if "classes" in receipt:
        return f"{receipt['num_rows']} labels"
    return f"{receipt['num_trained_tokens']} of them trained"
