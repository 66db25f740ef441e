"""Whether a run can be killed and goes on as if nothing had been: a short piece of its own configuration is tried.

points = check_resume("runs/first", num_kills=6, work=Path("/tmp/check"), say=print)
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from ftkit.config.errors import UserError
from ftkit.config.files import write_text
from ftkit.config.run_folder import RunRecord, read_record
from ftkit.runs.killing import FreshTrial, Point, Trial, get_ready
from ftkit.runs.recipes import TRAINERS

NUM_UPDATES = 6
EVERY = 2  # updates, between two checkpoints and between two evaluations
PIECE = {"max_steps": NUM_UPDATES, "logging_strategy": "steps", "logging_steps": 1, "disable_tqdm": True}
SAVING = {"save_strategy": "steps", "save_steps": EVERY}
EVALUATION = {"eval_strategy": "steps", "eval_steps": EVERY}
LEFT_OUT = {  # settings of the run: its length, and what goes out of its folder
    "output_dir", "num_train_epochs", "max_tokens", "report_to", "run_name", "push_to_hub", "hub_model_id", "hub_token",
    "hub_private_repo", "hub_revision", "benchmark_tasks", "benchmark_data", "benchmark_limit",
    "before_after",
}  # fmt: skip


@dataclass(frozen=True)
class Checked:
    """points: what became of each kill. repeats: whether two runs that nobody killed are equal, bit for bit; they are
    taken to be where no kill made a difference."""

    points: list[Point]
    repeats: bool


def check_resume(folder: str | Path, *, num_kills: int, work: Path, say: Callable[[str], None]) -> Checked:
    """Train a short piece of a run, kill it at steps and file-system events, let it go on.

    work: folder for the runs. say: called with a line about each point. Raises UserError where the folder holds no
    run, or the piece can't be trained.
    """
    command, record = trained_run(Path(folder))
    write_text(work / "run.yaml", yaml.safe_dump(short_piece(record)))
    trial = make_trial(command, work, use_cpu=bool(record.asked.get("use_cpu")))
    say(f"{NUM_UPDATES} updates with the settings of {folder}, in {work}")
    try:
        expected = trial.reference()
    except RuntimeError as error:
        reason = str(error).strip().split("\n")[-1]
        raise UserError(f"{folder}: a short piece of this run can't be trained: {reason}") from error
    # All is decided as in the run that they are compared with, whatever is timed again.
    (work / "run.yaml").write_bytes((trial.folder / "run.yaml").read_bytes())
    points = []
    for number in chosen_moments(expected.moments, num_kills):
        points.append(trial.kill(expected, [number]))
        say(describe(points[-1]))
    differs = any(point.differences for point in points)
    return Checked(points, repeats=not differs or not trial.reference().result.differences(expected.result))


def trained_run(folder: Path) -> tuple[str, RunRecord]:
    """The trainer of a run, and the run's record. Raises UserError where there is none."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; give the output folder of a training run")
    record = read_record(folder)
    if record is None:
        raise UserError(f"{folder}: holds no run.yaml; give the output folder of a training run")
    if record.command is None or record.command not in TRAINERS:
        raise UserError(f"{folder}/run.yaml: of no trainer ({record.command}); known are {', '.join(TRAINERS)}")
    return record.command, record


def short_piece(record: RunRecord) -> dict:
    """The settings of a run, but for its length."""
    settings = {name: value for name, value in record.asked.items() if name not in LEFT_OUT} | PIECE
    if not settings.get("early_stopping_patience"):  # which saves at each evaluation
        settings |= SAVING
    evaluates = (record.decided or record.asked).get("eval_strategy", "no") != "no"
    return settings | EVALUATION if evaluates else settings


def make_trial(command: str, work: Path, *, use_cpu: bool) -> Trial:
    """A Trial in forks of this process, or in new processes on a GPU, and where forks of threaded libraries break."""
    from ftkit.config.launch import has_accelerator

    flags = ("--config", str(work / "run.yaml"))
    if sys.platform != "linux" or not use_cpu and has_accelerator():
        return FreshTrial(command, flags, work)
    get_ready([command], use_cpu=use_cpu)
    return Trial(command, flags, work)


def chosen_moments(moments: Sequence[str], count: int) -> list[int]:
    """Numbers of moments, spread evenly over the steps for one half and over the file-system events for the other."""
    of_steps = [number for number, name in enumerate(moments, start=1) if " of step " in name]
    of_files = [number for number, name in enumerate(moments, start=1) if " of step " not in name]
    num_steps = count // 2
    chosen = [*spread(of_steps, num_steps), *spread(of_files, count - num_steps)]
    return sorted(set(chosen))


def spread(numbers: Sequence[int], count: int) -> list[int]:
    """`count` of some numbers, the middle ones of equal parts; all where there are fewer."""
    count = min(count, len(numbers))
    return [numbers[(2 * part + 1) * len(numbers) // (2 * count)] for part in range(count)]


def describe(point: Point) -> str:
    """A line about a point."""
    found = "as if never killed"
    if point.invalid:
        found = f"a visible checkpoint is not whole: {point.invalid[0]}"
    elif point.status:
        found = f"the same command ends with {point.status}: {point.log.split(chr(10))[-1]}"
    elif point.differences:
        found = f"goes on, with different {', '.join(point.differences)}"
    return f"killed at {' and at '.join(point.at) or 'no moment'}: {found}"
