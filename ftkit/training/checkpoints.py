"""Checkpoints on the disk: found, verified against their manifest, chosen, published by a rename, rotated.

manifest.json describes a checkpoint: size and SHA-256 of every file, and whose run it is. It is written last, so that
what it still describes is whole.
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

from ftkit.config.disk import writing
from ftkit.config.errors import UserError
from ftkit.config.files import give_modes, remove_temporary, sha256_of
from ftkit.config.paste import quoted

logger = logging.getLogger(__name__)

MANIFEST_NAME = "manifest.json"
NO_MANIFEST = f"{MANIFEST_NAME}: missing"
STAGING_NAME = ".staging"  # inside the output folder, so that publishing is a rename on one file system
DELETING_PREFIX = ".deleting-"
SYNCING_THREADS = 8
TRAINER_STATE_NAME = "trainer_state.json"
RECORDED_PACKAGES = ("torch", "transformers", "trl", "peft", "accelerate", "datasets")


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
        unlisted = set(file_names(folder)) - {MANIFEST_NAME}
    except OSError as error:
        return [f"{MANIFEST_NAME}: can't be read ({error.strerror})"]
    try:
        manifest = json.loads(content.decode("utf-8"))
        step, files = manifest["step"], manifest["files"].items()
        expected = [(name, file["size"], file["sha256"]) for name, file in files]
        intact = content.decode("utf-8") == manifest_text(manifest)
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
            f"--model {quoted(folder)}"
        )
    return VerifiedCheckpoint(folder)


def best_checkpoint(run_dir: str | Path, checkpoint: str | Path) -> str | None:
    """The best checkpoint that another one notes, if there is one: in the run's folder, which may have been moved."""
    state = json.loads((Path(checkpoint) / TRAINER_STATE_NAME).read_text(encoding="utf-8"))
    noted = Path(state.get("best_model_checkpoint") or "")
    places = (Path(run_dir) / noted.name, noted)
    return next((str(path) for path in places if noted.name and path.is_dir()), None)


def read_manifest(folder: str | Path) -> dict:
    """The manifest of a valid checkpoint; {} where it has none."""
    path = Path(folder) / MANIFEST_NAME
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def write_manifest(folder: Path, step: int, *, resumable: bool, run: dict | None = None) -> None:
    """Describe a checkpoint that is complete but for its manifest. run: whose it is, as `run_identity` has it."""
    files = {
        name: {"size": (folder / name).stat().st_size, "sha256": sha256_of(folder / name)}
        for name in file_names(folder)
    }
    manifest = {"step": step, "resumable": resumable, **environment(), "run": run or {}, "files": files}
    (folder / MANIFEST_NAME).write_text(manifest_text(manifest), encoding="utf-8")


def manifest_text(manifest: dict) -> str:
    """The one spelling of a manifest, its own checksum included, so that any changed byte shows."""
    content = {key: value for key, value in manifest.items() if key != "sha256"}
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return json.dumps({**content, "sha256": digest}, indent=1) + "\n"


def environment() -> dict:
    """What the bits of a result may depend on beside a run's settings: versions of libraries, and threads."""
    return {"versions": dict(_versions()), "num_threads": torch.get_num_threads()}


@functools.lru_cache
def _versions() -> tuple[tuple[str, str], ...]:
    packages = ((name, metadata.version(name)) for name in RECORDED_PACKAGES)
    return ("python", platform.python_version()), *packages


def publish_folder(staging: str | Path, final: str | Path) -> None:
    """Sync everything in `staging` to disk, then rename it to `final`; a folder already there is replaced."""
    staging, final = Path(staging), Path(final)
    give_modes(staging)
    sync_tree(staging)
    if final.exists():
        _delete_folder(final)
    os.rename(staging, final)
    sync(final.parent)


def rotate(run_dir: Path, newest: Path, limit: int | None, best: str | None) -> None:
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


def rotate_again(run_dir: Path, checkpoint: Path, limit: int | None) -> None:
    """Delete what a run that was killed before it had rotated left, if it goes on from a checkpoint of its own."""
    if checkpoint in list_checkpoints(run_dir) and (checkpoint / MANIFEST_NAME).is_file():
        rotate(run_dir, checkpoint, limit, best_checkpoint(run_dir, checkpoint))


def _delete_folder(folder: Path) -> None:
    """Rename aside, then delete: a kill in between leaves nothing that looks like a checkpoint."""
    aside = folder.parent / f"{DELETING_PREFIX}{folder.name}"
    shutil.rmtree(aside, ignore_errors=True)
    os.rename(folder, aside)
    sync(folder.parent)
    shutil.rmtree(aside)


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


def file_names(folder: Path) -> list[str]:
    """Names relative to `folder` of all files in it, sorted."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not os.path.isdir(path))


def sync_tree(folder: Path) -> None:
    """Have the system write a folder and all in it to disk."""
    paths = (*folder.rglob("*"), folder)
    with ThreadPoolExecutor(SYNCING_THREADS) as pool:  # the system writes its journal once for several
        list(pool.map(sync, paths))


def sync(path: Path) -> None:
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
