"""Checkpoints that a kill, a full disk or a damaged file cannot turn into a wrong resume.

A checkpoint is written into a staging folder, described by a manifest, synced and published by one rename, so a visible
`checkpoint-N` is whole (`ftkit.training.checkpoints`). The run goes on while it is hashed, synced and published.
Resuming takes the newest one that its manifest still describes. Put `CheckpointMixin` left of a transformers Trainer:
`class T(CheckpointMixin, SFTTrainer)`.
"""

import functools
import os
import shutil
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path

from peft import PeftModel
from transformers import PreTrainedModel, Trainer

from ftkit.config.disk import writing
from ftkit.config.files import give_modes
from ftkit.model.adapters.files import name_base
from ftkit.training.callbacks import tell
from ftkit.training.checkpoints import (
    STAGING_NAME,
    TRAINER_STATE_NAME,
    best_checkpoint,
    file_names,
    list_checkpoints,
    publish_folder,
    remove_leftovers,
    resolve_resume,
    rotate,
    rotate_again,
    sync,
    sync_tree,
    write_manifest,
)
from ftkit.training.space import checkpoint_bytes, folder_bytes, model_bytes, removed_on_error

NOT_SAVED = "this checkpoint is not saved, earlier ones are whole"
ENTRY_FILES = ("config.json", "adapter_config.json")  # a loader opens these first, so they are published last
WEIGHT_PATTERNS = ("model*.safetensors*", "adapter_model*.safetensors*")


class CheckpointMixin:
    """Trainer part: staged checkpoints with a manifest, safe rotation, no step more when a finished run is resumed.

    run_identity: whose checkpoints these are; noted in each manifest as "run". takes_new_settings: whether a resume
    takes learning rate, schedule, weight decay and the like from the settings, and not from the checkpoint.
    """

    run_identity: dict | None = None
    takes_new_settings = False
    base_name: str | None = None  # that an adapter's configuration gives its base
    base_revision: str | None = None
    publication: Future | None = None  # of the newest checkpoint, while the run goes on
    _is_staging = False  # whether what is saved is a checkpoint

    def train(self, resume_from_checkpoint: str | bool | None = None, *args, **kwargs):
        """As Trainer.train; True means the newest checkpoint that is valid."""
        resume_from_checkpoint = resolve_resume(self.args.output_dir, resume_from_checkpoint)
        if self.args.should_save:
            remove_leftovers(self.args.output_dir)
            if resume_from_checkpoint:
                rotate_again(Path(self.args.output_dir), Path(resume_from_checkpoint), self.args.save_total_limit)
        self.accelerator.wait_for_everyone()
        evaluates_first = self.args.eval_on_start
        self.args.eval_on_start = evaluates_first and not resume_from_checkpoint  # it was evaluated, and written down
        try:
            return super().train(resume_from_checkpoint, *args, **kwargs)
        finally:
            self.args.eval_on_start = evaluates_first
            wait([self.publication] if self.publication else [])

    def _run_epoch(self, *args, **kwargs):
        if self.control.should_training_stop or self.state.global_step >= self.state.max_steps:
            self.control.should_training_stop = True  # also of a run that early stopping has ended
            return
        super()._run_epoch(*args, **kwargs)

    def _load_optimizer_and_scheduler(self, checkpoint):
        fresh = [hyperparameters(group) for group in self.optimizer.param_groups]
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint:  # Trainer has dropped one that lies elsewhere by now
            self.state.best_model_checkpoint = best_checkpoint(self.args.output_dir, checkpoint)
        if checkpoint and self.takes_new_settings:
            before = self.optimizer.param_groups[0]["lr"]
            take_settings(self.optimizer, self.lr_scheduler, fresh)
            now = self.optimizer.param_groups[0]["lr"]
            if self.args.should_save:
                steps = self.state.max_steps
                tell(f"learning rate: {before:g} until here, goes on at {now:g}, laid over {steps} updates")

    def _get_output_dir(self, trial):
        run_dir = super()._get_output_dir(trial)
        return os.path.join(run_dir, STAGING_NAME) if self._is_staging else run_dir

    def _save(self, output_dir=None, state_dict=None):
        """As Trainer._save, but without its pickle of the arguments, which hold the token of the Hub."""
        folder = output_dir or self.args.output_dir
        if not self.args.should_save and not getattr(self, "is_distributed_loading_by_transformers", False):
            return
        self.save_weights(folder, state_dict)
        if self.args.should_save and self.processing_class is not None:
            self.processing_class.save_pretrained(folder)

    def save_weights(self, folder, state_dict=None) -> None:
        """Save the model, or its adapter, with its configuration into a folder."""
        model = self.model
        if not isinstance(model, PreTrainedModel | PeftModel):  # wrapped, by FSDP
            model = self.accelerator.unwrap_model(model, keep_torch_compile=False)
        model.save_pretrained(folder, state_dict=state_dict, is_main_process=self.args.should_save)
        if self.args.should_save and self.base_name and isinstance(model, PeftModel):
            name_base(folder, self.base_name, self.base_revision)

    def _save_checkpoint(self, model, trial):
        run_dir = Path(self._get_output_dir(trial))
        name = f"checkpoint-{self.state.global_step}"
        staging, final = run_dir / STAGING_NAME / name, run_dir / name
        self.settle()
        if self.args.should_save:
            shutil.rmtree(staging, ignore_errors=True)
        self.accelerator.wait_for_everyone()
        on_disk = functools.partial(
            writing, final, note=NOT_SAVED,
            need=max(checkpoint_bytes(self), *map(folder_bytes, list_checkpoints(run_dir)[-1:]), 0),
        )  # fmt: skip
        with on_disk(), removed_on_error(staging):
            self._stage_checkpoint(model, trial, staging, final)
        if self.args.should_save:
            thread = ThreadPoolExecutor(max_workers=1)
            self.publication = thread.submit(
                publish, staging, final, on_disk, self.state.global_step, self.args.save_total_limit,
                self.state.best_model_checkpoint, resumable=not self.args.save_only_model, run=self.run_identity,
            )  # fmt: skip
            thread.shutdown(wait=False)

    def settle(self) -> None:
        """Wait until the newest checkpoint is published; all processes call it. Raises what went wrong with it."""
        publication, self.publication = self.publication, None
        if publication:
            publication.result()
        self.accelerator.wait_for_everyone()

    def _stage_checkpoint(self, model, trial, staging: Path, final: Path) -> None:
        """Write all of a checkpoint but its manifest into `staging`; all processes call it."""
        try:
            self._is_staging = True
            super()._save_checkpoint(model, trial)
        finally:
            self._is_staging = False
        if self.state.best_model_checkpoint and Path(self.state.best_model_checkpoint) == staging:
            self.state.best_model_checkpoint = str(final)
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            self.state.save_to_json(str(staging / TRAINER_STATE_NAME))

    def _finalize_training(self, *args, **kwargs):
        self.settle()
        # With save_total_limit=1 Trainer deletes the newest checkpoint here if an older one is the best
        limit, self.args.save_total_limit = self.args.save_total_limit, None
        try:
            return super()._finalize_training(*args, **kwargs)
        finally:
            self.args.save_total_limit = limit


