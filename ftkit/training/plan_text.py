"""The plan of a run as a person reads it, before the first step or, with --plan, instead of it."""

import torch

from ftkit.config.amounts import counted
from ftkit.config.disk import size_text
from ftkit.config.paste import command
from ftkit.training.explosion import rate_warning
from ftkit.training.method import Method, Run

SHOWN = (  # decisions that are printed before every run; --plan prints all
    "packing", "per_device_train_batch_size", "bf16", "activation_checkpointing", "attention", "fused_lora",
    "num_answered", "learning_rate",
)  # fmt: skip


def plan_lines(run: Run, method: Method, receipt: dict | None) -> list[str]:
    """Hardware, model, data, what was decided and why, updates. receipt: None before weights are loaded."""
    model, decided = run.settings.model, run.decided
    is_new = getattr(model, "is_new", False)
    name = f"new FTGPT, preset {model.preset}" if is_new else model.model_name_or_path
    trained = "" if run.num_trained is None else f", {run.num_trained / 1e6:.2f} M trained"
    size = (run.num_parameters or decided.num_parameters) / 1e6
    return [
        f"hardware   {run.hardware.describe()}; {counted(torch.get_num_threads(), 'thread')}",
        f"model      {name}: {size:.2f} M parameters{trained}, loaded as {decided.dtype}, "
        f"{decided.attention} attention; about {decided.peak_memory_gib:.1f} GiB at the peak, "
        f"{size_text(decided.checkpoint_bytes)} on disk per checkpoint",
        *decided_lines(run, everything=receipt is None),
        *rate_lines(run),
        *run.notes,
        *method.describe(run, receipt),
        *unused_lines(run.data),
    ]


def unused_lines(data) -> list[str]:
    """The columns of the training rows that nothing uses, if there are any."""
    names = getattr(data, "rows", data).ignored_columns
    return [f"columns    not used: {', '.join(names)}"] if names else []


def decided_lines(run: Run, *, everything: bool) -> list[str]:
    """What was decided, and why, where anything was."""
    decided = run.decided
    names = [name for name in decided.reasons if everything or name in SHOWN or name in decided.own]
    if not names:
        return []
    values = {**vars(decided), **decided.own}
    lines = [f"  {name} {shown(values[name])}: {decided.reasons[name]}" for name in names]
    return ["decided    (each has a flag of its name)", *lines]


def rate_lines(run: Run) -> list[str]:
    """A warning of a learning rate that is out of reason."""
    optimizer, model = str(getattr(run.config.optim, "value", run.config.optim)), run.settings.model
    is_soft_prompt = model.use_peft and model.peft_method == "prompt_tuning"
    warning = rate_warning(run.decided.learning_rate, optimizer, is_soft_prompt=is_soft_prompt)
    return [f"warning    {warning}"] if warning else []


def more_line(run: Run) -> str:
    """The command that shows every row as it is trained; "" for rows that it does not render."""
    data, model = run.settings.data, run.settings.model.model_name_or_path
    if run.command not in ("sft", "dpo", "kto", "reward", "distill") or not model or not data.dataset_name:
        return ""
    words = ["data", "show", data.dataset_name, "--model", model, "--template", data.template]
    others = {
        "--dataset_config": data.dataset_config,
        "--format": data.dataset_format,
        "--split": data.dataset_train_split,
    }
    for flag, value in others.items():
        words += [flag, value] if value and value not in ("auto", "train") else []
    return f"{'more':<11}{command(*words, '--row')} N"


def shown(value) -> str:
    """A value as a person reads it."""
    return {"True": "on", "False": "off", "None": "none"}.get(str(value), str(value))
