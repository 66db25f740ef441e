"""A bake-off of a tiny model, in this process: what is made and asked, what a kill leaves, and what is refused."""

import dataclasses
import json
import re
import shutil

import pytest

from ftkit.commands import bakeoff as command
from ftkit.config.errors import UserError
from ftkit.evaluation.results import read_items, read_results
from ftkit.runs.bakeoff import bakeoff
from ftkit.runs.bakeoff.asked import Asked, Budget
from ftkit.runs.bakeoff.making import read_made
from ftkit.runs.bakeoff.work import Refused, Workers, do

WORDS = [f"{first}{second}" for first in ("ba", "co", "du", "fe", "gi") for second in "lmnprs"]


def in_this_process(job, asked, name):
    """As `work.Workers`, without the seconds that imports take."""
    try:
        do(job, asked, name)
    except UserError as error:
        raise Refused(str(error)) from error


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Rows about invented places, and documents that hold their answers."""
    folder = tmp_path_factory.mktemp("rows")
    facts = {word.title(): f"{number + 11} days" for number, word in enumerate(WORDS)}
    rows = [{"prompt": f"How long does {name} take?", "completion": answer} for name, answer in facts.items()]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "docs").mkdir()
    for name, answer in facts.items():
        (folder / f"docs/{name}.md").write_text(f"# {name}\n\n{name} takes {answer}. It is far away.\n")
    return folder


@pytest.fixture(scope="module")
def model(folder, tiny_folder):
    """The tiny model with a context that holds passages of a few bytes per token."""
    shutil.copytree(tiny_folder, folder / "model")
    config = json.loads((folder / "model/config.json").read_text()) | {"max_position_embeddings": 2048}
    (folder / "model/config.json").write_text(json.dumps(config))
    return folder / "model"


@pytest.fixture(scope="module")
def asked(folder, model):
    """A bake-off that takes seconds."""
    return Asked(
        str(folder / "rows.jsonl"), str(model), str(folder / "out"), Budget.of("2000tokens"),
        docs=(str(folder / "docs"),), skip=("few_shot", "soft_prompt", "qlora", "full"), num_test=8, top_k=2,
        passage_tokens=40, forgetting_limit=1,
    )  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def short_answers():
    """A random model does not end its answers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ftkit.runs.bakeoff.setup.SENTENCE_TOKENS", 8)
        patch.setattr("ftkit.evaluation.bakeoff.quotes.QUOTE_TOKENS", 8)
        yield


@pytest.fixture(scope="module")
def finished(asked):
    """Its standing and recommendation, and the pieces of work it took."""
    done = []

    def work(job, asked, name):
        done.append((job, name))
        in_this_process(job, asked, name)

    return *bakeoff.run_bakeoff(asked, work), done


def test_each_contestant_is_made_and_asked_once_on_the_same_rows(finished, asked):
    standing, _, done = finished
    assert done == [
        ("ask", "prompt"),
        ("ask", "retrieval"),
        ("make", "lora"),
        ("ask", "lora"),
        ("make", "raft"),
        ("ask", "raft"),
    ]
    tasks = read_results(asked.folder / "results.json").tasks
    assert list(tasks) == ["prompt", "retrieval", "lora", "raft"]
    assert {task.task_hash for task in tasks.values()} == {tasks["prompt"].task_hash} and tasks["raft"].num_items == 8
    assert {task.main_metric for task in tasks.values()} == {"contains"}
    assert list(standing.forgetting) == ["lora", "raft"]
    table = json.loads((asked.folder / "bakeoff.json").read_text())
    costs = {name: one["costs"] for name, one in table["contestants"].items()}
    assert costs["prompt"]["megabytes"] == 0 and costs["retrieval"]["megabytes"] > 0
    assert costs["raft"]["megabytes"] == pytest.approx(
        costs["retrieval"]["megabytes"] + costs["lora"]["megabytes"], rel=0.01
    )
    assert costs["retrieval"]["prompt_tokens"] > costs["prompt"]["prompt_tokens"] > 0
    assert costs["retrieval"]["found"] == 1.0 and costs["prompt"]["training_memory_gib"] is None
    assert "Bake-off on rows.jsonl" in (asked.folder / "report.html").read_text()


def test_each_trains_for_the_budget_in_tokens(finished, asked):
    made = {one.name: read_made(asked, one) for one in asked.contestants() if one.is_trained}
    assert made["lora"].epochs > 1.5 * made["raft"].epochs > 0  # rows with passages are longer


def test_raft_is_asked_with_the_passage_and_without_it_and_its_quotes_are_checked(finished, asked):
    tasks = read_results((asked.folder / "raft") / "results.json").tasks
    assert {"answers", "with the passage", "without the passage", "forgetting"} == set(tasks)
    path = (asked.folder / "raft") / "results.json"
    with_it, without = (read_items(path, tasks[f"{name} the passage"]) for name in ("with", "without"))
    answers = {item.item_id: item.reference for item in with_it}
    assert all(item.reference in item.prompt for item in with_it)
    assert all(f"takes {answers[item.item_id]}." not in item.prompt for item in without)
    assert {item.reference for item in without} == {"The sources do not say."}
    rows = [json.loads(line) for line in ((asked.folder / "raft") / "train.jsonl").read_text().split("\n") if line]
    quoted = [row["messages"][-1]["content"] for row in rows if "Answer: " in row["messages"][-1]["content"]]
    assert len(rows) == 22 and len(quoted) > 11
    assert all(
        answer.split('"')[1] in row["messages"][0]["content"]
        for row in rows
        if '"' in (answer := row["messages"][-1]["content"])
    )


