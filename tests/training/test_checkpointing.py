"""Checkpoints survive kills, damage and rotation, and resume bit for bit. Run as a script, it is the kill harness."""

import errno
import hashlib
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from checkpointed import build_trainer, names, train, weights_digest
from safetensors.torch import load_file
from transformers import LlamaForCausalLM, Trainer, TrainerCallback
from trl import SFTTrainer

import ftkit
from ftkit.config.disk import fault_line
from ftkit.config.errors import UserError
from ftkit.training import checkpointing, checkpoints
from ftkit.training.callbacks import EarlyStopping
from ftkit.training.checkpointing import save_model_safely
from ftkit.training.checkpoints import (
    list_checkpoints,
    newest_valid_checkpoint,
    publish_folder,
    remove_leftovers,
    resolve_resume,
    verify_checkpoint,
)
from ftkit.training.space import checkpoint_bytes, model_bytes


def test_checkpoint_holds_what_a_resume_needs_a_manifest_and_no_pickled_arguments(finished):
    folder = finished[0]
    assert names(folder) == ["checkpoint-2", "checkpoint-4", "checkpoint-5"]
    newest = folder / "checkpoint-5"
    files = {path.name for path in newest.iterdir()}
    assert {"model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"} <= files
    assert "training_args.bin" not in files
    manifest = json.loads((newest / "manifest.json").read_text())
    assert set(manifest["files"]) == files - {"manifest.json"} and manifest["step"] == 5
    assert torch.__version__.startswith(manifest["versions"]["torch"])
    weights = (newest / "model.safetensors").read_bytes()
    expected = {"size": len(weights), "sha256": hashlib.sha256(weights).hexdigest()}
    assert manifest["files"]["model.safetensors"] == expected
    assert verify_checkpoint(newest) == []
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


def test_resume_gives_the_uninterrupted_runs_weights(finished, run_folder):
    for name in ("checkpoint-4", "checkpoint-2"):  # the second replaces both later ones
        trainer = train(run_folder, resume=str(run_folder / name))
        assert weights_digest(trainer.model) == finished[1]
        assert [verify_checkpoint(path) for path in list_checkpoints(run_folder)] == [[], [], []]


def test_early_stopping_goes_on_from_the_checkpoint_and_an_ended_run_stays_ended(tmp_path):
    never_better = dict(metric_for_best_model="loss", greater_is_better=True, load_best_model_at_end=True)

    def stopped_at(resume):
        settings = dict(max_steps=10, eval_strategy="steps", eval_steps=2, save_total_limit=None, **never_better)
        trainer = build_trainer(tmp_path, **settings)
        trainer.add_callback(EarlyStopping(early_stopping_patience=2))
        trainer.train(resume_from_checkpoint=resume)
        return trainer.state.global_step

    assert stopped_at(None) == 6  # the first loss is the highest; two evaluations after it are no better
    for step in (6, 4, 2):
        assert stopped_at(str(tmp_path / f"checkpoint-{step}")) == 6, step


def test_resuming_a_finished_run_takes_no_step(tmp_path):
    first = train(tmp_path, max_steps=6)
    again = train(tmp_path, resume=True, max_steps=6)
    assert again.state.global_step == 6
    assert weights_digest(again.model) == weights_digest(first.model)
    assert train(tmp_path, resume=True, max_steps=8).state.global_step == 8


def test_resume_from_the_older_checkpoint_replaces_the_damaged_one(finished, run_folder):
    for name in ("checkpoint-4", "checkpoint-5"):
        (run_folder / name / "optimizer.pt").write_bytes(b"damaged")
    assert weights_digest(train(run_folder, resume=True).model) == finished[1]
    assert [verify_checkpoint(path) for path in list_checkpoints(run_folder)] == [[], [], []]


def test_checkpoint_of_a_plain_trainer_counts_only_when_asked(tmp_path, caplog):
    train(tmp_path, trainer_class=SFTTrainer)
    newest = tmp_path / "checkpoint-5"
    assert newest_valid_checkpoint(tmp_path) is None
    assert newest_valid_checkpoint(tmp_path, without_manifest=True) == newest
    with pytest.raises(UserError, match=f"no valid checkpoint to resume from; name one without manifest: .*{newest}"):
        resolve_resume(tmp_path, "true")
    caplog.clear()
    assert resolve_resume(tmp_path, str(newest)) == str(newest)
    assert "has no manifest" in caplog.text


