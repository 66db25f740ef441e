"""Runs that are killed on purpose, at a file-system event below OUT or at a step, and what is left of them.

    get_ready(["sft"], use_cpu=False)
    trial = Trial("sft", ("--config", "OUT/run.yaml"), Path("work"))
    expected = trial.reference()
    point = trial.kill(expected, [17])

A run's moments are numbered from 1, the same in each run of the same command: what Python is about to open for writing,
rename, make or remove below OUT, and two in each step. On a CPU the runs are forked from this process, which imports
the libraries once; a GPU can't be shared with a fork, so there each run is a process of its own.
"""

import gc
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from ftkit.config.jsonl import read_jsonl
from ftkit.training.checkpoints import list_checkpoints, verify_checkpoint

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate", "shutil.rmtree"}
SPEED, NO_LOSSES = "_per_second", {"peak_memory_gib", "tokens"}  # speed and memory differ from run to run
WEIGHTS = "*.safetensors"
SHOWN_LINES = 12  # of the log of a run that failed


class Moments:
    """Counts the moments of the run in this process, and kills the process at one of them.

    folder: OUT. kill_at: number of the moment, 0 for none. record: file that gets the name of each, a line each.
    An audit hook stays for ever, so this is for a process that has nothing else to do.
    """

    def __init__(self, folder: Path, kill_at: int, record: Path):
        self.folder, self.kill_at, self.count = os.path.abspath(folder), kill_at, 0
        self.record = os.open(record, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)

    def start(self) -> None:
        """Watch from now on."""
        from transformers import trainer

        trainer.DEFAULT_CALLBACKS.append(step_callback(self))
        sys.addaudithook(self.audit)

    def audit(self, event: str, arguments: tuple) -> None:
        """Take note of an event that Python announces before it happens."""
        if event == "open":
            path, _, flags = arguments
            if isinstance(path, str | bytes) and flags & WRITING:
                self.change("open", path)
        elif event in CHANGES:
            folder = arguments[-1] if event in ("os.remove", "os.rmdir", "shutil.rmtree") else None
            self.change(event.partition(".")[2], arguments[0], folder)

    def change(self, action: str, path, folder: int | None = None) -> None:
        """A moment, if the path is OUT or below. folder: descriptor of the folder that a relative path starts from."""
        name = os.fsdecode(path) if isinstance(path, str | bytes | os.PathLike) else ""
        if isinstance(folder, int) and folder >= 0 and os.path.isdir(f"/proc/self/fd/{folder}"):
            name = os.path.join(os.readlink(f"/proc/self/fd/{folder}"), name)
        name = os.path.abspath(name)
        if action == "mkdir" and os.path.isdir(name):
            return  # makes nothing
        if name == self.folder or name.startswith(self.folder + os.sep):
            self.reach(f"{action} {os.path.relpath(name, self.folder)}")

    def reach(self, name: str) -> None:
        """Count a moment, and kill this process if it is the one."""
        self.count += 1
        os.write(self.record, f"{name}\n".encode())
        if self.count == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)


def step_callback(moments: Moments):
    """A callback that makes a moment of a step's gradients, before the weights change, and of its end."""
    from transformers import TrainerCallback

    class StepMoments(TrainerCallback):
        """Two moments in each step."""

        def on_pre_optimizer_step(self, args, state, control, **kwargs):
            moments.reach(f"gradients of step {state.global_step + 1}")

        def on_step_end(self, args, state, control, **kwargs):
            moments.reach(f"end of step {state.global_step}")

    return StepMoments


@dataclass(frozen=True)
class Result:
    """What a finished run left. losses: metrics.jsonl without speed and memory, and the tokens of its lines apart.
    weights: SHA-256 by file. files: their names."""

    losses: list[dict]
    tokens: list[int | None]
    samples: list[dict]
    weights: dict[str, str]
    files: frozenset[str]

    def differences(self, expected: "Result") -> list[str]:
        """What is not as in another result, bit for bit; [] where all is."""
        names = (item.name for item in fields(self))
        found = [name for name in names if getattr(self, name) != getattr(expected, name)]
        return [*found, *sorted(self.files ^ expected.files)]


def is_repeated(name: str) -> bool:
    """Whether a value of metrics.jsonl is the same in each run of the same command, and no count of tokens."""
    return name not in NO_LOSSES and not name.endswith(SPEED)


def result_of(folder: Path) -> Result:
    """The Result of a run folder."""
    records = read_jsonl(folder / "metrics.jsonl")
    losses = [{name: value for name, value in record.items() if is_repeated(name)} for record in records]
    tokens = [record.get("tokens") for record in records]
    weights = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.glob(WEIGHTS))}
    files = frozenset(str(path.relative_to(folder)) for path in folder.rglob("*"))
    return Result(losses, tokens, read_jsonl(folder / "samples.jsonl"), weights, files)


@dataclass(frozen=True)
class Point:
    """What became of a run that was killed. at: names of the moments, by number. invalid: problems of the visible
    checkpoints after each kill. status: exit code of the same command, given again. differences: see `Result`."""

    numbers: list[int]
    at: list[str]
    invalid: list[str]
    status: int
    differences: list[str]
    seconds: float
    log: str = ""

    @property
    def is_right(self) -> bool:
        """Whether nothing was lost."""
        return not (self.invalid or self.status or self.differences)


