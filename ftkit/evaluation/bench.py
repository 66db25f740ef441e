"""Runs benchmark tasks on one subject into a folder; a run that was killed goes on where it stopped.

OUT/bench.json says what is measured, OUT/items/ holds the answers as they come, OUT/results.json the scores at the end.
"""

import json
import logging
import time
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from ftkit.config.errors import UserError
from ftkit.evaluation.bench_records import ItemRecords, items_file
from ftkit.evaluation.bench_runs import RUNS, Subject
from ftkit.evaluation.bench_scores import task_scores
from ftkit.evaluation.results import Item, Results, TaskResult, write_results
from ftkit.evaluation.task_file import Task
from ftkit.evaluation.task_items import ItemSettings, TaskItem, build_items

logger = logging.getLogger(__name__)

IDENTITY_FILE = "bench.json"  # what a run measures; a run with another is not continued
TIMES_FILE = "times.json"


@dataclass(frozen=True)
class Chosen:
    """A task as it was asked for: its name on the command line (MMLU/SUBJECT), its file, and its items."""

    name: str
    task: Task
    items: list[TaskItem]
    num_fewshot: int

    @property
    def task_hash(self) -> str:
        """SHA-256 of the task's settings and its items."""
        import hashlib

        ids = [item.item_id for item in self.items]
        return hashlib.sha256(json.dumps([self.task.settings_hash, ids]).encode()).hexdigest()


@dataclass(frozen=True)
class World:
    """The processes of a run, and how they wait for one another."""

    rank: int = 0
    size: int = 1
    wait: object = field(default=lambda: None)


def choose(name: str, task: Task, settings: ItemSettings) -> Chosen:
    """A task with the items that the settings leave. Raises UserError as `build_items`."""
    num_fewshot = task.num_fewshot if settings.num_fewshot is None else settings.num_fewshot
    return Chosen(name, task, build_items(task, settings), num_fewshot)


def run_benchmark(
    subject: Subject,
    chosen: list[Chosen],
    results: Results,
    output_dir: str | Path,
    world: World = World(),  # noqa: B008
) -> Results:
    """Answer every item, write OUT, and return the results; what OUT holds of the same run is not done again.

    results: everything but the tasks. Raises UserError for an OUT of another run, and a task that the subject can't do.
    """
    output_dir = Path(output_dir)
    if world.rank == 0:
        open_folder(output_dir, identity_of(results, chosen))
    world.wait()
    for one in chosen:
        seconds = answer_task(subject, one, output_dir, world)
        world.wait()
        if world.rank == 0:
            results.tasks[one.name] = close_task(one, output_dir)
            note_seconds(output_dir, one.name, seconds)
        world.wait()
    if world.rank == 0:
        write_results(output_dir / "results.json", results)
    world.wait()
    return results


def identity_of(results: Results, chosen: list[Chosen]) -> dict:
    """What must be equal for a run to be the same."""
    tasks = {one.name: [one.task_hash, one.num_fewshot] for one in chosen}
    return {"model": results.model, "settings": results.settings, "seed": results.seed, "tasks": tasks}


def open_folder(output_dir: Path, identity: dict) -> None:
    """Claim OUT for a run, or find it claimed by the same one.

    Raises UserError for a folder that holds something else.
    """
    path = output_dir / IDENTITY_FILE
    identity = json.loads(json.dumps(identity))
    if path.is_file():
        found = json.loads(path.read_text(encoding="utf-8"))
        if found != identity:
            other = ", ".join(key for key in identity if found.get(key) != identity[key])
            raise UserError(f"{output_dir}: holds another benchmark run (other {other}); choose another --output_dir")
        logger.info("%s: going on with this run", output_dir)
        return
    if output_dir.is_file() or (output_dir.is_dir() and any(output_dir.iterdir())):
        raise UserError(f"{output_dir}: is in use and holds no benchmark run; choose another --output_dir")
    output_dir.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(identity, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def answer_task(subject: Subject, chosen: Chosen, output_dir: Path, world: World) -> float:
    """Answer what this process has to of one task; return the seconds it took."""
    records = ItemRecords(output_dir, chosen.name, world.rank)
    done = records.read()
    world.wait()  # nobody writes before all have read
    if all(item.item_id in done for item in chosen.items):
        return 0.0
    run = RUNS[chosen.task.kind](chosen.task, chosen.items, subject)
    ids = [item.item_id for item in chosen.items]
    open_units = [unit for unit in run.units if not all(ids[place] in done for place in unit)]
    share = open_units[len(open_units) * world.rank // world.size : len(open_units) * (world.rank + 1) // world.size]
    start = time.perf_counter()
    with tqdm(
        total=sum(map(len, share)), desc=chosen.name, unit="item", disable=world.rank > 0, dynamic_ncols=True
    ) as bar:
        for unit in share:
            records.append(run.run(unit))
            bar.update(len(unit))
    return time.perf_counter() - start


def close_task(chosen: Chosen, output_dir: Path) -> TaskResult:
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
    )


def note_seconds(output_dir: Path, name: str, seconds: float) -> None:
    """Add up, in OUT/times.json, how long a task took; not in results.json, which is the same in every run."""
    path = output_dir / TIMES_FILE
    times = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    times[name] = round(times.get(name, 0.0) + seconds, 3)
    path.write_text(json.dumps(times, indent=2) + "\n", encoding="utf-8")