def publish(
    staging: Path, final: Path, on_disk: Callable, step: int, limit: int | None, best: str | None,
    *, resumable: bool, run: dict | None,
) -> None:  # fmt: skip
    """Describe a staged checkpoint by its manifest, make it visible, then delete older ones: not before it is on disk.

    The run goes on meanwhile: hashing, syncing and deleting leave the interpreter to it.
    """
    with on_disk(), removed_on_error(staging):
        write_manifest(staging, step, resumable=resumable, run=run)
        publish_folder(staging, final)
        shutil.rmtree(staging.parent)
    rotate(final.parent, final, limit, best)


def save_model_safely(trainer: Trainer, output_dir: str | Path | None = None) -> Path:
    """Save model and tokenizer into `output_dir` (default: the trainer's) and return it; all processes must call it.

    Files are written and synced aside, then replace their predecessors one by one, the configuration last. Weight files
    of an earlier save that the new one does not have are removed: a loader could prefer them.
    """
    final = Path(output_dir or trainer.args.output_dir)
    staging = final / STAGING_NAME / "model"
    if trainer.args.should_save:
        shutil.rmtree(staging, ignore_errors=True)
    trainer.accelerator.wait_for_everyone()
    note = "the result is not saved, the checkpoints are whole"
    with writing(final, need=model_bytes(trainer), note=note), removed_on_error(staging):
        trainer.save_model(str(staging), _internal_call=True)
        trainer.accelerator.wait_for_everyone()
        if trainer.args.should_save:
            give_modes(staging)
            sync_tree(staging)
    if trainer.args.should_save:
        names = sorted(file_names(staging), key=lambda name: (name in ENTRY_FILES, name))
        for name in names:
            (final / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(staging / name, final / name)
        for stale in {path for pattern in WEIGHT_PATTERNS for path in final.glob(pattern)}:
            if stale.name not in names:
                stale.unlink()
        shutil.rmtree(final / STAGING_NAME)
        sync(final)
    trainer.accelerator.wait_for_everyone()
    return final


def hyperparameters(group: dict) -> dict:
    """The settings of a group of an optimizer's parameters."""
    return {name: value for name, value in group.items() if name != "params"}


def take_settings(optimizer, scheduler, fresh: list[dict]) -> None:
    """Give an optimizer that was loaded from a checkpoint, and its schedule, the settings they were made with.

    fresh: `hyperparameters` of each group before it was loaded. The schedule stays at the update it had reached.
    """
    for group, settings in zip(optimizer.param_groups, fresh, strict=True):
        group.update({name: value for name, value in settings.items() if name != "lr"})
    scheduler = getattr(scheduler, "scheduler", scheduler)  # of accelerate's wrapper
    if not hasattr(scheduler, "lr_lambdas"):  # no function of the update, such as reduce_lr_on_plateau
        return
    scheduler.base_lrs = [settings["initial_lr"] for settings in fresh]
    factors = [function(scheduler.last_epoch) for function in scheduler.lr_lambdas]
    scheduler._last_lr = [rate * factor for rate, factor in zip(scheduler.base_lrs, factors, strict=True)]
    for group, rate in zip(optimizer.param_groups, scheduler._last_lr, strict=True):
        group["lr"] = rate
