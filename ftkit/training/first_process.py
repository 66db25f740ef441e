"""What the first process finds out for all: done there once, and its outcome, or its mistake, sent to the others."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from ftkit.config.errors import UserError
from ftkit.config.launch import has_accelerator, is_first_process, world_size


def on_first_process(training, find: Callable[[], Any]) -> Any:
    """What `find()` returns in the first process, in every process; its mistake or system error is raised in all."""
    if world_size() == 1:
        return find()
    import torch.distributed
    from accelerate import PartialState

    on_cpu = training.use_cpu or not has_accelerator()  # not probed: each process would measure on the first GPU
    backend = {"cpu": True, "backend": training.ddp_backend or "gloo"} if on_cpu else {}
    PartialState(timeout=timedelta(seconds=training.ddp_timeout), **backend)  # starts the process group
    outcome: list = [None]
    if is_first_process():
        try:
            outcome = [find()]
        except (UserError, OSError) as error:
            outcome = [error]
    torch.distributed.broadcast_object_list(outcome)
    if isinstance(outcome[0], UserError | OSError):
        raise outcome[0]
    return outcome[0]
