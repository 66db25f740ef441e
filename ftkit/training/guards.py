"""Stops a run whose loss, gradient or weights are not finite before anything of it is kept.

The loss and the gradient norm of an update are looked at before the optimizer takes it, so that the weights are still
those of the update before; weights and optimizer state are looked at before they are saved. All processes look at the
same numbers and stop together. OUT/stopped_batch.json keeps the rows.
"""

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NoReturn

import torch
from peft import PeftModel

from ftkit.config.errors import UserError
from ftkit.config.files import write_json
from ftkit.model.finite import not_finite
from ftkit.training.checkpoints import list_checkpoints
from ftkit.training.explosion import Explosion
from ftkit.training.stopped_batch import batch_rows, some, those_at_fault

STOPPED_BATCH = "stopped_batch.json"
SKIPS_IN_A_ROW = 24  # updates that fp16 may skip: its loss scale starts at 2**16, halves each time, and is then below 1


class GuardMixin:
    """Trainer part: no update, no checkpoint and no result from numbers that are not finite.

    data: of the run, whose rows are named when it stops; None names none.
    """

    data = None

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.batches: list[dict] = []  # of this update
        self.batch_losses: list[torch.Tensor] = []
        self.skips_in_a_row = 0
        self.explosion = Explosion()

    def train(self, *args, **kwargs):
        """As Trainer.train; what an earlier run stopped at is removed."""
        if self.args.should_save:
            (Path(self.args.output_dir) / STOPPED_BATCH).unlink(missing_ok=True)
        return super().train(*args, **kwargs)

    def training_step(self, model, inputs, *args, **kwargs):
        """One step, whose batch and loss are noted until the update is looked at."""
        self.batches.append(inputs)
        loss = super().training_step(model, inputs, *args, **kwargs)
        self.batch_losses.append(loss)
        return loss

    def _get_grad_norm(self, model, grad_norm=None):
        # Trainer calls this between the backward pass and the optimizer
        grad_norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        self.check_update(grad_norm)
        self.batches, self.batch_losses = [], []
        return grad_norm

    def check_update(self, grad_norm) -> None:
        """Raise UserError, in all processes, where the loss or the gradient of this update is not finite."""
        loss, norm = update_numbers(self.batch_losses, grad_norm, self.accelerator)
        if not math.isfinite(loss):
            self.stop(f"the loss is {loss}")
        if math.isfinite(norm):
            self.skips_in_a_row = 0
            if self.is_world_process_zero():
                self.explosion.watch(self.state.global_step + 1, loss, norm)
            return
        self.skips_in_a_row += 1
        if not self.args.fp16:  # whose scaler skips an update that overflows, and lowers its scale
            self.stop(f"the gradient norm is {norm}")
        if self.skips_in_a_row == SKIPS_IN_A_ROW:
            self.stop(f"the gradient norm is {norm} in {SKIPS_IN_A_ROW} updates in a row, however the loss is scaled,")

    def _save_checkpoint(self, model, trial):
        self.check_saved(optimizer_tensors(self.optimizer, self.model))
        super()._save_checkpoint(model, trial)

    def save_model(self, output_dir=None, *args, **kwargs):
        """As Trainer.save_model; raises UserError in all processes for weights that are not finite."""
        named = self.model.named_parameters()
        if isinstance(self.model, PeftModel):  # whose base is not saved
            named = ((name, parameter) for name, parameter in named if parameter.requires_grad)
        self.check_saved(named)
        super().save_model(output_dir, *args, **kwargs)

    def check_saved(self, tensors: Iterable[tuple[str, torch.Tensor]]) -> None:
        """Raise UserError, in all processes, where what is about to be saved is not finite."""
        names = gathered(self.accelerator, not_finite(tensors))
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            self.stop(f"NaN or infinity in {names[0]}{more}", is_done=True)

    def log(self, logs, *args, **kwargs):
        """As Trainer.log; raises UserError, in all processes, for a held-out loss that is not finite."""
        if not math.isfinite(logs.get("eval_loss", 0.0)):
            self.stop(f"the held-out loss is {logs['eval_loss']}", is_done=True)
        super().log(logs, *args, **kwargs)

    def stop(self, reason: str, *, is_done: bool = False) -> NoReturn:
        """Keep the batch and raise UserError; all processes call this. is_done: whether the update has been made."""
        update = self.state.global_step + (not is_done)
        rows = batch_rows(self.batches, self.batch_losses, self.data, self.processing_class)
        rows = those_at_fault(gathered(self.accelerator, rows))
        out = Path(self.args.output_dir)
        self.settle()
        if rows and self.args.should_save:
            write_json(out / STOPPED_BATCH, {"update": update, "reason": reason, "rows": rows})
        kept = list_checkpoints(out)
        saved = f", {kept[-1]} is as it was" if kept else ""
        named = some([row["source"] for row in rows if row["source"]])
        batch = f", or look at its rows ({', '.join(filter(None, (named, str(out / STOPPED_BATCH))))})" if rows else ""
        fp16 = ", take --bf16 for --fp16" if self.args.fp16 else ""
        fix = f"lower --learning_rate{fp16}{batch}" if update else "the weights or their precision are at fault"
        when = f"{'after' if is_done else 'at'} update {update}" if update else "before the first update"
        raise UserError(f"{reason} {when}; nothing of it was saved{saved}; {fix}")


def update_numbers(losses: list[torch.Tensor], grad_norm, accelerator) -> tuple[float, float]:
    """(loss, gradient norm) of an update: the mean over processes, not finite where it is so in any of them.

    losses: of the batches of this process, whose sum is its loss. One transfer from the device in all.
    """
    loss = torch.stack([loss.detach().float() for loss in losses]).sum()
    norm = grad_norm.full_tensor() if hasattr(grad_norm, "full_tensor") else grad_norm
    norm = torch.as_tensor(0.0 if norm is None else norm, device=loss.device, dtype=loss.dtype)
    numbers = torch.stack([loss, norm])
    if accelerator.num_processes > 1:
        torch.distributed.all_reduce(numbers)
        numbers /= accelerator.num_processes
    loss, norm = numbers.tolist()
    return loss, norm


def optimizer_tensors(optimizer, model) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors of an optimizer's state, by name and that of the parameter they belong to."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    for parameter, state in getattr(optimizer, "state", {}).items():
        for kind, value in state.items():
            if isinstance(value, torch.Tensor):
                yield f"the optimizer's {kind} of {names.get(id(parameter), 'a parameter')}", value


def gathered(accelerator, items: list) -> list:
    """The items of all processes, one after the other."""
    if accelerator.num_processes == 1:
        return items
    parts = [None] * accelerator.num_processes
    torch.distributed.all_gather_object(parts, items)
    return [item for part in parts for item in part]
