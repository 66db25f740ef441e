"""How much room on the disk a run's checkpoints take: measured of a trainer, estimated before weights are loaded."""

import math
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from peft import PeftModel
from transformers import Trainer

from ftkit.config.files import check_space

NUMBERS = ("", "a checkpoint", "two checkpoints", "three checkpoints", "four checkpoints", "five checkpoints")


def check_room(run) -> None:
    """Raise UserError where what a run will hold at once surely does not fit on the disk of its folder.

    What the folder holds already, as that of a run which goes on, is replaced in time and asks for no more room.
    """
    folder, num = Path(run.output_dir), num_at_once(run.decided, run.settings.training.num_train_epochs)
    there = sum(map(folder_bytes, folder.glob("checkpoint-*")))
    what = "the result" if num == 0 else NUMBERS[num] if num < len(NUMBERS) else f"{num} checkpoints"
    fix = "free some space, " + ("lower --save_total_limit, " * (num > 2)) + "or choose another --output_dir"
    check_space(folder, max(1, num) * run.decided.checkpoint_bytes - there, what, fix)


def num_at_once(decided, num_train_epochs: float) -> int:
    """How many checkpoints lie on the disk at once at least: the old ones stay until the next one is whole."""
    if decided.save_strategy == "steps":
        steps = decided.save_steps if decided.save_steps >= 1 else decided.save_steps * decided.num_updates
        made = math.ceil(decided.num_updates / max(steps, 1))
    else:
        epochs = math.ceil(num_train_epochs) if decided.max_steps <= 0 else 1
        made = {"no": 0, "epoch": epochs}.get(decided.save_strategy, 1)
    if decided.saves_by_clock:
        return min(made, 2)  # a save is put off where it takes long
    return min(made, decided.save_total_limit + 1) if decided.save_total_limit else made


def model_bytes(trainer: Trainer) -> int:
    """Bytes of the weights that a trainer saves: those that are trained of an adapter, else all."""
    is_adapter = isinstance(trainer.model, PeftModel)
    return tensor_bytes(weight for weight in trainer.model.parameters() if weight.requires_grad or not is_adapter)


def checkpoint_bytes(trainer: Trainer) -> int:
    """Bytes of the tensors in a checkpoint: the weights and the optimizer's state."""
    if trainer.optimizer is None or trainer.args.save_only_model:
        return model_bytes(trainer)
    values = (value for state in trainer.optimizer.state.values() for value in state.values())
    return model_bytes(trainer) + tensor_bytes(value for value in values if isinstance(value, torch.Tensor))


def folder_bytes(folder: Path) -> int:
    """Bytes of the files in a folder; 0 where there is none."""
    return sum(path.stat().st_size for path in folder.glob("*") if path.is_file())


def tensor_bytes(tensors: Iterable[torch.Tensor]) -> int:
    """Bytes of tensors as they are stored."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


@contextmanager
def removed_on_error(folder: Path) -> Iterator[None]:
    """Remove what was written into a folder as far as it came, where the rest can't be."""
    try:
        yield
    except Exception:
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):  # in use by others
            folder.parent.rmdir()
        raise
