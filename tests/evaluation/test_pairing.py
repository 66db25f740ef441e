"""Two runs item by item: what is paired, what is told of how they were asked, and what is refused."""

import pytest
from benchmark_runs import compare, scores, write_run

from ftkit.config.errors import UserError
from ftkit.evaluation.verdict.pairing import read_run, read_run_and_befores
from ftkit.evaluation.verdict.text import verdict_text
from ftkit.evaluation.verdict.verdict import compare_runs


def test_items_that_repeat_another_count_once(tmp_path):
    paths = [write_run(tmp_path / name, {"t": values}) for name, values in (("a", [1, 1, 0, 0]), ("b", [0, 0, 1, 1]))]
    names = {"t-0": "0" * 16, "t-1": "0" * 16 + "-2", "t-2": "1" * 16, "t-3": "1" * 16 + "-2"}
    for path in paths:
        file = path.parent / "items/t.jsonl"
        text = file.read_text()
        for old, new in names.items():
            text = text.replace(f'"{old}"', f'"{new}"')
        file.write_text(text)
    verdict = compare_runs([read_run(paths[0])], read_run(paths[1]))
    assert verdict.tasks[0].num_items == 2 and (verdict.tasks[0].num_gained, verdict.tasks[0].num_lost) == (1, 1)
    assert "2 of 4 items repeat another one and are counted once" in verdict_text(verdict)


def test_other_numbers_of_examples_and_precisions_are_told(tmp_path):
    before = write_run(tmp_path / "before", {"t": scores(60, right=30)}, model={"name": "m", "dtype": "float32"})
    after = write_run(
        tmp_path / "after", {"t": scores(60, right=30)}, num_fewshot=5, model={"name": "m", "dtype": "bfloat16"}
    )
    text = verdict_text(compare_runs([read_run(before)], read_run(after)))
    assert "t: asked with 0 examples before and 5 after" in text
    assert "warning: dtype is not the same in all runs (bfloat16, float32)" in text


def test_other_examples_and_cut_items_are_told(tmp_path):
    paths = [write_run(tmp_path / name, {"t": [1.0, 0.0]}, num_fewshot=2) for name in ("before", "after")]
    for path, digest in zip(paths, "xy", strict=True):
        path.write_text(path.read_text().replace('"examples_hash": ""', f'"examples_hash": "{digest}"'))
    paths[1].write_text(paths[1].read_text().replace('"num_cut": 0', '"num_cut": 3'))
    text = verdict_text(compare_runs([read_run(paths[0])], read_run(paths[1])))
    assert "t: asked with different examples before and after" in text
    assert "t: 0 items before and 3 after were longer than the model's context" in text


def test_bleu_of_a_corpus_is_not_taken_for_the_mean_of_its_answers(tmp_path):
    paths = [write_run(tmp_path / name, {"t": [20.0, 40.0]}, metric="bleu") for name in ("before", "after")]
    text = verdict_text(compare_runs([read_run(paths[0])], read_run(paths[1])))
    assert "bleu of the whole task (30 before, 30 after) is not a mean of items" in text


def test_before_is_the_best_of_several_runs_task_by_task(tmp_path):
    own = write_run(tmp_path / "own", {"a": scores(60, right=30), "b": scores(60, right=10)})
    shots = write_run(tmp_path / "shots", {"a": scores(60, right=20), "b": scores(60, right=25)})
    after = write_run(tmp_path / "after", {"a": scores(60, right=22), "b": scores(60, right=40)})
    verdict = compare_runs([read_run(own), read_run(shots)], read_run(after))
    assert [task.before_from for task in verdict.tasks] == ["own", "shots"]
    assert [task.before for task in verdict.tasks] == [0.5, 25 / 60]
    assert verdict.tasks[0].p == pytest.approx(2 * 2 * 0.5**9)  # 8 lost, none gained, times two runs
    text = verdict_text(verdict)
    assert "before is own for a" in text and "before is the better of 2 runs" in text


def test_an_answer_with_an_unusual_line_separator_is_one_item(tmp_path):
    odd = ["one\u2028line\x85still"] * 3
    verdict = compare(tmp_path, {"t": [0.0] * 3}, {"t": [1.0] * 3}, prompts=odd)
    assert verdict.tasks[0].num_items == 3 and verdict.tasks[0].improved[0].prompt == odd[0]


def test_items_are_paired_by_their_id_not_their_order(tmp_path):
    before = write_run(tmp_path / "before", {"t": scores(50, right=25)})
    after = write_run(tmp_path / "after", {"t": scores(50, right=25)})
    file = after.parent / "items/t.jsonl"
    file.write_text("".join(reversed(file.read_text().splitlines(keepends=True))))
    task = compare_runs([read_run(before)], read_run(after)).tasks[0]
    assert (task.num_gained, task.num_lost) == (0, 0)


