"""Work on held-out rows shared by the processes of a run, instead of done whole by each of them."""

from collections.abc import Callable, Sequence


def shared(accelerator, items: Sequence, work: Callable[[Sequence], Sequence]) -> list:
    """work(items), of which each process does every n-th item; all processes get the whole, in the order of the items.

    work: gives one result per item. All processes must call this with the same items, and hold whole weights.
    """
    count, own = accelerator.num_processes, accelerator.process_index
    if count == 1:
        return list(work(items))
    import torch.distributed

    parts = [None] * count
    mine = items[own::count]
    torch.distributed.all_gather_object(parts, list(work(mine)) if mine else [])
    results = [None] * len(items)
    for number, part in enumerate(parts):
        results[number::count] = part
    return results


def is_sharded(trainer) -> bool:
    """Whether no process holds whole weights, so that a forward pass needs all of them."""
    return trainer.is_fsdp_enabled