def test_resume_values(finished, tmp_path):
    folder = finished[0]
    assert [resolve_resume(folder, value) for value in (None, False, "false", "")] == [None] * 4
    assert resolve_resume(folder, "true") == resolve_resume(folder, True) == str(folder / "checkpoint-5")
    assert resolve_resume(tmp_path, folder / "checkpoint-2") == str(folder / "checkpoint-2")
    with pytest.raises(UserError, match="no valid checkpoint to resume from; start over without"):
        resolve_resume(tmp_path, True)
    with pytest.raises(
        UserError, match="not a checkpoint .no trainer_state.json.; name a folder checkpoint-N, or true"
    ):
        resolve_resume(folder, folder)


def test_checkpoint_without_optimizer_state_is_not_resumed(tmp_path):
    train(tmp_path, save_only_model=True)
    with pytest.raises(UserError, match="saved with save_only_model, without optimizer state; .*--model "):
        resolve_resume(tmp_path, True)


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_rotation_keeps_the_newest(limit, tmp_path):
    train(tmp_path, max_steps=8, save_total_limit=limit)
    assert names(tmp_path) == [f"checkpoint-{step}" for step in (2, 4, 6, 8)][-limit:]


def test_rotation_and_the_end_of_training_keep_the_best_and_the_newest(tmp_path):
    highest_loss = dict(metric_for_best_model="loss", greater_is_better=True, load_best_model_at_end=True)
    trainer = train(tmp_path, max_steps=8, save_total_limit=1, eval_strategy="steps", eval_steps=2, **highest_loss)
    best = Path(trainer.state.best_model_checkpoint)
    assert best == tmp_path / "checkpoint-2" and names(tmp_path) == ["checkpoint-2", "checkpoint-8"]
    state = json.loads((tmp_path / "checkpoint-8" / "trainer_state.json").read_text())
    assert state["best_model_checkpoint"] == str(best)
    state = json.loads((best / "trainer_state.json").read_text())
    assert state["best_model_checkpoint"] == str(best)
    saved = load_file(best / "model.safetensors")
    assert all(torch.equal(trainer.model.state_dict()[name], tensor) for name, tensor in saved.items())


def test_a_run_whose_folder_was_moved_keeps_and_ends_with_its_best_weights(tmp_path):
    before, after = tmp_path / "before", tmp_path / "after"
    settings = dict(
        metric_for_best_model="loss", greater_is_better=True, load_best_model_at_end=True, eval_strategy="steps",
        eval_steps=2, save_total_limit=1,
    )  # fmt: skip
    train(before, max_steps=4, **settings)
    assert names(before) == ["checkpoint-2", "checkpoint-4"]  # the best and the newest
    before.rename(after)
    trainer = train(after, resume=True, max_steps=8, **settings)
    assert names(after) == ["checkpoint-2", "checkpoint-8"]
    best = load_file(after / "checkpoint-2/model.safetensors")
    assert all(torch.equal(trainer.model.state_dict()[name], tensor) for name, tensor in best.items())


def test_rotation_deletes_rolled_back_steps_first_and_never_what_has_no_manifest(run_folder):
    (run_folder / "checkpoint-1").mkdir()
    train(run_folder, resume=str(run_folder / "checkpoint-2"), max_steps=3, save_steps=1, save_total_limit=2)
    assert names(run_folder) == ["checkpoint-1", "checkpoint-2", "checkpoint-3"]


def test_a_rotation_that_a_kill_cut_short_is_made_up_for(run_folder):
    train(run_folder, resume=True, save_total_limit=1)  # no more step, so no more save
    assert names(run_folder) == ["checkpoint-5"]


class Killed(BaseException):
    """Stands for a kill: no `except Exception` sees it."""


@pytest.mark.parametrize("function", ["rename", "fsync"])
def test_run_killed_while_publishing_resumes_to_the_same_weights(function, finished, tmp_path, monkeypatch):
    """The quick case; the kill harness below kills a real process at every write."""

    def killed(*_):
        if (tmp_path / "checkpoint-2").exists():
            raise Killed
        return original(*_)

    original = getattr(os, function)
    monkeypatch.setattr(checkpointing.os, function, killed)
    with pytest.raises(Killed):
        train(tmp_path)
    monkeypatch.undo()
    assert (tmp_path / ".staging").exists() or function == "fsync"
    assert [verify_checkpoint(path) for path in list_checkpoints(tmp_path)] == [[]]
    (tmp_path / ".deleting-checkpoint-1").mkdir()
    assert weights_digest(train(tmp_path, resume=True).model) == finished[1]
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("how", ["errno", "words of torch"])
def test_full_disk_is_one_line_with_the_need_and_leaves_the_earlier_checkpoint(how, tmp_path, monkeypatch):
    def save_optimizer(self, output_dir):
        if self.state.global_step < 4:
            return original(self, output_dir)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 0))
        if how == "errno":
            raise OSError(errno.ENOSPC, "No space left on device")
        raise RuntimeError("unexpected pos 64 vs 0")

    original = Trainer._save_optimizer_and_scheduler
    monkeypatch.setattr(Trainer, "_save_optimizer_and_scheduler", save_optimizer)
    with pytest.raises(OSError) as caught:
        train(tmp_path)
    line = fault_line(caught.value)
    assert line.startswith(f"{tmp_path}/checkpoint-4: No space left on device, needs ")
    assert ", 0 bytes free; this checkpoint is not saved, earlier ones are whole; free some space" in line
    assert names(tmp_path) == ["checkpoint-2"] and verify_checkpoint(tmp_path / "checkpoint-2") == []
    assert not list((tmp_path / ".staging").glob("*"))


