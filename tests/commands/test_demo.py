"""`ftkit try`: its rows, its choice of a base and its verdict; the whole demo on a tiny model."""

import json
import re
from collections import Counter
from types import SimpleNamespace

import pytest

from ftkit.commands import demo
from ftkit.config.errors import UserError
from ftkit.config.output_folder import RunNote, write_note
from ftkit.evaluation.bench.scores import task_scores
from ftkit.evaluation.held_out.before_after import TASK
from ftkit.evaluation.held_out.likelihoods import ANSWERS, likelihood_scores
from ftkit.evaluation.results import Item, Results, measured_runs, task_of, write_run


def test_bundled_rows_are_an_equal_share_of_each_quick_family():
    train, test = demo.bundled_rows(SimpleNamespace(num_rows=480, num_test_rows=200))
    assert Counter(row["group"] for row in train) == dict.fromkeys(demo.QUICK_FAMILIES, 60)
    assert Counter(row["group"] for row in test) == dict.fromkeys(demo.QUICK_FAMILIES, 25)


def test_the_folder_is_the_first_free_one_or_the_one_of_the_same_unfinished_demo(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    note = RunNote("try", {"rows": "1"})
    assert str(demo.free_folder(note)) == "runs/try"
    write_note("runs/try", RunNote("try", {"rows": "2"}))
    write_note("runs/try-2", note)
    assert str(demo.free_folder(note)) == "runs/try-2"
    write_note("runs/try-2", RunNote("try", {"rows": "1"}, is_finished=True))
    assert str(demo.free_folder(note)) == "runs/try-3"


def test_a_folder_of_a_demo_on_other_rows_is_refused(tmp_path):
    write_note(tmp_path, RunNote("try", {"rows": "2"}))
    with pytest.raises(
        UserError, match="holds a run of different rows or a different model; choose another --output_dir"
    ):
        demo.check_claim(tmp_path, RunNote("try", {"rows": "1"}))


def answers(right, losses=(), groups=("case", "plural")):
    """Four items, two of each group: which are right, and their losses, of a token each."""
    items = []
    for number, is_right in enumerate(right):
        extra = {"group": groups[number // 2], "num_answer_tokens": 1} if groups else {}
        scores = dict.fromkeys(TASK.metrics, float(is_right))
        scores |= {"answer_loss": losses[number]} if losses else {}
        items.append(Item(str(number), scores, f"question {number}", "said", "wanted", extra=extra))
    return items


def write_answers(folder, model, items):
    """What a run measured of its held-out rows."""
    task = task_of(ANSWERS, items, task_scores(TASK, items) | likelihood_scores(items))
    write_run(folder, Results(model, {ANSWERS: task}), {ANSWERS: items})


def test_the_tables_show_each_run_with_its_interval_and_each_task_beside_the_best_of_the_others(tmp_path, capsys):
    write_answers(tmp_path / "before-copying-the-input", {"name": "copy"}, answers([0, 0, 0, 1]))
    write_answers(tmp_path / "before", {"name": "base"}, answers([1, 0, 0, 0], losses=[4.5, 3.5, 4.0, 4.0]))
    write_answers(tmp_path, {"name": "base", "adapter": "a"}, answers([1, 1, 0, 1], losses=[1.0, 1.0, 1.0, 3.0]))
    demo.print_results(tmp_path)
    printed = capsys.readouterr().out
    assert re.search(r"before +25\.0 % \(4\.6 to 69\.9\) +4 \(3\.625 to 4\.375\)\n", printed)
    assert re.search(r"before, copying the input +25\.0 % \(4\.6 to 69\.9\) +-\n", printed)
    assert re.search(r"after +75\.0 % \(30\.1 to 95\.4\) +1\.5 ", printed)
    assert re.search(r"case +100\.0 % +50\.0 %, before\n", printed)
    assert re.search(r"plural +50\.0 % +50\.0 %, before, copying the input\n", printed)
    assert "verdict: too few items" in printed


def test_rows_without_tasks_have_no_table_of_tasks(tmp_path, capsys):
    write_answers(tmp_path / "before", {"name": "base"}, answers([0] * 40, groups=()))
    write_answers(tmp_path, {"name": "base", "adapter": "a"}, answers([1] * 40, groups=()))
    demo.print_results(tmp_path)
    printed = capsys.readouterr().out
    assert "by task" not in printed and "verdict: better: exact match 0.0 % before, 100.0 % after" in printed


def test_too_few_rows_and_plain_text_are_refused(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"instruction": "a", "output": "b"}\n' * 9)
    with pytest.raises(UserError, match="too few to train and to measure on"):
        demo.main([str(path)])
    text = tmp_path / "rows.txt"
    text.write_text("line\n" * 100)
    with pytest.raises(UserError, match="plain text has no answers to score"):
        demo.main([str(text)])


def test_the_demo_on_own_rows_trains_measures_and_reports(tiny_folder, word_rows, tmp_path, capsys):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in word_rows))
    out = tmp_path / "out"
    demo.main([str(path), "--model", str(tiny_folder), "--output_dir", str(out), "--num_rows", "16"])
    printed = capsys.readouterr()
    assert "data format found: alpaca" in printed.err
    runs = {name: results.tasks[ANSWERS] for name, results in measured_runs(out / "adapter").items()}
    assert set(runs) == {
        "before",
        "before, 3 examples",
        "before, copying the input",
        "before, most frequent answer",
        "after",
    }
    assert {task.num_items for task in runs.values()} == {12}  # a fifth of the 64 rows
    assert runs["after"].scores["answer_loss"].value < runs["before"].scores["answer_loss"].value
    assert printed.out.count("wanted") == 5 and "verdict:" in printed.out
    assert f"ftkit chat --adapter {out}/adapter\n" in printed.err
    whole = (
        f"ftkit sft --config {out}/adapter/run.yaml --dataset_name {path} --test_size 0.1 --output_dir {out}-all-rows\n"
    )
    assert whole in printed.err
    assert "base: 12 rows answered in 0:0" in printed.err
    assert "before, copying the input" in (out / "adapter/report.html").read_text()
