"""Checkpoints that a kill, a full disk or a damaged file cannot turn into a wrong resume.

A checkpoint is written into a staging folder, synced, described by a manifest (manifest.json: size and SHA-256 of every
file) and published by one rename, so a visible `checkpoint-N` is whole. Resuming takes the newest one that its manifest
still describes. Put `CheckpointMixin` left of a transformers Trainer: `class T(CheckpointMixin, SFTTrainer)`.
"""

import functools
import hashlib
import json
import logging
import os
import platform
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path

import torch
from peft import PeftModel
from transformers import PreTrainedModel, Trainer

from ftkit.config.disk import writing
from ftkit.config.errors import UserError
from ftkit.config.files import give_modes, remove_temporary
from ftkit.training.callbacks import tell
from ftkit.training.hashing import Hashes, sha256_of
from ftkit.training.space import checkpoint_bytes, folder_bytes, model_bytes, removed_on_error

logger = logging.getLogger(__name__)

MANIFEST_NAME = "manifest.json"
NO_MANIFEST = f"{MANIFEST_NAME}: missing"
STAGING_NAME = ".staging"  # inside the output folder, so that publishing is a rename on one file system
DELETING_PREFIX = ".deleting-"
OPTIMIZER_NAME = "optimizer.pt"  # torch.save writes it from its beginning to its end
SYNCING_THREADS = 8
TRAINER_STATE_NAME = "trainer_state.json"
RECORDED_PACKAGES = ("torch", "transformers", "trl", "peft", "accelerate", "datasets")
ENTRY_FILES = ("config.json", "adapter_config.json")  # a loader opens these first, so they are published last
WEIGHT_PATTERNS = ("model*.safetensors*", "adapter_model*.safetensors*")


def list_checkpoints(output_dir: str | Path) -> list[Path]:
    """Return the folders `checkpoint-N` of `output_dir`, by N, valid or not."""
    found = [(re.fullmatch(r"checkpoint-(\d+)", path.name), path) for path in Path(output_dir).glob("checkpoint-*")]
    named = sorted((int(match[1]), path) for match, path in found if match)
    return [path for _, path in named if os.path.isdir(path)]  # also where a failing disk says nothing of one


def verify_checkpoint(folder: str | Path) -> list[str]:
    """Return what is wrong with a checkpoint, one "file: problem" each; an empty list if its manifest describes it."""
    folder = Path(folder)
    try:
        if not (folder / MANIFEST_NAME).is_file():
            return [f"{MANIFEST_NAME}: not a file" if os.path.lexists(folder / MANIFEST_NAME) else NO_MANIFEST]
        content = (folder / MANIFEST_NAME).read_bytes()
        unlisted = set(_files(folder)) - {MANIFEST_NAME}
    except OSError as error:
        return [f"{MANIFEST_NAME}: can't be read ({error.strerror})"]
    try:
        manifest = json.loads(content.decode("utf-8"))
        step, files = manifest["step"], manifest["files"].items()
        expected = [(name, file["size"], file["sha256"]) for name, file in files]
        intact = content.decode("utf-8") == _manifest_text(manifest)
    except (ValueError, TypeError, AttributeError, LookupError, RecursionError):  # not UTF-8, not JSON, not our JSON
        intact = False
    if not intact:
        return [f"{MANIFEST_NAME}: damaged"]
    problems = []
    if re.fullmatch(r"checkpoint-\d+", folder.name) and folder.name != f"checkpoint-{step}":
        problems.append(f"{MANIFEST_NAME}: written for step {step}")
    problems += [f"{one[0]}: {problem}" for one in expected if (problem := _problem_of(folder, *one))]
    unlisted -= {name for name, _, _ in expected}
    return problems + [f"{name}: not written with this checkpoint" for name in sorted(unlisted)]


def _problem_of(folder: Path, name: str, size: int, sha256: str) -> str | None:
    """What is wrong with one file of a checkpoint, or None."""
    path = folder / name
    try:
        if not path.is_file():
            return "missing"
        if path.stat().st_size != size:
            return f"{path.stat().st_size} bytes, {size} were written"
        return None if sha256_of(path) == sha256 else "contents changed"
    except OSError as error:  # closed to this user, or on a failing disk
        return f"can't be read ({error.strerror})"