def test_what_a_checkpoint_needs_is_counted(finished):
    trainer = build_trainer(finished[0] / "unused")
    size = sum(tensor.numel() * 4 for tensor in trainer.model.parameters())
    assert (model_bytes(trainer), checkpoint_bytes(trainer)) == (size, size)  # there is no optimizer yet
    trainer = train(finished[0].parent / "one_step", max_steps=1)
    steps = 4 * len(list(trainer.model.parameters()))  # AdamW counts the steps of each tensor
    assert checkpoint_bytes(trainer) == 3 * size + steps


def test_other_errors_of_a_save_pass_through(tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError("not the disk")

    monkeypatch.setattr(Trainer, "_save_optimizer_and_scheduler", fail)
    with pytest.raises(RuntimeError, match="not the disk"):
        train(tmp_path)


def test_leftovers_are_removed_and_named(tmp_path, caplog):
    for name in (".staging/checkpoint-3", ".deleting-checkpoint-1", "checkpoint-2"):
        (tmp_path / name).mkdir(parents=True)
    with caplog.at_level(logging.WARNING):
        for name in (
            ".run.yaml.123",
            ".metrics.jsonl.4567",
            ".ftkit/.run.json.89",
            "checkpoint-2/.lock.json.4",
            ".env",
            ".notes.old",
            ".ftkit/lock",
        ):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).touch()
        (tmp_path / ".ftkit-trial" / "a").mkdir(parents=True)
        remove_leftovers(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint-2", ".ftkit", ".env", ".notes.old"}
    assert [path.name for path in (tmp_path / ".ftkit").iterdir()] == ["lock"]
    assert not list((tmp_path / "checkpoint-2").iterdir())
    assert ".staging, left by an interrupted run, is removed" in caplog.text


def test_every_file_is_on_disk_before_the_rename_and_the_rename_after(tmp_path, monkeypatch):
    (tmp_path / "staging" / "sub").mkdir(parents=True)
    for name in ("staging/a", "staging/sub/b"):
        (tmp_path / name).touch()
    events, sync, rename = [], checkpoints.sync, os.rename
    monkeypatch.setattr(checkpoints, "sync", lambda path: (events.append(path), sync(path)))
    monkeypatch.setattr(checkpointing.os, "rename", lambda *paths: (events.append("rename"), rename(*paths)))
    publish_folder(tmp_path / "staging", tmp_path / "final")
    assert events[-2:] == ["rename", tmp_path]
    assert set(events[:-2]) == {tmp_path / name for name in ("staging", "staging/a", "staging/sub", "staging/sub/b")}


def test_training_goes_on_while_a_checkpoint_reaches_the_disk_and_the_older_one_stays_until_then(tmp_path, monkeypatch):
    on_disk, sync, seen = threading.Event(), checkpoints.sync, {}

    class Watcher(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == 5:
                seen["meanwhile"] = names(tmp_path)
                on_disk.set()

    monkeypatch.setattr(
        checkpoints, "sync", lambda path: (path.match("*checkpoint-4*") and on_disk.wait(60), sync(path))
    )
    trainer = build_trainer(tmp_path, save_total_limit=1)
    trainer.add_callback(Watcher())
    trainer.train()
    assert seen["meanwhile"] == ["checkpoint-2"]
    assert names(tmp_path) == ["checkpoint-5"] and verify_checkpoint(tmp_path / "checkpoint-5") == []


def test_model_is_published_after_its_files_are_on_disk_and_its_configuration_last(tmp_path, monkeypatch):
    events, sync, replace = [], checkpoints.sync, os.replace
    for module in (checkpoints, checkpointing):
        monkeypatch.setattr(module, "sync", lambda path: (events.append(path.name), sync(path)))
    monkeypatch.setattr(checkpointing.os, "replace", lambda a, b: (events.append(("replace", b.name)), replace(a, b)))
    save_model_safely(build_trainer(tmp_path))
    replaced = [event[1] for event in events if isinstance(event, tuple)]
    assert replaced[-1] == "config.json" and set(replaced) <= set(events[: events.index(("replace", replaced[0]))])
    assert events[-1] == tmp_path.name


def test_publish_folder_replaces_the_old_folder(tmp_path):
    for name in ("staging", "final"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    publish_folder(tmp_path / "staging", tmp_path / "final")
    assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))] == ["final", "final/staging"]


