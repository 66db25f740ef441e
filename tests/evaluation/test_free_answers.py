"""Runs of free answers compared: what decides, by the references or by --metric, and what stands beside it."""

import dataclasses
import re
from pathlib import Path

import pytest

from ftkit.commands.compare import main
from ftkit.config.errors import UserError
from ftkit.evaluation.results import Item, Results, mean_score, task_of, write_run
from ftkit.evaluation.verdict.pairing import read_run
from ftkit.evaluation.verdict.verdict import compare_runs
from ftkit.metrics.text_match import graded_metric, is_exact, token_f1

LONG = "the cat sat down on the mat number {} again"
SHORT = "number {}"
METRICS = {"exact_match": is_exact, "token_f1": token_f1}


def answered(folder, answer: str, reference: str, *, n: int = 40, **extra):
    """A run that gave `answer` to n questions; {} in both is the question's number."""
    items = [
        Item(
            f"{number:016x}",
            {name: score(answer.format(number), reference.format(number)) for name, score in METRICS.items()} | extra,
            f"question {number}", answer.format(number), reference.format(number),
        )
        for number in range(n)
    ]  # fmt: skip
    scores = {name: mean_score([item.scores[name] for item in items]) for name in items[0].scores}
    task = dataclasses.replace(task_of("held-out", items, scores), main_metric="exact_match")
    return str(write_run(folder, Results({"name": folder.name}, {"held-out": task}), {"held-out": items}))


def compared(tmp_path, capsys, before: str, after: str, reference: str, *flags: str, **extra) -> str:
    main([answered(tmp_path / "a", before, reference, **extra), answered(tmp_path / "b", after, reference), *flags])
    return capsys.readouterr().out


def test_free_text_is_compared_by_what_it_shares_with_the_reference(tmp_path, capsys):
    text = compared(tmp_path, capsys, "a dog", "the cat sat down somewhere", LONG)
    assert text.startswith("better: better on held-out\n")
    assert re.search(r"^held-out  token F1  40 +0\.0 % +50\.0 % +\+50\.0 \(", text, re.M)
    assert "held-out: compared by token F1: most references have more than 5 words" in text
    assert re.search(r"other metrics.*\n.*\n  held-out  exact match  40 +0\.0 % +0\.0 % +\+0\.0 \(", text)


def test_answers_of_a_few_words_are_right_or_wrong(tmp_path, capsys):
    text = compared(tmp_path, capsys, "number", "number {}", SHORT)
    assert re.search(r"^held-out  exact match  40 .*\+100\.0", text, re.M) and "compared by" not in text
    assert re.search(r"^  held-out  token F1  40 ", text, re.M)


def test_the_metric_that_is_asked_for_decides(tmp_path, capsys):
    text = compared(tmp_path, capsys, "a dog", "the cat sat down somewhere", LONG, "--metric", "exact_match")
    assert text.startswith("too few items: 40 items can only show a change above")
    assert re.search(r"^held-out  exact match  40 ", text, re.M)
    text = compared(tmp_path, capsys, "number", "number {}", SHORT, "--metric", "token_f1")
    assert "held-out: compared by token F1, as --metric asks" in text


def test_a_metric_that_no_task_has_in_every_item_is_named(tmp_path, capsys):
    with pytest.raises(UserError, match='no task has "token_f2" in every item; did you mean "token_f1"'):
        compared(tmp_path, capsys, "a", "b", LONG, "--metric", "token_f2")
    with pytest.raises(UserError, match='no task has "chrf" in every item; there are token_f1, exact_match'):
        compared(tmp_path, capsys, "a", "b", LONG, "--metric", "chrf", chrf=1.0)  # of the run before alone


def test_a_main_metric_that_is_graded_or_of_numbers_stays(tmp_path):
    runs = [answered(tmp_path / name, answer, LONG) for name, answer in (("a", "a dog"), ("b", "the cat sat"))]
    for path in map(Path, runs):
        path.write_text(path.read_text().replace('"main_metric": "exact_match"', '"main_metric": "numeric_match"'))
        file = path.parent / "items/held-out.jsonl"
        file.write_text(file.read_text().replace('"exact_match"', '"numeric_match"'))
    (row,) = compare_runs([read_run(runs[0])], read_run(runs[1])).tasks
    assert row.metric == "numeric_match" and not row.notes


@pytest.mark.parametrize(
    ("references", "metric"),
    [
        (["mice", "went"], "exact_match"), (["one two three four five"], "exact_match"),
        (["one two three four five six"], "token_f1"), (["mice", "a b c d e f", "a b c d e f g"], "token_f1"),
        (["我" * 80], "chrf"), (["我" * 8], "exact_match"),
    ],
)  # fmt: skip
def test_the_references_choose_the_metric(references, metric):
    assert graded_metric(references) == metric