def newest_valid_checkpoint(
    output_dir: str | Path, *, without_manifest: bool = False, run_id: str | None = None
) -> Path | None:
    """Return the newest checkpoint that its manifest describes; log a warning for each newer one that is skipped.

    With `without_manifest`, a checkpoint that a plain Trainer wrote (no manifest, a trainer_state.json) counts.
    run_id: of the run whose checkpoints count, if only those of one do.
    """
    for folder in reversed(list_checkpoints(output_dir)):
        problems = verify_checkpoint(folder)
        if not problems and run_id and read_manifest(folder).get("run", {}).get("id") != run_id:
            problems = [f"{MANIFEST_NAME}: written by another run"]
        if not problems or without_manifest and problems == [NO_MANIFEST] and (folder / TRAINER_STATE_NAME).is_file():
            return folder
        logger.warning("%s is skipped: %s", folder, _few(problems))
    return None


class VerifiedCheckpoint(str):
    """The folder of a checkpoint that was found whole, so that it is not looked through again."""


def resolve_resume(output_dir: str | Path, value: str | Path | bool | None) -> VerifiedCheckpoint | None:
    """Return the checkpoint that `--resume_from_checkpoint VALUE` means, None for none.

    True or "true" is the newest valid one in `output_dir`. Raises UserError if there is none, or if the folder that is
    named is missing, damaged or holds no optimizer state. A folder without manifest is taken, with a warning, if named.
    """
    if value is None or str(value).lower() in ("", "false", "none"):
        return None
    if isinstance(value, VerifiedCheckpoint):
        return value
    if str(value).lower() == "true":
        folder = newest_valid_checkpoint(output_dir)
        if folder is None:
            unverified = [path for path in list_checkpoints(output_dir) if verify_checkpoint(path) == [NO_MANIFEST]]
            hint = f"name one without manifest: --resume_from_checkpoint {unverified[-1]}; or " if unverified else ""
            raise UserError(
                f"{output_dir}: no valid checkpoint to resume from; {hint}start over without --resume_from_checkpoint"
            )
        return resumable(folder)
    folder = Path(value)
    problems = verify_checkpoint(folder)
    if problems == [NO_MANIFEST]:
        if not (folder / TRAINER_STATE_NAME).is_file():
            raise UserError(
                f"{folder}: not a checkpoint (no {TRAINER_STATE_NAME}); name a folder checkpoint-N, or true"
            )
        logger.warning("%s has no manifest: it is taken as it is, damage would go unseen", folder)
        return VerifiedCheckpoint(folder)
    if problems:
        raise UserError(
            f"{folder}: damaged, {_few(problems)}; take the newest valid one: --resume_from_checkpoint true"
        )
    return resumable(folder)


def resumable(folder: Path) -> VerifiedCheckpoint:
    """A valid checkpoint. Raises UserError for one that holds no optimizer state."""
    if not read_manifest(folder)["resumable"]:
        raise UserError(
            f"{folder}: saved with save_only_model, without optimizer state; train on from its weights: "
            f"--model_name_or_path {folder}"
        )
    return VerifiedCheckpoint(folder)


