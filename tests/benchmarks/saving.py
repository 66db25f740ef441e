"""C7: seconds of a checkpoint, staged, hashed and synced, against those of plain Trainer's own, alternating.

    python tests/benchmarks/run.py --only C7

Both trainers have made one update of the same model on the same rows; each round both save, into folders of one disk,
and remove the checkpoint before. `--quick` takes the bundled base model alone.
"""

import tempfile
import time
from pathlib import Path

import measuring
from measuring import Options

SUBJECTS = {  # name: (model, LoRA)
    "base model, full": ("base", False),
    "base model, LoRA": ("base", True),
    "SmolLM2-135M, full": ("smollm2", False),
    "SmolLM2-135M, LoRA": ("smollm2", True),
}
OURS, PLAIN, BEHIND = "ftkit", "Trainer", "publishing"


def report(key: str, options: Options) -> str:
    """The section's body: a line per model and method."""
    rows = []
    with tempfile.TemporaryDirectory(dir=".") as folder:  # on the disk of the checkout: /tmp may be memory
        for name, (model, lora) in SUBJECTS.items():
            if options.quick and model != "base":
                continue
            out = Path(folder) / name.replace(" ", "-")
            savers = {who: saver(out / who, model, lora, ours=who == OURS) for who in (OURS, PLAIN)}
            times = timed(savers, options.rounds)
            size = sum(path.stat().st_size for path in (out / OURS).rglob("*") if path.is_file())
            rows.append(
                [
                    name,
                    f"{size / 1e6:.0f}",
                    measuring.spread(times[OURS], 1e3),
                    measuring.spread(times[PLAIN], 1e3),
                    measuring.paired_ratio(times[OURS], times[PLAIN]),
                    measuring.spread(times[BEHIND], 1e3),
                ]
            )
    header = ["checkpoint of", "MB", "ftkit, ms, median (range)", "Trainer, ms, median (range)", "ratio (95 %)"]
    header.append("ftkit goes on publishing for, ms")
    intro = (
        f"{options.rounds} alternating rounds on one disk: how long training waits for a save. ftkit looks for NaN in "
        "what it saves and writes aside; SHA-256 sums of all files, syncing, the rename and deleting the checkpoint before "
        "follow while training goes on (last column, on cores and a disk that are else idle). Trainer writes in place, "
        "and its arguments besides, and syncs nothing."
    )
    return f"{intro}\n\n{measuring.table(header, rows)}"


def timed(trainers: dict, rounds: int) -> dict[str, list[float]]:
    """Seconds of a save by each trainer, in turn, and of what ftkit does after it; the first round is not counted."""
    times = {OURS: [], PLAIN: [], BEHIND: []}
    for number in range(rounds + 1):
        for who in (OURS, PLAIN) if number % 2 else (PLAIN, OURS):
            trainer = trainers[who]
            trainer.state.global_step += 1
            start = time.perf_counter()
            trainer._save_checkpoint(trainer.model, None)
            times[who].append(time.perf_counter() - start)
            if who == OURS:
                trainer.settle()
                times[BEHIND].append(time.perf_counter() - start - times[who][-1])
    return {name: seconds[1:] for name, seconds in times.items()}


def saver(out: Path, model: str, lora: bool, *, ours: bool):
    """A trainer that has made one update."""
    trainer = make_trainer(out, model, lora, ours=ours)
    trainer.train()
    return trainer


def make_trainer(out: Path, model: str, lora: bool, *, ours: bool):
    """An SFT trainer on two short rows."""
    from datasets import Dataset
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer

    from ftkit.config.settings.sft import SFTArguments
    from ftkit.model.loading import find_bundled_smollm2, load_model, load_tokenizer, local_model_folder
    from ftkit.training.methods.sft import FTSFTTrainer

    folder = local_model_folder(str(find_bundled_smollm2()) if model == "smollm2" else model)
    rows = [{"input_ids": list(range(3, 19)), "labels": list(range(3, 19))}] * 2
    arguments = (SFTArguments if ours else SFTConfig)(
        output_dir=str(out), max_steps=1, per_device_train_batch_size=1, report_to="none", save_strategy="no", bf16=False, learning_rate=1e-5,
        save_total_limit=1, use_cpu=True, packing=False, max_length=None, disable_tqdm=True,
        gradient_checkpointing=False, dataset_kwargs={"skip_prepare_dataset": True},
    )  # fmt: skip
    if ours:
        arguments = arguments.configured({"compact_loss_head": True, "activation_checkpointing": False})
    return (FTSFTTrainer if ours else SFTTrainer)(
        model=load_model(folder, dtype="float32"),
        args=arguments,
        train_dataset=Dataset.from_list(rows),
        processing_class=load_tokenizer(folder),
        peft_config=LoraConfig(task_type="CAUSAL_LM", r=8, target_modules="all-linear") if lora else None,
    )