def test_saved_model_loads_and_replaces_weights_of_an_earlier_save(tmp_path):
    (tmp_path / "model-00001-of-00002.safetensors").touch()
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    (tmp_path / "run.yaml").touch()
    trainer = build_trainer(tmp_path)
    assert save_model_safely(trainer) == tmp_path
    present = {path.name for path in tmp_path.iterdir()}
    assert {"model.safetensors", "config.json", "tokenizer.json", "run.yaml"} <= present
    assert not present & {"training_args.bin", "model.safetensors.index.json", "model-00001-of-00002.safetensors"}
    assert not [name for name in present if name.startswith(".")]
    loaded = LlamaForCausalLM.from_pretrained(tmp_path)
    assert weights_digest(loaded) == weights_digest(trainer.model)


def test_model_save_killed_before_publishing_leaves_the_earlier_model(tmp_path, monkeypatch):
    trainer = build_trainer(tmp_path)
    save_model_safely(trainer)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    torch.nn.init.ones_(trainer.model.lm_head.weight)

    def killed(*_):
        raise Killed

    monkeypatch.setattr(checkpointing.os, "replace", killed)
    with pytest.raises(Killed):
        save_model_safely(trainer)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


@pytest.mark.slow
def test_process_killed_at_any_write_resumes_to_the_same_weights(tmp_path):
    """kill -9 at some 40 file-system events of saves and rotations, each in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(Path(ftkit.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, str(tmp_path), "40"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["killed"] >= 40 and report["invalid_visible"] == 0 and report["different"] == 0


def kill_at_event(number, folder):
    """Kill this process at the `number`-th write, rename, removal or sync below `folder`."""
    count = 0

    def event(*_):
        nonlocal count
        count += 1
        if count == number:
            os.kill(os.getpid(), signal.SIGKILL)

    def audit(name, arguments):
        if name == "open" and str(arguments[0]).startswith(str(folder)) and arguments[2] & (os.O_WRONLY | os.O_RDWR):
            event()
        elif name in ("os.rename", "os.remove", "os.rmdir", "os.mkdir"):
            event()

    sys.addaudithook(audit)
    sync = os.fsync
    os.fsync = lambda descriptor: (event(), sync(descriptor))[1]
    return lambda: count


def in_child(function, *arguments):
    """Run `function` in a forked process; return its exit status."""
    process = os.fork()
    if process == 0:
        try:
            function(*arguments)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    return os.waitpid(process, 0)[1]


def child_run(folder, kill_number, result):
    counted = kill_at_event(kill_number, folder)
    try:
        resume = resolve_resume(folder, True)
    except UserError:
        resume = None
    trainer = train(folder, resume=resume, max_steps=7, save_total_limit=1)
    result.write_text(json.dumps({"events": counted(), "digest": weights_digest(trainer.model)}))


def harness(root, num_kills):
    """Kill a run at `num_kills` events spread over all of them, resume it, compare; print counts as JSON."""
    torch.set_num_threads(1)
    result = root / "result.json"
    assert in_child(child_run, root / "whole", 0, result) == 0
    whole = json.loads(result.read_text())
    report = {"events": whole["events"], "killed": 0, "invalid_visible": 0, "different": 0}
    for i in range(num_kills):
        folder = root / f"run{i}"
        status = in_child(child_run, folder, 1 + i * whole["events"] // num_kills, result)
        report["killed"] += os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        report["invalid_visible"] += any(verify_checkpoint(path) for path in list_checkpoints(folder))
        result.unlink()
        status = in_child(child_run, folder, 0, result)
        report["different"] += status != 0 or json.loads(result.read_text())["digest"] != whole["digest"]
        shutil.rmtree(folder)
    print(json.dumps(report))


if __name__ == "__main__":
    harness(Path(sys.argv[1]), int(sys.argv[2]))
