"""How much room on the disk a run's checkpoints take: measured of a trainer, estimated before weights are loaded."""

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from peft import PeftModel
from transformers import Trainer


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
        raise
