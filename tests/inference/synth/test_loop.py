"""The loop: rows until there are enough, the same after any kill, nothing asked for twice, every drop counted."""

import json

import pytest
from made_up import THINGS, BatchWriter, Writer, passages

from ftkit.config.errors import UserError
from ftkit.config.output_folder import read_note
from ftkit.inference.synth.card import CardFacts
from ftkit.inference.synth.filters import Sieve
from ftkit.inference.synth.held_out import HeldOut, HeldOutQuestion
from ftkit.inference.synth.items import Material, Seed, user
from ftkit.inference.synth.kinds import KINDS
from ftkit.inference.synth.loop import Filters
from ftkit.inference.synth.run import Plan, carry_out, open_run

FACTS = CardFacts("writer", "", "seeds", "ftkit synth ...", "3 held-out questions", 1.0, 2.0)
SETTINGS = {
    "num_samples": 3,
    "pairs": "best-of-n",
    "num_distractors": 3,
    "share_without": 0.2,
    "without_passage": "refuse",
}
SEEDS = [Seed(f"s.jsonl:{n}", user(f"What is {n} + {n + 2} of them?"), f"{2 * n + 2}") for n in range(1, 30)]
HELD_QUESTIONS = [
    HeldOutQuestion(f"test.jsonl:{line}", f"Describe the {thing} of Orla to a museum keeper.")
    for line, thing in enumerate(THINGS, start=1)
]
HELD = HeldOut(HELD_QUESTIONS, near=0.5)


def made(folder, kind: str, writer, *, number=12, minimum=None, held_out=HELD, **changes):
    """What a run in a folder comes to, its rows and what it dropped."""
    material = Material(() if KINDS[kind].source == "docs" else SEEDS, passages(30), seed=3, settings=SETTINGS)
    plan = Plan(kind, number, 4, {"kind": kind, "seed": 3} | changes, {"model": "a"}, {"model": "writer", "prompts": 1})
    if not open_run(folder, plan, overwrite=False):
        return None
    filters = Filters(Sieve((seed.text for seed in material.seeds), 0.7), held_out, minimum)
    return carry_out(folder, plan, material, {"model": writer, "judge": writer}, filters, FACTS)


def rows_of(folder, name="train.jsonl"):
    path = folder / name
    return [json.loads(line) for line in path.read_text().split("\n") if line] if path.exists() else []


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_makes_rows_that_say_where_they_came_from(kind, tmp_path):
    outcome = made(tmp_path, kind, Writer())
    rows, dropped = rows_of(tmp_path), rows_of(tmp_path, "dropped.jsonl")
    assert len(rows) == outcome.num_rows == 12
    assert outcome.num_items == 12 + sum(outcome.dropped.values()) == 12 + len(dropped)
    for row in rows:
        said = row["provenance"]
        assert (said["kind"], said["model"], said["prompts"]) == (kind, "writer", 1)
        assert said.get("seeds") or said.get("passages") or said.get("persona") or said.get("rows")
    numbers = [row["provenance"]["item"] for row in rows]
    assert numbers == sorted(numbers) and not {*numbers} & {one["item"] for one in dropped}
    assert read_note(tmp_path).is_finished and made(tmp_path, kind, Writer(0)) is None


@pytest.mark.parametrize("writer", [Writer, BatchWriter])
@pytest.mark.parametrize("kind", ["self-instruct", "raft", "preferences"])
def test_a_run_that_is_killed_at_any_reply_ends_with_the_same_rows(kind, writer, tmp_path):
    whole = writer()
    made(tmp_path / "whole", kind, whole, number=5)
    for stop in (2, 11):
        folder, num_asked, writers = tmp_path / str(stop), 0, 0
        while True:  # killed again and again, after `stop` more replies each time
            one = writer(stop if writers < 6 else None)
            writers += 1
            try:
                made(folder, kind, one, number=5)
                break
            except KeyboardInterrupt:
                num_asked += one.num_asked
        for name in ("train.jsonl", "dropped.jsonl", "README.md"):
            assert (folder / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), (stop, name)
        if writer is Writer:
            assert num_asked + one.num_asked == whole.num_asked  # nothing was asked for twice