def test_a_metric_of_the_whole_task_gives_way_to_one_of_the_items(tmp_path):
    paths = [write_run(tmp_path / name, {"t": [0.1, 0.5, 0.3]}, metric="chrf") for name in ("before", "after")]
    for path in paths:
        path.write_text(path.read_text().replace('"main_metric": "chrf"', '"main_metric": "bleu"'))
    verdict = compare_runs([read_run(paths[0])], read_run(paths[1]))
    assert verdict.tasks[0].metric == "chrf"
    assert "bleu is a figure of the whole task; items are compared by chrf" in verdict_text(verdict)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, r"task t: version 1 in .* and 2 in .*; run ftkit bench again"),
        ({"task_hash": "other-hash"}, r"task t: different settings or items in .* \(hash-of-\) and .* \(other-ha\)"),
    ],
)
def test_another_version_or_content_of_a_task_is_refused(tmp_path, change, message):
    before = write_run(tmp_path / "before", {"t": [1.0]})
    after = write_run(tmp_path / "after", {"t": [1.0]}, **change)
    with pytest.raises(UserError, match=message):
        compare_runs([read_run(before)], read_run(after))


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ({"a": [1.0]}, {"b": [1.0]}, r"shares no task with the runs before \(a \| b\)"),
        ({"a": [1.0, 0.0]}, {"a": [1.0]}, "has 0 items that .* lacks, and lacks 1 of its items; run both to their end"),
    ],
)
def test_runs_that_do_not_fit_are_refused(tmp_path, before, after, message):
    with pytest.raises(UserError, match=message):
        compare(tmp_path, before, after)


def test_a_run_without_items_is_refused(tmp_path):
    paths = [write_run(tmp_path / name, {"a": [1.0]}) for name in ("before", "after")]
    for path in paths:
        (path.parent / "items/a.jsonl").write_text("")
    with pytest.raises(UserError, match="task a has no items; finish it with ftkit bench"):
        compare_runs([read_run(paths[0])], read_run(paths[1]))


def test_a_score_that_is_no_number_is_refused(tmp_path):
    before = write_run(tmp_path / "before", {"a": [1.0, 0.5]})
    file = before.parent / "items/a.jsonl"
    file.write_text(file.read_text().replace("0.5", "NaN"))
    after = write_run(tmp_path / "after", {"a": [1.0, 0.5]})
    with pytest.raises(UserError, match="items/a.jsonl:2: no item of a result"):
        compare_runs([read_run(before)], read_run(after))


def test_items_without_a_common_metric_are_refused(tmp_path):
    before = write_run(tmp_path / "before", {"a": [1.0, 0.5]})
    after = write_run(tmp_path / "after", {"a": [1.0, 0.5]})
    file = after.parent / "items/a.jsonl"
    file.write_text(file.read_text().replace('"acc"', '"f1"'))
    with pytest.raises(UserError, match="task a has no metric that every item has"):
        compare_runs([read_run(before)], read_run(after))


def test_a_forgetting_probe_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match='--forgetting: no task "arithmetik" in both runs; did you mean "arithmetic"'):
        compare(tmp_path, {"arithmetic": [1.0]}, {"arithmetic": [1.0]}, forgetting=["arithmetik"])


def test_the_name_of_a_task_stands_for_its_subjects(tmp_path):
    before = {"new": scores(100, right=20), "mmlu/a": scores(100, right=60), "mmlu/b": scores(100, right=60)}
    verdict = compare(tmp_path, before, before, forgetting=["mmlu"])
    assert [task.task for task in verdict.probes] == ["mmlu/a", "mmlu/b"]


def test_runs_before_that_differ_in_their_examples_are_told_apart(tmp_path):
    model = {"model": {"name": "m"}}
    none = write_run(tmp_path / "none", {"t": scores(60, right=30)}, **model)
    five = write_run(tmp_path / "five", {"t": scores(60, right=35)}, num_fewshot=5, **model)
    after = write_run(tmp_path / "after", {"t": scores(60, right=35)}, num_fewshot=5, **model)
    verdict = compare_runs([read_run(none), read_run(five)], read_run(after))
    assert verdict.tasks[0].before_from == "m, 5-shot"


@pytest.mark.parametrize(
    ("after", "before"), [("", "before"), ("after", "before"), ("benchmark/after", "benchmark/before-own-template")]
)
def test_a_run_folder_is_what_it_measured_last_with_what_it_measured_before(tmp_path, after, before):
    for name in (after, before):
        write_run(tmp_path / name, {"a": [1.0, 0.0]})
    befores, last = read_run_and_befores(tmp_path)
    assert [run.path.parent for run in befores] == [tmp_path / before] and last.path.parent == tmp_path / after
