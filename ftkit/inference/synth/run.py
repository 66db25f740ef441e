"""A run of synthesis in its folder: begun, gone on with after a kill, or finished.

OUT/train.jsonl             rows, each with its provenance
OUT/dropped.jsonl           what gave no row, and why
OUT/README.md               the card
OUT/.ftkit/replies.jsonl    every reply, as it came
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftkit.config.errors import UserError
from ftkit.config.files import sha256_of, write_text
from ftkit.config.jsonl import append_jsonl
from ftkit.config.output_folder import (
    HIDDEN_FOLDER,
    RunNote,
    State,
    clear,
    read_note,
    state_of,
    write_note,
)
from ftkit.inference.synth.asker import Asked, Asker, Journal
from ftkit.inference.synth.card import CardFacts, card_text
from ftkit.inference.synth.items import Material
from ftkit.inference.synth.kinds import maker
from ftkit.inference.synth.loop import Filters, Kept, Lost, Made, synthesize

COMMAND = "synth"
ROWS, DROPPED, CARD, REPLIES = "train.jsonl", "dropped.jsonl", "README.md", "replies.jsonl"
SHOWN_DROPPED = 400  # characters of a dropped text that are kept
OWN = (ROWS, DROPPED, CARD, f"{HIDDEN_FOLDER}/{REPLIES}")  # what a run writes


@dataclass(frozen=True)
class Plan:
    """What is made. settings: the flags that a row follows from. digests: what else it follows from, by name in words.

    provenance: what each row says of model, settings and prompts.
    """

    kind: str
    number: int
    batch_size: int
    settings: dict[str, Any]
    digests: dict[str, str]
    provenance: dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """num_rows, num_items, dropped: of the whole run. replies: all that were paid for. is_new: False where the run was
    finished before, and nothing was done."""

    num_rows: int
    num_items: int
    dropped: Counter
    replies: list
    is_barren: bool
    is_new: bool = True


def open_run(folder: Path, plan: Plan, *, overwrite: bool) -> bool:
    """Whether there is anything to do in a folder, which is noted as this run's.

    The number of rows may grow: a finished run with fewer goes on. Raises UserError for a folder of something else, and
    for another run, naming the first setting that differs.
    """
    state, note = state_of(folder), read_note(folder)
    if note is None and state is not State.EMPTY or note is not None and note.command != COMMAND:
        raise UserError(f"{folder}: holds files that are not of ftkit synth; choose another --output_dir")
    if overwrite:
        clear(folder, OWN)
        note = None
    if note is not None:
        check_same(folder, note.fingerprint, plan)
        if note.is_finished and note.fingerprint["number"] == plan.number:
            return False
        if note.fingerprint["number"] > plan.number:
            fix = "start over by --overwrite"
            raise UserError(f"{folder}: was made with --number {note.fingerprint['number']}, more than now; {fix}")
    write_note(folder, noted(plan))
    return True


def noted(plan: Plan, *, is_finished: bool = False) -> RunNote:
    """What is noted of a run."""
    fingerprint = {"settings": plan.settings, "digests": plan.digests, "number": plan.number}
    return RunNote(COMMAND, fingerprint, is_finished=is_finished)


def check_same(folder: Path, before: dict, plan: Plan) -> None:
    """Raise UserError where a folder's run was asked for otherwise."""
    fix = "choose another --output_dir, or --overwrite"
    settings, digests = before.get("settings", {}), before.get("digests", {})
    for name, value in json.loads(json.dumps(plan.settings)).items():
        if settings.get(name) != value:
            raise UserError(f"{folder}: was begun with --{name} {settings.get(name)}, not {value}; {fix}")
    for name, digest in plan.digests.items():
        if digests.get(name) != digest:
            raise UserError(f"{folder}: was begun with a different {name}; {fix}")


def carry_out(
    folder: Path,
    plan: Plan,
    material: Material,
    models: Mapping[str, Asked],
    filters: Filters,
    facts: CardFacts,
    advance: Callable[[], None] = lambda: None,
) -> Outcome:
    """Make the rows, and the card at the end. advance: called for each row.

    Rows are played again from the journal, so the files of a run that was killed are written anew. Raises GivenUp.
    """
    journal = Journal(folder / HIDDEN_FOLDER / REPLIES)
    clear(folder, (ROWS, DROPPED, CARD))
    askers = {who: Asker(who, model, journal) for who, model in models.items()}

    def write(one: Kept | Lost) -> None:
        if isinstance(one, Lost):
            text = one.text[:SHOWN_DROPPED]
            append_jsonl(folder / DROPPED, [{"item": one.number, "reason": one.reason, "text": text}])
            return
        append_jsonl(folder / ROWS, [one.draft.columns | {"provenance": provenance(one, plan)}])
        advance()

    made = synthesize(
        maker(plan.kind), material, askers, filters, number=plan.number, batch_size=plan.batch_size, write=write
    )  # fmt: skip
    if made.drafts:
        finish(folder, plan, made, journal, facts)
    return Outcome(
        len(made.drafts), made.num_items, made.dropped, list(journal.replies.values()), made.is_barren
    )  # fmt: skip


def finish(folder: Path, plan: Plan, made: Made, journal: Journal, facts: CardFacts) -> None:
    """Write the card, and note that the run came to its end."""
    text = card_text(plan.kind, made, list(journal.replies.values()), facts, sha256_of(folder / ROWS))
    write_text(folder / CARD, text)
    write_note(folder, noted(plan, is_finished=True))


def provenance(one: Kept, plan: Plan) -> dict[str, Any]:
    """What a row says of where it came from."""
    score = {} if one.score is None else {"judge_score": one.score}
    return {"kind": plan.kind, "item": one.number, **one.origin, **score, **plan.provenance}
