"""Runs benchmark tasks on one subject into a folder; a run that was killed goes on where it stopped.

OUT/bench.json says what is measured, OUT/items/ holds the answers as they come, OUT/results.json the scores at the end.
"""

import hashlib
import json
import logging
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ftkit.config.errors import UserError
from ftkit.config.files import check_folder, write_json
from ftkit.config.json_object import read_object
from ftkit.config.output_folder import visible_names
from ftkit.config.terminal import Progress
from ftkit.data.reading.loading import local_files
from ftkit.evaluation.bench.records import ItemRecords
from ftkit.evaluation.bench.sampled import SampledRun, Samples, curve
from ftkit.evaluation.bench.scores import task_scores
from ftkit.evaluation.bench.task_file import FOLDER, Task
from ftkit.evaluation.bench.task_items import ItemSettings, TaskItem, build_items, resolved_data
from ftkit.evaluation.bench.tool_calls import ToolCallRun
from ftkit.evaluation.bench.units import RUNS, Subject
from ftkit.evaluation.results import (
    FILE,
    Item,
    Results,
    TaskResult,
    items_file,
    read_results,
    thought_counts,
    write_results,
)

logger = logging.getLogger(__name__)

DAMAGED_FIX = "restore it, or choose another --output_dir"
IDENTITY_FILE = "bench.json"  # what a run measures; a run with another is not continued
TIMES_FILE = "times.json"
WRITTEN = (IDENTITY_FILE, TIMES_FILE, FILE, "items", "report.html", "report.md")


@dataclass(frozen=True)
class Chosen:
    """A task as it was asked for: its name on the command line (MMLU/SUBJECT), its file, and its items.

    data: the Hub dataset whose rows a bundled task asks; "" for any other.
    """

    name: str
    task: Task
    items: list[TaskItem]
    num_fewshot: int
    data: str = ""

    @property
    def task_hash(self) -> str:
        """SHA-256 of the task's settings and its items."""
        return hash_of([self.task.settings_hash, [item.item_id for item in self.items]])

    @property
    def examples_hash(self) -> str:
        """SHA-256 of the examples before each item; "" where there are none."""
        shown = [[(example.prompt, example.answer) for example in item.examples] for item in self.items]
        return hash_of(shown) if any(shown) else ""


def hash_of(value) -> str:
    """SHA-256 of a value's JSON."""
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


@dataclass(frozen=True)
class World:
    """The processes of a run, and how they wait for one another."""

    rank: int = 0
    size: int = 1
    wait: object = field(default=lambda: None)


def choose(name: str, task: Task, settings: ItemSettings) -> Chosen:
    """A task with the items that the settings leave. Raises UserError as `build_items`."""
    num_fewshot = task.num_fewshot if settings.num_fewshot is None else settings.num_fewshot
    items = build_items(task, settings)
    return Chosen(name, task, items, num_fewshot, hub_dataset(task, settings.data))


def hub_dataset(task: Task, given: str | None) -> str:
    """The Hub id of the rows of a bundled task; "" for rows of this machine, and for a person's own task.

    given: rows in place of the task's own.
    """
    is_bundled = Path(task.path).parent == FOLDER
    data = (given or resolved_data(task)) if is_bundled else ""
    return data if data and local_files(data) is None else ""


def run_benchmark(
    subject: Subject,
    chosen: list[Chosen],
    results: Results,
    output_dir: str | Path,
    world: World = World(),  # noqa: B008
    kinds: Mapping = RUNS,
) -> Results:
    """Answer every item, write OUT, and return the results; what OUT holds of the same run is not done again, and
    nothing where it is finished.

    results: everything but the tasks. kinds: what answers each kind of task.
    Raises UserError for an OUT of another run, and a task that the subject can't do.
    """
    output_dir = Path(output_dir)
    runs = [run_of(one, subject, kinds) for one in chosen]  # all, as some may be refused
    if world.rank == 0:
        open_folder(output_dir, identity_of(results, chosen))
        for one, run in zip(chosen, runs, strict=True):
            if run.num_cut:
                logger.warning("%s: %s of %s items %s", one.name, f"{run.num_cut:,}", f"{len(one.items):,}", run.cut)
    world.wait()
    if (output_dir / FILE).is_file():  # written last
        return read_results(output_dir / FILE)
    for one, run in zip(chosen, runs, strict=True):
        seconds = answer_task(run, one, output_dir, world)
        world.wait()
        if world.rank == 0:
            results.tasks[one.name] = close_task(one, output_dir, run.num_cut, subject.samples)
            note_seconds(output_dir, one.name, seconds)
        world.wait()
    if world.rank == 0:
        write_results(output_dir / FILE, results)
    world.wait()
    return results


