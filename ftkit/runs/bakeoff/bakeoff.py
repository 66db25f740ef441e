"""The story of a bake-off: the rows split, the contestants made and asked one by one, compared, and one recommended.

    OUT/NAME/           a contestant: results.json and items/ as of `ftkit bench`, costs.json, run/ where it is trained
    OUT/results.json    the answers of all, a task each
    OUT/bakeoff.json    the recommendation and the table
    OUT/report.html

A contestant is done when its costs.json is there; the same command goes on with the next one.
"""

import dataclasses
import hashlib
import json
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

from ftkit.config.errors import UserError
from ftkit.config.files import check_folder, write_json
from ftkit.config.output_folder import RunNote, State, clear, held, read_note, refuse_other, state_of, write_note
from ftkit.config.terminal import time_text
from ftkit.evaluation.bakeoff.contest import COSTS, Contestant, Entry, LeftOut, read_entry
from ftkit.evaluation.bakeoff.page import write_bakeoff_page
from ftkit.evaluation.bakeoff.recommendation import Recommendation, recommend
from ftkit.evaluation.bakeoff.standing import Standing, standing_of
from ftkit.evaluation.bench.bench import WRITTEN
from ftkit.evaluation.results import Results, items_file, read_items, write_run
from ftkit.runs.bakeoff import setup
from ftkit.runs.bakeoff.asked import PROMPT, Asked
from ftkit.runs.bakeoff.making import MADE
from ftkit.runs.bakeoff.work import Refused
from ftkit.runs.identity import hash_of_rows

PAGE, TABLE = "report.html", "bakeoff.json"
SCHEMA = 1
# What may change between two calls: it changes no contestant.
HARMLESS = ("output_dir", "skip", "margin", "price_per_hour", "batch_size")


def run_bakeoff(asked: Asked, work: Callable) -> tuple[Standing, Recommendation]:
    """Run what is not done yet; what came of it. work: does a piece of it, as `work.Workers`.

    Raises UserError for rows that do not fit, a folder of another bake-off, and a contestant that breaks down.
    """
    check_folder(asked.folder)
    train, test = setup.split_rows(asked)
    note = note_of(asked, train, test)
    claim(asked.folder, note)
    with held(asked.folder):
        write_note(asked.folder, note)
        if not (asked.folder / setup.FILE).is_file():
            setup.write_split(asked, train, test)
            shutil.rmtree(asked.index, ignore_errors=True)
            setup.set_up(asked)
        entries = [entry_of(asked, contestant, work) for contestant in asked.contestants()]
        standing = standing_of(entries, asked.margin, asked.seed)
        recommendation = recommend(standing)
        write_results(asked, standing, recommendation)
        write_note(asked.folder, dataclasses.replace(note, is_finished=True))
    return standing, recommendation


def note_of(asked: Asked, train: list[dict], test: list[dict]) -> RunNote:
    """Whose bake-off it is: of which settings, rows and documents."""
    settings = dataclasses.asdict(asked)
    kept = {name: value for name, value in settings.items() if name not in HARMLESS}
    kept["sft_configs"] = {name: digest_of([path]) for name, path in asked.sft_configs.items()}
    content = {"rows": hash_of_rows(train), "held_out_rows": hash_of_rows(test), "documents": digest_of(asked.docs)}
    named = {key: value for key, value in kept.items() if key not in ("rows", "docs")}
    return RunNote("bakeoff", {**plain(named), **content})


def plain(settings: dict) -> dict:
    """Settings as JSON gives them back."""
    return json.loads(json.dumps(settings))


def digest_of(paths) -> str:
    """SHA-256 of files and of all files in folders; names count. Raises UserError for a path that is not there."""
    found = hashlib.sha256()
    for path in map(Path, paths):
        if not path.exists():
            raise UserError(f"{path}: no such file or folder; check the path")
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                name = file.relative_to(path) if path.is_dir() else file.name
                found.update(f"{name}\0".encode() + hashlib.sha256(file.read_bytes()).digest())
    return found.hexdigest()