@dataclass(frozen=True)
class Expected:
    """An uninterrupted run: its result and the names of its moments."""

    result: Result
    moments: list[str]


@dataclass
class Trial:
    """A training command that is run, killed and given again, in forks of this process.

    command: the trainer. flags: all but --output_dir. work: folder for the runs.
    """

    command: str
    flags: tuple[str, ...]
    work: Path
    watcher = Moments

    @property
    def folder(self) -> Path:
        """OUT, the same for all runs: files of a run name it."""
        return self.work / "out"

    @property
    def argv(self) -> list[str]:
        """The flags of the command."""
        return [*self.flags, "--output_dir", str(self.folder)]

    def start(self, kill_at: int) -> int:
        """Run the command, or a part of it; its exit status, negative for the signal that ended it."""
        process = fork(lambda: self.run(kill_at), self.work / "log")
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])

    def run(self, kill_at: int, record: Path | None = None) -> int:
        """Run the command in this process, which is killed at a moment; its exit code. record: see `Moments`."""
        from ftkit.config.parser import run
        from ftkit.runs.recipes import load_recipe

        self.watcher(self.folder, kill_at, record or self.work / "moments").start()
        return run(load_recipe(self.command).main, self.argv)

    def reference(self) -> Expected:
        """Run without a kill. Raises RuntimeError, with the end of its log, for a run that fails."""
        shutil.rmtree(self.folder, ignore_errors=True)
        if status := self.start(0):
            raise RuntimeError(f"exit status {status} without a kill:\n{self.last_lines()}")
        return Expected(result_of(self.folder), self.moments())

    def kill(self, expected: Expected, numbers: Sequence[int]) -> Point:
        """Kill a new run at a moment, what goes on from there at the next one, and so on; then let the command end."""
        began, at, invalid = time.perf_counter(), [], []
        shutil.rmtree(self.folder, ignore_errors=True)
        for number in numbers:
            if self.start(number) != -signal.SIGKILL:
                break  # it ended before
            at.append(self.moments()[-1])
            problems = ((path, verify_checkpoint(path)) for path in list_checkpoints(self.folder))
            invalid += [f"{path.name}/{problem}" for path, found in problems for problem in found]
        status = self.start(0)
        differences = [] if status else result_of(self.folder).differences(expected.result)
        point = Point(list(numbers), at, invalid, status, differences, time.perf_counter() - began)
        return point if point.is_right else replace(point, log=self.last_lines())

    def moments(self) -> list[str]:
        """Names of the moments of the last run."""
        return (self.work / "moments").read_text(encoding="utf-8").split("\n")[:-1]

    def last_lines(self) -> str:
        """The end of what the last run printed."""
        text = (self.work / "log").read_text(encoding="utf-8", errors="replace")
        return "\n".join(text.strip().split("\n")[-SHOWN_LINES:])


class FreshTrial(Trial):
    """A Trial whose runs are new processes, since those that use a GPU can't be forked."""

    def start(self, kill_at: int) -> int:
        job = json.dumps([self.command, self.flags, str(self.work), kill_at])
        with (self.work / "log").open("wb") as log:
            return subprocess.run([sys.executable, "-m", __name__, job], stdout=log, stderr=log).returncode


def fork(work: Callable[[], int], log: Path) -> int:
    """Start a copy of this process that does some work, prints into a file and ends; its id."""
    sys.stdout.flush()
    sys.stderr.flush()
    process = os.fork()
    if process:
        return process
    status = 1
    try:
        sys.stdout = sys.stderr = printed = log.open("w", encoding="utf-8", errors="replace")
        os.dup2(printed.fileno(), 1)
        os.dup2(printed.fileno(), 2)
        status = work() or 0
    except BaseException:  # whatever it is must not reach what this process is a copy of
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(status)


def get_ready(commands: Iterable[str], *, use_cpu: bool) -> None:
    """Import what trainers need and probe the hardware, so that forks of this process start at once. Starts no threads.

    use_cpu: as in the flags of the trials.
    """
    import matplotlib.figure  # noqa: F401
    import torch

    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    torch.set_num_threads(1)  # threads that were started before a fork are missing after it
    from ftkit.config.hardware import probe
    from ftkit.runs import lifecycle  # noqa: F401
    from ftkit.runs.recipe import found
    from ftkit.runs.recipes import load_recipe

    probe(use_cpu=use_cpu)
    for command in commands:
        recipe = load_recipe(command)
        for part in (recipe.settings, recipe.method, recipe.held_out):
            found(part)
    forget_garbage()


def forget_garbage() -> None:
    """Collect, and have the collections of a fork pass over all that is there by now."""
    gc.collect()
    gc.freeze()


def main(job: str) -> int:
    """The child of a FreshTrial."""
    command, flags, work, kill_at = json.loads(job)
    return Trial(command, tuple(flags), Path(work)).run(kill_at)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