def run_of(chosen: Chosen, subject: Subject, kinds: Mapping = RUNS):
    """How a task is answered. Raises UserError for a task that the subject can't do."""
    task = chosen.task
    if subject.samples and task.kind != "generation":
        raise UserError(f"task {chosen.name} is no text to answer, and --num_samples is about answers; leave one out")
    if task.kind == "tool_calls":
        return ToolCallRun(task, chosen.items, subject)
    return (SampledRun if subject.samples else kinds[task.kind])(task, chosen.items, subject)


def identity_of(results: Results, chosen: list[Chosen]) -> dict:
    """What must be equal for a run to be the same."""
    tasks = {one.name: [one.task_hash, one.num_fewshot, one.examples_hash] for one in chosen}
    return {"model": results.model, "settings": results.settings, "seed": results.seed, "tasks": tasks}


def claim_folder(output_dir: Path) -> None:
    """Make OUT where it is not there.

    Raises UserError where it can't be written, or holds something that is no benchmark run.
    """
    check_folder(output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    if visible_names(output_dir) and not (output_dir / IDENTITY_FILE).is_file():
        raise UserError(f"{output_dir}: is in use and holds no benchmark run; choose another --output_dir")


def open_folder(output_dir: Path, identity: dict) -> None:
    """Note in OUT whose run it holds, or find the same noted. Raises UserError for another one."""
    output_dir.mkdir(parents=True, exist_ok=True)
    path = output_dir / IDENTITY_FILE
    identity = json.loads(json.dumps(identity))
    if path.is_file():
        found = read_object(path, DAMAGED_FIX)
        if found != identity:
            other = ", ".join(key for key in identity if found.get(key) != identity[key])
            raise UserError(
                f"{output_dir}: holds a different benchmark run (not the same {other}); --overwrite starts over, or "
                "choose another --output_dir"
            )
        logger.info("%s: going on with this run", output_dir)
        return
    write_json(path, identity)


def forget_other_run(output_dir: Path, identity: dict) -> None:
    """Remove OUT where it holds a benchmark run of another identity, or one whose identity can't be read."""
    path = output_dir / IDENTITY_FILE
    if not path.is_file():
        return
    try:
        is_other = read_object(path, DAMAGED_FIX) != json.loads(json.dumps(identity))
    except UserError:
        is_other = True
    if is_other:
        shutil.rmtree(output_dir)


def answer_task(run, chosen: Chosen, output_dir: Path, world: World) -> float:
    """Answer what this process has to of one task; return the seconds it took."""
    records = ItemRecords(output_dir, chosen.name, world.rank)
    done = records.read()
    world.wait()  # nobody writes before all have read
    if all(item.item_id in done for item in chosen.items):
        return 0.0
    ids = [item.item_id for item in chosen.items]
    open_units = [unit for unit in run.units if not all(ids[place] in done for place in unit)]
    share = open_units[len(open_units) * world.rank // world.size : len(open_units) * (world.rank + 1) // world.size]
    start = time.perf_counter()
    with Progress(sum(map(len, share)), chosen.name, shown=world.rank == 0) as progress:
        for unit in share:
            records.append(run.run(unit))
            progress.advance(len(unit))
    return time.perf_counter() - start


def close_task(chosen: Chosen, output_dir: Path, num_cut: int, samples: Samples | None = None) -> TaskResult:
    """Sort the items of a task that is done, and score it."""
    records = ItemRecords(output_dir, chosen.name)
    found = records.read()
    items: list[Item] = [found[item.item_id] for item in chosen.items]
    records.finish(items)
    return TaskResult(
        name=chosen.name,
        version=chosen.task.version,
        task_hash=chosen.task_hash,
        num_items=len(items),
        num_fewshot=chosen.num_fewshot,
        main_metric=chosen.task.metrics[0],
        scores=task_scores(chosen.task, items),
        items_file=items_file(chosen.name),
        num_cut=num_cut,
        examples_hash=chosen.examples_hash,
        data=chosen.data,
        **thought_counts(items),
        samples=curve(items, chosen.task.metrics[0], samples) if samples else None,
    )


def note_seconds(output_dir: Path, name: str, seconds: float) -> None:
    """Add up, in OUT/times.json, how long a task took; not in results.json, which is the same in every run."""
    path = output_dir / TIMES_FILE
    times = read_object(path, DAMAGED_FIX) if path.is_file() else {}
    times[name] = round(times.get(name, 0.0) + seconds, 3)
    write_json(path, times)
