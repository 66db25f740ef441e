"""What a trainer has counted, in all and since its last log line: kept in a checkpoint, and taken up by a resume.

Without it the first line of metrics.jsonl after a resume is the mean over fewer updates, and tokens start at 0 again.
"""

from pathlib import Path

import torch


def save_counters(trainer, folder: str | Path) -> None:
    """Write what this process has counted into a checkpoint."""
    totals = trainer.batch_totals
    counted = {
        "loss": trainer._tr_loss.float().cpu(),  # summed since `logged`
        "logged": trainer._globalstep_last_logged,
        "tokens": getattr(trainer, "_total_train_tokens", None),  # TRL's trainers have one
        "metrics": {name: list(values) for name, values in metrics_of(trainer).items()},
        "first_losses": trainer.explosion.first,
        "stream": totals.counts.cpu() if totals and totals.counts is not None else None,
    }
    torch.save(counted, counters_path(trainer, folder))


def load_counters(trainer, folder: str | Path) -> None:
    """Take up what this process had counted; nothing where a checkpoint has no counters."""
    path = counters_path(trainer, folder)
    if not path.is_file():
        return
    counted = torch.load(path, weights_only=True, map_location="cpu")
    trainer._tr_loss.copy_(counted["loss"])
    trainer._globalstep_last_logged = counted["logged"]
    trainer.explosion.first = counted["first_losses"]
    if counted["tokens"] is not None:
        trainer._total_train_tokens = counted["tokens"]
    for name, values in counted["metrics"].items():
        metrics_of(trainer)[name] = values
    if trainer.batch_totals and counted["stream"] is not None:
        trainer.batch_totals.counts = counted["stream"].to(trainer.args.device)


def metrics_of(trainer) -> dict[str, list[float]]:
    """TRL's measures of the batches since the last log line; {} of a plain Trainer."""
    return getattr(trainer, "_metrics", {}).get("train", {})


def counters_path(trainer, folder: str | Path) -> Path:
    """Of this process, as Trainer names the states of random numbers."""
    many = trainer.args.world_size > 1
    return Path(folder) / (f"counters_{trainer.args.process_index}.pth" if many else "counters.pth")
