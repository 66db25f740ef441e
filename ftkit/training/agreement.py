"""What one process of a run decides, made the decision of all of them."""

import torch


def agree(accelerator, *flags: int) -> tuple[int, ...]:
    """Each flag's largest value over all processes, which must all call this; the flags themselves with one process."""
    if accelerator.num_processes == 1:
        return flags
    votes = torch.tensor([int(flag) for flag in flags], device=accelerator.device)
    torch.distributed.all_reduce(votes, op=torch.distributed.ReduceOp.MAX)
    return tuple(votes.tolist())
