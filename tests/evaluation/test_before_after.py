"""Held-out rows answered by the base, by the base with examples, and by the result: what is written and said of it."""

import json
import re
from types import SimpleNamespace

import pytest

from ftkit.commands.compare import main as compare
from ftkit.evaluation.bench.task_rows import is_question
from ftkit.evaluation.held_out.before_after import WITH_EXAMPLES
from ftkit.evaluation.results import measured_runs, read_items
from ftkit.runs.lifecycle import is_measured
from ftkit.runs.recipes import load_recipe


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_folder, word_rows):
    """A run of three updates that was made to answer its held-out rows, of which one is no question; what it said."""
    folder = tmp_path_factory.mktemp("before_after")
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in word_rows[:24]))
    argv = [
        "--model_name_or_path", tiny_folder, "--dataset_name", folder / "rows.jsonl", "--test_size", 6, "--max_steps", 3,
        "--template", "alpaca", "--bf16", "false", "--num_samples", 0, "--before_after", "--disable_tqdm",
        "--learning_rate", "3e-3", "--save_strategy", "no", "--output_dir", folder / "out",
    ]  # fmt: skip
    recipe = load_recipe("sft")
    recipe.train(recipe.parse([str(part) for part in argv]))
    return folder / "out"


def test_the_base_bare_and_with_examples_and_the_result_answer_the_same_rows(run):
    runs = measured_runs(run)
    assert list(runs) == ["before", "before, 3 examples", "after"]
    tasks = [results.tasks["answers"] for results in runs.values()]
    assert [task.num_items for task in tasks] == [6] * 3 and [task.num_fewshot for task in tasks] == [0, 3, 0]
    assert len({task.task_hash for task in tasks}) == 1 and tasks[0].main_metric == "exact_match"
    graded = {"exact_match", "token_f1", "chrf"}
    assert [set(task.scores) for task in tasks] == [
        graded | {"answer_loss", "token_accuracy"}, graded, graded | {"answer_loss", "token_accuracy"}
    ]  # fmt: skip
    paths = [run / name / "results.json" for name in ("before", WITH_EXAMPLES, "")]
    items = [read_items(*pair) for pair in zip(paths, tasks, strict=True)]
    assert [[item.item_id for item in some] for some in items] == [[item.item_id for item in items[0]]] * 3
    assert all(item.reference == item.prompt.split()[-1].upper() for item in items[0])


def test_the_losses_are_those_of_the_trainers_own_evaluation(run):
    evaluations = [json.loads(line) for line in (run / "metrics.jsonl").read_text().split("\n") if "eval_loss" in line]
    for name, evaluation in (("before", evaluations[0]), ("after", evaluations[-1])):
        score = measured_runs(run)[name].tasks["answers"].scores["answer_loss"]
        assert score.value == pytest.approx(evaluation["eval_loss"], rel=1e-4)


def test_report_card_and_compare_show_the_same(run, capsys):
    compare([str(run), "--metric", "answer_loss"])
    assert re.search(r"^answers  answer loss, nats per token  6 ", capsys.readouterr().out, re.M)
    assert "before, 3 examples" in (run / "report.html").read_text()
    assert (
        "| answers, 6 items (95 % interval) | before | before, 3 examples | after |" in (run / "README.md").read_text()
    )


def test_a_run_that_goes_on_keeps_what_was_measured_before_it(run, tmp_path):
    here, elsewhere = (SimpleNamespace(output_dir=str(folder)) for folder in (run, tmp_path))
    start = SimpleNamespace(checkpoint="checkpoint-2", changed=set())
    assert is_measured(here, start) and not is_measured(elsewhere, start)
    assert not is_measured(here, SimpleNamespace(checkpoint=None, changed=set()))
    assert not is_measured(here, SimpleNamespace(checkpoint="checkpoint-2", changed={"tokens"}))


@pytest.mark.parametrize(
    ("roles", "answered"),
    [
        ("ua", True), ("sua", True), ("uaua", True), ("u", False), ("a", False), ("uau", False), ("uuaa", False),
        ("s", False), ("", False), ("uta", False),
    ],
)  # fmt: skip
def test_rows_that_are_no_questions_are_not_asked(roles, answered):
    names = {"u": "user", "a": "assistant", "s": "system", "t": "tool"}
    assert is_question([{"role": names[role], "content": "x"} for role in roles]) is answered
    assert not is_question(None)