def read_manifest(folder: str | Path) -> dict:
    """The manifest of a valid checkpoint; {} where it has none."""
    path = Path(folder) / MANIFEST_NAME
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def publish_folder(staging: str | Path, final: str | Path) -> None:
    """Sync everything in `staging` to disk, then rename it to `final`; a folder already there is replaced."""
    staging, final = Path(staging), Path(final)
    give_modes(staging)
    _sync_tree(staging)
    if final.exists():
        _delete_folder(final)
    os.rename(staging, final)
    _sync(final.parent)


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
            _sync_tree(staging)
    if trainer.args.should_save:
        names = sorted(_files(staging), key=lambda name: (name in ENTRY_FILES, name))
        for name in names:
            (final / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(staging / name, final / name)
        for stale in {path for pattern in WEIGHT_PATTERNS for path in final.glob(pattern)}:
            if stale.name not in names:
                stale.unlink()
        shutil.rmtree(final / STAGING_NAME)
        _sync(final)
    trainer.accelerator.wait_for_everyone()
    return final


def remove_leftovers(output_dir: str | Path) -> None:
    """Remove what a killed run left half-written or half-deleted in `output_dir`."""
    for path in (Path(output_dir) / STAGING_NAME, *Path(output_dir).glob(f"{DELETING_PREFIX}*")):
        if path.is_dir():
            logger.warning("%s, left by an interrupted run, is removed", path)
            with writing(path):
                shutil.rmtree(path)
    folders = [path for path in Path(output_dir).rglob("*") if path.is_dir()]
    for folder in (Path(output_dir), *folders):
        remove_temporary(folder)


class CheckpointMixin:
    """Trainer part: staged checkpoints with a manifest, safe rotation, no step more when a finished run is resumed.

    run_identity: whose checkpoints these are; noted in each manifest as "run". takes_new_settings: whether a resume
    takes learning rate, schedule, weight decay and the like from the settings, and not from the checkpoint.
    """

    run_identity: dict | None = None
    takes_new_settings = False
    _is_staging = False

    def train(self, resume_from_checkpoint: str | bool | None = None, *args, **kwargs):
        """As Trainer.train; True means the newest checkpoint that is valid."""
        resume_from_checkpoint = resolve_resume(self.args.output_dir, resume_from_checkpoint)
        if self.args.should_save:
            remove_leftovers(self.args.output_dir)
            if resume_from_checkpoint:
                _rotate_again(Path(self.args.output_dir), Path(resume_from_checkpoint), self.args.save_total_limit)
        self.accelerator.wait_for_everyone()
        evaluates_first = self.args.eval_on_start
        self.args.eval_on_start = evaluates_first and not resume_from_checkpoint  # it was evaluated, and written down
        try:
            return super().train(resume_from_checkpoint, *args, **kwargs)
        finally:
            self.args.eval_on_start = evaluates_first

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

    def _save_optimizer_and_scheduler(self, output_dir):
        if not self.args.should_save:
            return super()._save_optimizer_and_scheduler(output_dir)
        self.hashes.begin(Path(output_dir))  # the weights, while the optimizer's state is written
        with self.hashes.following(Path(output_dir, OPTIMIZER_NAME)):
            super()._save_optimizer_and_scheduler(output_dir)

    def _get_output_dir(self, trial):
        run_dir = super()._get_output_dir(trial)
        return os.path.join(run_dir, STAGING_NAME) if self._is_staging else run_dir

    def _save(self, output_dir=None, state_dict=None):
        """As Trainer._save, but without its pickle of the arguments, which hold the token of the Hub."""
        folder = output_dir or self.args.output_dir
        if not self.args.should_save and not getattr(self, "is_distributed_loading_by_transformers", False):
            return
        model = self.model
        if not isinstance(model, PreTrainedModel | PeftModel):  # wrapped, by FSDP
            model = self.accelerator.unwrap_model(model, keep_torch_compile=False)
        model.save_pretrained(folder, state_dict=state_dict, is_main_process=self.args.should_save)
        if self.args.should_save and self.processing_class is not None:
            self.processing_class.save_pretrained(folder)

    def _save_checkpoint(self, model, trial):
        run_dir = Path(self._get_output_dir(trial))
        name = f"checkpoint-{self.state.global_step}"
        staging, final = run_dir / STAGING_NAME / name, run_dir / name
        if self.args.should_save:
            shutil.rmtree(staging, ignore_errors=True)
        self.accelerator.wait_for_everyone()
        note = "this checkpoint is not saved, earlier ones are whole"
        need = max(checkpoint_bytes(self), *map(folder_bytes, list_checkpoints(run_dir)[-1:]), 0)
        on_disk = writing(final, need=need, note=note)
        with Hashes() as self.hashes, on_disk, removed_on_error(staging):
            self._stage_checkpoint(model, trial, staging, final)
            if self.args.should_save:
                publish_folder(staging, final)
                shutil.rmtree(staging.parent)
        if self.args.should_save:
            _rotate(run_dir, final, self.args.save_total_limit, self.state.best_model_checkpoint)
        self.accelerator.wait_for_everyone()

    def _stage_checkpoint(self, model, trial, staging: Path, final: Path) -> None:
        """Write all of a checkpoint, its manifest last, into `staging`; all processes call it."""
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
            resumable = not self.args.save_only_model
            _write_manifest(staging, self.hashes, self.state.global_step, resumable=resumable, run=self.run_identity)

    def _finalize_training(self, *args, **kwargs):
        # With save_total_limit=1 Trainer deletes the newest checkpoint here if an older one is the best
        limit, self.args.save_total_limit = self.args.save_total_limit, None
        try:
            return super()._finalize_training(*args, **kwargs)
        finally:
            self.args.save_total_limit = limit


def best_checkpoint(run_dir: str | Path, checkpoint: str | Path) -> str | None:
    """The best checkpoint that another one notes, if there is one: in the run's folder, which may have been moved."""
    state = json.loads((Path(checkpoint) / TRAINER_STATE_NAME).read_text(encoding="utf-8"))
    noted = Path(state.get("best_model_checkpoint") or "")
    places = (Path(run_dir) / noted.name, noted)
    return next((str(path) for path in places if noted.name and path.is_dir()), None)


def _rotate(run_dir: Path, newest: Path, limit: int | None, best: str | None) -> None:
    """Delete all but `limit` checkpoints: never `newest`, the best, or one without manifest, which we did not write."""
    if not limit or limit < 0:
        return
    ours = [path for path in list_checkpoints(run_dir) if (path / MANIFEST_NAME).is_file()]
    step = ours.index(newest)
    by_worth = ours[step + 1 :] + ours[: step + 1]  # a later step is left from a run that was rolled back
    protected = {newest.resolve()} | ({Path(best).resolve()} if best else set())
    deletable = [path for path in by_worth if path.resolve() not in protected]
    for path in deletable[: max(len(ours) - limit, 0)]:
        with writing(path, note=f"it should be deleted, {newest.name} is saved"):
            _delete_folder(path)


def _rotate_again(run_dir: Path, checkpoint: Path, limit: int | None) -> None:
    """Delete what a run that was killed before it had rotated left, if it goes on from a checkpoint of its own."""
    if checkpoint in list_checkpoints(run_dir) and (checkpoint / MANIFEST_NAME).is_file():
        _rotate(run_dir, checkpoint, limit, best_checkpoint(run_dir, checkpoint))


def _delete_folder(folder: Path) -> None:
    """Rename aside, then delete: a kill in between leaves nothing that looks like a checkpoint."""
    aside = folder.parent / f"{DELETING_PREFIX}{folder.name}"
    shutil.rmtree(aside, ignore_errors=True)
    os.rename(folder, aside)
    _sync(folder.parent)
    shutil.rmtree(aside)


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


def environment() -> dict:
    """What the bits of a result may depend on beside a run's settings: versions of libraries, and threads."""
    return {"versions": dict(_versions()), "num_threads": torch.get_num_threads()}


@functools.lru_cache
def _versions() -> tuple[tuple[str, str], ...]:
    packages = ((name, metadata.version(name)) for name in RECORDED_PACKAGES)
    return ("python", platform.python_version()), *packages


def _write_manifest(folder: Path, hashes: Hashes, step: int, *, resumable: bool, run: dict | None = None) -> None:
    files = {
        name: {"size": (folder / name).stat().st_size, "sha256": hashes.digest(folder / name)}
        for name in _files(folder)
    }
    manifest = {"step": step, "resumable": resumable, **environment(), "run": run or {}, "files": files}
    (folder / MANIFEST_NAME).write_text(_manifest_text(manifest), encoding="utf-8")


def _manifest_text(manifest: dict) -> str:
    """The one spelling of a manifest, its own checksum included, so that any changed byte shows."""
    content = {key: value for key, value in manifest.items() if key != "sha256"}
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return json.dumps({**content, "sha256": digest}, indent=1) + "\n"


def _files(folder: Path) -> list[str]:
    """Names relative to `folder` of all files in it, sorted."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not os.path.isdir(path))


def _sync_tree(folder: Path) -> None:
    paths = (*folder.rglob("*"), folder)
    with ThreadPoolExecutor(SYNCING_THREADS) as pool:  # the system writes its journal once for several
        list(pool.map(_sync, paths))


def _sync(path: Path) -> None:
    """Have the system write a file, or a folder's entries, to disk."""
    if os.name != "posix" and path.is_dir():
        return  # Windows can't open folders
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _few(problems: list[str]) -> str:
    return "; ".join(problems[:3]) + (f"; {len(problems) - 3} more" if len(problems) > 3 else "")
