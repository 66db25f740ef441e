"""How a run begins: its folder is taken, and what is there is gone on with, left as it is, or refused by name.

The same command begins in an empty folder, goes on from the newest valid checkpoint of an unfinished run (from the
start where there is none), and does nothing on a finished one. With other settings, rows or weights it is refused.
"""

import contextlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ftkit.config.errors import UserError
from ftkit.config.launch import is_first_process
from ftkit.config.output_folder import RunNote, State, clear, held, read_note, refuse_other, state_of, write_note
from ftkit.config.paste import quoted
from ftkit.config.run_folder import RunRecord, read_record
from ftkit.data.templates.lock import make_lock
from ftkit.runs.identity import allowed_changes, defaults, differences, fingerprint
from ftkit.training.checkpoints import (
    VerifiedCheckpoint,
    environment,
    newest_valid_checkpoint,
    read_manifest,
    resolve_resume,
    resumable,
)


@dataclass
class Start:
    """How a run begins. note: whose run it is. template_lock: of its tokenizer.

    checkpoint: to go on from; None from the start. record: of the run that goes on. changed: names of what changed
    by permission. is_finished: whether there is nothing to do.
    """

    note: RunNote
    template_lock: dict
    checkpoint: VerifiedCheckpoint | None = None
    record: RunRecord | None = None
    changed: frozenset[str] = frozenset()
    is_finished: bool = False
    notes: list[str] = field(default_factory=list)

    @property
    def step(self) -> int:
        """Updates that are done."""
        return read_manifest(self.checkpoint).get("step", 0) if self.checkpoint else 0


def output_folder(training) -> contextlib.AbstractContextManager:
    """Holds the lock of the run's folder, in the first process; nothing for a plan, which writes nothing."""
    return contextlib.nullcontext() if training.plan or not is_first_process() else held(training.output_dir)


def check_state(training) -> None:
    """Raise UserError, before anything is read, for a folder that holds something else or nothing to resume."""
    state = state_of(training.output_dir)
    if state is State.OTHER:
        raise refuse_other(training.output_dir)
    if state is State.EMPTY and str(training.resume_from_checkpoint).lower() == "true":
        raise UserError(f"{training.output_dir}: holds no run to resume; drop --resume_from_checkpoint")


def begin(command: str, settings, data) -> Start:
    """How the run begins, before anything is written. data: as the method prepared it.

    Raises UserError, with its name, for whatever of the run in the folder has changed and is not allowed to.
    """
    training = settings.training
    lock = make_lock(data.tokenizer, data.template.name if data.template else None)
    start = Start(RunNote(command, fingerprint(command, settings, data, lock)), lock)
    if training.plan or training.overwrite:
        return start
    state, note = state_of(training.output_dir), read_note(training.output_dir)
    if note:
        start.note = replace(start.note, id=note.id)
    checkpoint = chosen_checkpoint(training, state, note)
    if state is State.FINISHED and not names_checkpoint(training):
        return go_on_after_end(start, settings, note, checkpoint)
    if checkpoint:
        return go_on(start, settings, checkpoint)
    if state is not State.EMPTY:
        start.notes.append(f"start      from the start: no update was saved in {training.output_dir}")
    return start


def go_on(start: Start, settings, checkpoint: VerifiedCheckpoint) -> Start:
    """The start of a run that goes on from a checkpoint of its own, or from one that was named."""
    output_dir, manifest = Path(settings.training.output_dir), read_manifest(checkpoint)
    run = manifest.get("run") or {}
    is_own = Path(checkpoint).resolve().parent == output_dir.resolve()
    start.record = read_record(output_dir) if is_own else None
    start.changed = compared(run.get("fingerprint"), start.note.fingerprint, settings, start.record)
    if is_own and run:
        start.note = replace(start.note, id=run["id"])
    start.notes += environment_notes(manifest)
    if not run:
        start.notes.append(f"warning    {checkpoint} does not say what it rests on; rows and settings are not compared")
    start.checkpoint = checkpoint
    return start


def go_on_after_end(start: Start, settings, note: RunNote | None, checkpoint: VerifiedCheckpoint | None) -> Start:
    """The start where the folder's run came to its end: nothing to do, unless something changed by permission."""
    folder = settings.training.output_dir
    before = note.fingerprint if note else None
    if not compared(before, start.note.fingerprint, settings, read_record(folder)):
        start.is_finished = True
        return start
    if checkpoint is None:
        raise UserError(
            f"{folder}: is finished and has no checkpoint to go on from; train on from its weights: "
            f"--model {quoted(folder)}, or --adapter {quoted(folder)} for an adapter"
        )
    return go_on(start, settings, checkpoint)


def names_checkpoint(training) -> bool:
    """Whether --resume_from_checkpoint names a folder."""
    return str(training.resume_from_checkpoint).lower() not in ("true", "false", "none", "")


def chosen_checkpoint(training, state: State, note: RunNote | None) -> VerifiedCheckpoint | None:
    """The checkpoint to go on from: the one that is named, else the newest valid one of the run in the folder."""
    if names_checkpoint(training):
        return resolve_resume(training.output_dir, training.resume_from_checkpoint)
    if state is State.EMPTY:
        return None
    folder = newest_valid_checkpoint(training.output_dir, run_id=note.id if note else None)
    return resumable(folder) if folder else None


def compared(before: dict | None, now: dict, settings, record: RunRecord | None) -> frozenset[str]:
    """The names of what has changed since the run began, all of it allowed. Raises UserError for what is not."""
    default = defaults(settings)
    allowed = allowed_changes(settings.training.allow_changes, set(default))
    if before is None:
        return frozenset()
    changed = differences(before, now, record.decided if record else {}, default)
    refused = {name: text for name, text in changed.items() if name not in allowed}
    if refused:
        folder = settings.training.output_dir
        named = "; ".join(f"{name}: {text}" for name, text in refused.items())
        permission = f"--allow_changes {','.join(refused)} goes on with them, "
        raise UserError(
            f"{folder}: holds a run that rests on something else ({named}); "
            f"{'' if 'command' in refused else permission}--overwrite starts over, or choose another --output_dir"
        )
    return frozenset(changed)


def environment_notes(manifest: dict) -> list[str]:
    """One line where versions or threads are no longer those of a checkpoint."""
    now = environment()
    then = {name: manifest[name] for name in now if name in manifest}
    changed = [
        f"{name} {then['versions'][name]} then, {version} now"
        for name, version in now["versions"].items()
        if then.get("versions", {}).get(name, version) != version
    ]
    if then.get("num_threads", now["num_threads"]) != now["num_threads"]:
        changed.append(f"{then['num_threads']} threads then, {now['num_threads']} now")
    return [f"warning    bits may differ from an uninterrupted run: {', '.join(changed)}"] if changed else []


def take_folder(start: Start, training) -> None:
    """Note whose run the folder holds from now on, then remove what --overwrite replaces: a kill in between is safe."""
    write_note(training.output_dir, start.note)
    if training.overwrite:
        clear(training.output_dir)


def close_folder(start: Start, training) -> None:
    """Note that the run came to its end."""
    write_note(training.output_dir, replace(start.note, is_finished=True))


def identity_of(start: Start) -> dict[str, Any]:
    """What each checkpoint's manifest says of the run."""
    return {"id": start.note.id, "fingerprint": start.note.fingerprint}