def claim(folder: Path, note: RunNote) -> None:
    """Raise UserError for a folder that holds something else, or another bake-off, with what differs."""
    if state_of(folder) is State.OTHER:
        raise refuse_other(folder)
    before = read_note(folder)
    if before is None:
        return
    if before.command != note.command:
        raise refuse_other(folder)
    other = [name for name, value in note.fingerprint.items() if before.fingerprint.get(name) != value]
    if other:
        differing = ", ".join(other)
        raise UserError(f"{folder}: holds a different bake-off (not the same {differing}); choose another --output_dir")


def entry_of(asked: Asked, contestant: Contestant, work: Callable) -> Entry | LeftOut:
    """A contestant, made and asked where that is not done; the reason where it can't be."""
    folder = asked.of(contestant)
    if (folder / COSTS).is_file():
        return read_entry(asked.folder, contestant)
    if reason := asked.reason_against(contestant):
        return LeftOut(contestant, reason)
    start = time.monotonic()
    try:
        if contestant.is_trained and not (folder / MADE).is_file():
            begin(folder)
            say(f"{contestant.title}: training")
            work("make", asked, contestant.name)
        forget_answers(folder)
        say(f"{contestant.title}: asked the held-out rows")
        work("ask", asked, contestant.name)
    except Refused as refusal:
        if contestant.name == PROMPT:
            raise
        say(f"{contestant.title}: does not run here: {refusal}")
        return LeftOut(contestant, str(refusal))
    say(f"{contestant.title}: done in {time_text(time.monotonic() - start)}")
    return read_entry(asked.folder, contestant)


def begin(folder: Path) -> None:
    """Leave nothing of a training that was killed: its minutes and memory are those of a whole one."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def forget_answers(folder: Path) -> None:
    """Leave nothing of answers that were killed: their seconds are those of all."""
    folder.mkdir(parents=True, exist_ok=True)
    clear(folder, WRITTEN)


def write_results(asked: Asked, standing: Standing, recommendation: Recommendation) -> None:
    """Write OUT/results.json, bakeoff.json and report.html."""
    tasks, items = {}, {}
    for entry in standing.entries:
        name = entry.contestant.name
        tasks[name] = dataclasses.replace(entry.task, name=name, items_file=items_file(name))
        items[name] = read_items(entry.run.path, entry.task)
    model = {"name": asked.model, "dtype": standing.entries[0].run.results.model.get("dtype")}
    facts = settings_of(asked)
    write_run(asked.folder, Results(model, tasks, facts, seed=asked.seed), items)
    write_json(asked.folder / TABLE, table_of(standing, recommendation))
    write_bakeoff_page(asked.folder / PAGE, standing, recommendation, facts, asked.price_per_hour)


def settings_of(asked: Asked) -> dict:
    """What was asked, as a person reads it."""
    known = {name: value for name, value in dataclasses.asdict(asked).items() if value not in (None, "", (), {})}
    return plain(known | {"budget": f"{asked.budget} of training each"})


def table_of(standing: Standing, recommendation: Recommendation) -> dict:
    """What OUT/bakeoff.json holds."""
    return {
        "schema": SCHEMA,
        "recommendation": dataclasses.asdict(recommendation),
        "metric": standing.best.task.main_metric,
        "contestants": {
            entry.contestant.name: {
                "score": dataclasses.asdict(entry.score), "costs": dataclasses.asdict(entry.costs),
                "forgot": changed(standing.forgetting.get(entry.contestant.name)),
            }
            for entry in standing.entries
        },
        "pairs": {f"{a} {b}": changed(row) for (a, b), row in standing.pairs.items()},
        "left_out": {entry.contestant.name: entry.reason for entry in standing.left_out},
    }  # fmt: skip


def changed(row) -> dict | None:
    """What a TaskVerdict shows, in short."""
    names = ("difference", "low", "high", "p_adjusted", "outcome", "detectable")
    return {name: getattr(row, name) for name in names} if row else None


def say(text: str) -> None:
    """Print progress to stderr."""
    print(text, file=sys.stderr, flush=True)