def test_a_reply_that_was_half_written_is_asked_for_again(tmp_path):
    made(tmp_path / "whole", "self-instruct", Writer(), number=6)
    with pytest.raises(KeyboardInterrupt):
        made(tmp_path / "cut", "self-instruct", Writer(9), number=6)
    journal = tmp_path / "cut/.ftkit/replies.jsonl"
    journal.write_bytes(journal.read_bytes()[:-20])
    made(tmp_path / "cut", "self-instruct", Writer(), number=6)
    assert (tmp_path / "cut/train.jsonl").read_bytes() == (tmp_path / "whole/train.jsonl").read_bytes()


def test_a_finished_run_goes_on_with_more_rows_and_keeps_the_first(tmp_path):
    made(tmp_path, "evolve", Writer(), number=5)
    first = rows_of(tmp_path)
    made(tmp_path, "evolve", Writer(), number=9)
    assert rows_of(tmp_path)[:5] == first and len(rows_of(tmp_path)) == 9
    with pytest.raises(UserError, match="was made with --number 9, more than now; start over by --overwrite"):
        made(tmp_path, "evolve", Writer(), number=5)


def test_a_run_that_was_asked_for_otherwise_is_refused(tmp_path):
    made(tmp_path, "evolve", Writer(), number=5)
    with pytest.raises(UserError, match="was begun with --temperature None, not 0.5; choose another --output_dir"):
        made(tmp_path, "evolve", Writer(), number=6, temperature=0.5)
    (tmp_path / "other").mkdir()
    (tmp_path / "other/notes.txt").write_text("mine")
    with pytest.raises(UserError, match="holds files that are not of ftkit synth"):
        made(tmp_path / "other", "evolve", Writer())


def test_no_question_is_there_twice_and_none_is_held_out(tmp_path):
    outcome = made(tmp_path, "self-instruct", Writer(), number=100)
    questions = [row["messages"][0]["content"] for row in rows_of(tmp_path)]
    assert len(set(questions)) == len(questions) == 100
    assert not {*questions} & {one.text for one in HELD_QUESTIONS}
    assert (
        outcome.dropped["a duplicate of a seed or of another row"]
        and outcome.dropped["a paraphrase of a held-out question"]
    )
    assert any("(test.jsonl:" in one["text"] for one in rows_of(tmp_path, "dropped.jsonl"))


def test_the_judge_is_asked_for_what_is_left_alone_and_its_score_is_kept(tmp_path):
    outcome = made(tmp_path, "self-instruct", Writer(), number=10, minimum=60)
    assert all(row["provenance"]["judge_score"] >= 60 for row in rows_of(tmp_path))
    assert outcome.dropped["the judge gave less than 60 points"]


def test_a_writer_that_gives_nothing_new_ends_the_run(tmp_path):
    class Parrot(Writer):
        def replies(self, requests, missing, limit):
            for place, reply in super().replies(requests, missing, limit):
                reply.text = "Describe the old mill to me."
                yield place, reply

    outcome = made(tmp_path, "self-instruct", Parrot(), number=5)
    assert outcome.is_barren and outcome.num_rows == 0 and not (tmp_path / "README.md").exists()
    assert not read_note(tmp_path).is_finished


def test_the_card_counts_what_was_dropped_and_what_it_cost(tmp_path):
    outcome = made(tmp_path, "questions", Writer())
    card = (tmp_path / "README.md").read_text()
    assert card.startswith("---\n") and "{split: train, path: train.jsonl}" in card
    assert f"| no question in the reply | {outcome.dropped['no question in the reply']} |" in card
    num = len(outcome.replies)
    assert f"{7 * num:,} tokens read, {3 * num:,} written, cost {(7 * num + 6 * num) / 1e6:.4f}" in card