def test_a_killed_bakeoff_goes_on_with_the_contestant_it_was_killed_in(finished, asked, folder):
    out = folder / "killed"
    shutil.copytree(asked.folder, out)
    (out / "raft/costs.json").unlink()  # killed while its answers came
    (out / "results.json").unlink()
    again, done = dataclasses.replace(asked, output_dir=str(out)), []

    def work(job, asked, name):
        done.append((job, name))
        in_this_process(job, asked, name)

    standing, recommendation = bakeoff.run_bakeoff(again, work)
    assert done == [("ask", "raft")]
    names = [entry.contestant.name for entry in standing.entries]
    assert names == ["prompt", "retrieval", "lora", "raft"] and recommendation == finished[1]
    (out / "lora/costs.json").unlink()
    (out / "lora/made.json").unlink()
    (out / "lora/run/part").write_text("left by a kill")
    bakeoff.run_bakeoff(
        again,
        lambda *job: (done.append(job[::2]), shutil.copytree(asked.folder / "lora", out / "lora", dirs_exist_ok=True)),
    )
    assert done[1:] == [("make", "lora"), ("ask", "lora")] and not (out / "lora/run/part").exists()


def test_another_bakeoff_is_refused_by_what_differs_and_a_finished_one_changes_nothing(finished, asked):
    def never(*job):
        raise AssertionError(job)

    before = (asked.folder / "results.json").read_bytes()
    bakeoff.run_bakeoff(dataclasses.replace(asked, price_per_hour=1.5, skip=(*asked.skip, "raft")), never)
    bakeoff.run_bakeoff(asked, never)
    assert (asked.folder / "results.json").read_bytes() == before
    with pytest.raises(UserError, match=r"holds a different bake-off \(not the same budget, top_k\)"):
        bakeoff.run_bakeoff(dataclasses.replace(asked, top_k=3, budget=Budget.of("1h")), never)


def test_a_contestant_that_can_not_run_is_listed_with_its_reason(finished, asked, folder, tmp_path):
    def work(job, asked, name):
        if name == "retrieval":
            raise Refused("the prompt has 700 tokens and the model's context only 512")
        shutil.copytree(folder / "out" / name, asked.folder / name, dirs_exist_ok=True)

    other = dataclasses.replace(asked, output_dir=str(tmp_path / "out"), skip=(*asked.skip, "lora", "raft"))
    standing, _ = bakeoff.run_bakeoff(other, work)
    assert [(entry.contestant.name, entry.reason) for entry in standing.left_out] == [
        ("retrieval", "the prompt has 700 tokens and the model's context only 512")
    ]
    assert "retrieval did not run: the prompt has 700 tokens" in (tmp_path / "out/report.html").read_text()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--budget 5", "give minutes or tokens of training, such as 10min or 5e5tokens"),
        ("--budget 0min", '--budget is "0min"'),
        ("--skip qlra", 'no contestant "qlra"; did you mean "qlora"?'),
        ("--skip prompt", "all others are compared with the prompt alone"),
        ("--top_k 0", "--top_k is 0; give at least 1"),
        ("--num_test 3", "--num_test is 3; give at least 8"),
        ("--sft_config lora", "write NAME=FILE"),
        ("--sft_config retrieval=a.yaml", "retrieval is not trained"),
        ("--sft_config lora=missing.yaml", "no such file; give a YAML file"),
        ("--embedder e", "--embedder searches documents; add --docs DOCS"),
        ("--docs nowhere", "nowhere: no such file or folder"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_loaded(folder, tmp_path, monkeypatch, flags, message):
    monkeypatch.setattr(bakeoff.setup, "set_up", None)
    argv = [str(folder / "rows.jsonl"), "--model", "M", "--output_dir", str(tmp_path / "out"), *flags.split()]
    with pytest.raises(UserError, match=re.escape(message)):
        command.main(argv)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ('{"text": "plain"}\n' * 20, r"rows.jsonl:\d+: is no question with an answer"),
        ('{"prompt": "a", "completion": "b"}\n' * 12, "8 rows to train on and 4 held out are too few; give 8 of each"),
    ],
)
def test_rows_that_ask_nothing_or_are_too_few_are_refused(tmp_path, rows, message):
    (tmp_path / "rows.jsonl").write_text(rows)
    with pytest.raises(UserError, match=message):
        command.main([str(tmp_path / "rows.jsonl"), "--model", "M", "--output_dir", str(tmp_path / "out")])


def test_a_budget_is_read_in_the_units_that_people_write():
    assert [str(Budget.of(text)) for text in ("10min", "1.5 h", "90s", "5e5tokens", "200 Tokens")] == [
        "10 minutes", "90 minutes", "1.5 minutes", "5e+05 tokens", "200 tokens"
    ]  # fmt: skip


@pytest.mark.processes
def test_work_in_a_process_of_its_own_is_refused_by_a_line_and_may_break_down(asked, folder):
    broken = dataclasses.replace(asked, output_dir=str(folder / "broken"), model=str(folder / "nowhere"))
    setup = folder / "broken/setup.json"
    setup.parent.mkdir()
    setup.write_text(json.dumps({"template": "alpaca", "max_new_tokens": 4, "metric": "contains", "num_parameters": 1}))
    (folder / "broken/data").mkdir()
    for name in ("train", "test"):
        shutil.copy(folder / "rows.jsonl", folder / f"broken/data/{name}.jsonl")
    with Workers() as work:
        with pytest.raises(Refused, match="nowhere: no such"):
            work("ask", broken, "prompt")
        first = work.process
        with pytest.raises(UserError, match="its process broke down; the same command goes on"):
            work("ask", broken, "no contestant")
        assert work.process is first and first.poll() is None
    assert first.poll() == 0
