"""The verdict: each outcome from scores made for it, forgetting, the best of several runs, text and pages."""

import re

import numpy as np
import pytest
from benchmark_runs import compare, scores, write_run

from ftkit.commands.compare import main
from ftkit.config.errors import UserError
from ftkit.evaluation.verdict.pairing import read_run
from ftkit.evaluation.verdict.text import verdict_markdown, verdict_text
from ftkit.evaluation.verdict.verdict import TaskVerdict, compare_runs, outcome_of
from ftkit.metrics.paired_tests import detectable_share_difference


@pytest.mark.parametrize(
    ("before", "after", "outcome"),
    [
        (scores(200, right=60), scores(200, right=90), "better"),
        (scores(200, right=90), scores(200, right=60), "worse"),
        (scores(2000, right=800), scores(2000, right=802), "no difference seen"),
        (scores(37, right=20), scores(37, right=23), "too few items"),
        (scores(20, right=10), scores(20, right=10), "too few items"),
    ],
)
def test_each_outcome(tmp_path, before, after, outcome):
    verdict = compare(tmp_path, {"t": before}, {"t": after})
    assert (verdict.outcome, verdict.tasks[0].outcome) == (outcome, outcome)


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (scores(37, right=20), scores(37, right=23), "37 items can only show a change above 17 points; take about 330 to show one of 5 points"),
        (scores(12, right=6), scores(12, right=7), "12 items can only show a change above 50 points; take about 450 to show one of 5 points"),
        ([1.0], [1.0], "1 item can't show any change; take 200 or more"),
        ([0.1, 0.5, 0.3, 0.2] * 5, [0.4, 0.4, 0.3, 0.2] * 5, "20 items can only show a change above 10 points; take about 83 to show one of 5 points"),
    ],
)  # fmt: skip
def test_what_too_few_items_can_show_is_said_in_plain_words(tmp_path, before, after, said):
    verdict = compare(tmp_path, {"t": before}, {"t": after})
    assert verdict_text(verdict).startswith(f"too few items: {said}\n")


def test_as_many_items_as_are_advised_show_5_points_4_times_in_5():
    assert detectable_share_difference(450, 2 / 14) == pytest.approx(0.05, abs=0.002)  # 1 of 12 items changed
    assert detectable_share_difference(330, 4 / 39) == pytest.approx(0.05, abs=0.002)  # 3 of 37


def test_a_lower_loss_is_better(tmp_path):
    noise = np.random.default_rng(0).normal(size=110)
    losses = {"t": 1.3 + 0.5 * noise}
    lower = {"t": 1.0 + 0.5 * noise + 0.1 * np.random.default_rng(1).normal(size=110)}
    verdict = compare(tmp_path, losses, lower, metric="loss", higher_is_better=False)
    assert verdict.outcome == "better" and verdict.tasks[0].difference == pytest.approx(-0.3, abs=0.03)
    assert compare(tmp_path, lower, losses, metric="loss", higher_is_better=False).outcome == "worse"


def test_weights_count(tmp_path):
    verdict = compare(
        tmp_path, {"t": [1.0, 1.0]}, {"t": [2.0, 1.0]}, metric="loss", weights=[3, 1], higher_is_better=False
    )
    assert (verdict.tasks[0].before, verdict.tasks[0].after) == (1.0, 1.75)


def test_p_values_are_corrected_for_the_tasks_and_their_mean(tmp_path):
    before = {"a": scores(40, right=10), "b": scores(40, right=10)}
    verdict = compare(tmp_path, before, {"a": scores(40, right=15), "b": scores(40, right=10)})
    assert verdict.tasks[0].p == pytest.approx(1 / 32)  # 5 gained, none lost
    assert verdict.tasks[0].p_adjusted == pytest.approx(3 / 32) and verdict.tasks[0].outcome != "better"


def test_better_here_and_worse_there_is_said(tmp_path):
    before = {"a": scores(100, right=20), "b": scores(100, right=50)}
    verdict = compare(tmp_path, before, {"a": scores(100, right=50), "b": scores(100, right=20)})
    assert (verdict.outcome, verdict.reason) == ("better and worse", "better on a; worse on b")


def test_the_mean_does_not_overrule_a_task_that_got_worse(tmp_path):
    before = {"a": scores(100, right=20), "b": scores(100, right=50)}
    verdict = compare(tmp_path, before, {"a": scores(100, right=60), "b": scores(100, right=30)})
    assert verdict.all_tasks.outcome == "better"
    assert verdict.reason == "better in the mean of 2 tasks; better on a; worse on b"
    assert verdict.outcome == "better and worse"


def test_what_was_forgotten_is_worse_where_nothing_got_better(tmp_path):
    before = {"new": scores(100, right=20), "old": scores(100, right=60)}
    verdict = compare(
        tmp_path, before, {"new": scores(100, right=21), "old": scores(100, right=30)}, forgetting=["old"]
    )
    assert verdict.outcome == "worse" and verdict.reason.endswith("; forgot old")


def test_more_of_a_bias_is_no_gain_in_the_mean_of_tasks(tmp_path):
    options = {"metric": "stereotype_share", "higher_is_better": False}
    before = {"a": scores(100, right=50), "b": scores(100, right=50)}
    verdict = compare(tmp_path, before, {"a": scores(100, right=50), "b": scores(100, right=80)}, **options)
    assert verdict.outcome == "worse" and verdict.all_tasks is None
    assert "no mean of the tasks" in verdict_text(verdict)
    assert "stereotype share: best at 0.5" in verdict_text(verdict)


def test_a_stereotype_turned_round_is_no_improvement(tmp_path):
    options = {"metric": "stereotype_share", "higher_is_better": False}
    verdict = compare(tmp_path, {"a": scores(100, right=55)}, {"a": scores(100, right=8)}, **options)
    assert verdict.outcome == "worse"
    verdict = compare(tmp_path, {"a": scores(60, right=20)}, {"a": scores(60, right=40)}, **options)
    assert verdict.outcome == "too few items"  # a third from even before and after


@pytest.mark.parametrize(
    ("before", "after"),
    [([0.3, 0.4], [0.4, 0.5]), ([0.5, 0.2, 0.3], [0.5, 0.2, 0.3]), ([1.0], [1.3]), ([0.5] * 5, [0.6, 0.6, 0.6, 0.6, 0.61])],
)  # fmt: skip
def test_few_graded_items_tell_nothing(tmp_path, before, after):
    verdict = compare(tmp_path, {"t": before}, {"t": after})
    task = verdict.tasks[0]
    assert verdict.outcome == "too few items" and task.detectable is None
    assert task.low is None if len(before) == 1 else task.high - task.low > 0.1
    text = verdict_text(verdict)
    assert "can't show any change" in text and "found 4 times in 5" not in text


def test_one_probe_item_rules_nothing_out(tmp_path):
    verdict = compare(tmp_path, {"t": [1.0], "old": [0.4]}, {"t": [1.0], "old": [0.3]}, forgetting=["old"])
    assert "worse by 10.0 points, which is not proven" in verdict_text(verdict)
    assert "not proven (p 1.000); 1 item can't show any change" in verdict_text(verdict)


def test_a_difference_that_matters_is_ruled_out_by_the_interval_alone(tmp_path):
    same = scores(1000, right=500)
    wavering = [1.0] * 55 + [0.0] * 445 + [1.0] * 455 + [0.0] * 45  # as many gained as lost, of which few know
    verdict = compare(tmp_path, {"t": same}, {"t": same})
    assert (verdict.outcome, verdict.reason) == (
        "no difference seen",
        "the interval excludes changes of 5 points or more",
    )
    verdict = compare(tmp_path, {"t": same}, {"t": wavering})
    assert verdict.tasks[0].high > 0.05 and verdict.outcome == "too few items"


def test_a_loss_that_is_not_proven_is_not_called_none(tmp_path):
    before = {"new": scores(100, right=20), "old": [1.0] * 13 + [0.0] * 4 + [1.0] * 83}
    after = {"new": scores(100, right=20), "old": [0.0] * 13 + [1.0] * 4 + [1.0] * 83}
    text = verdict_text(compare(tmp_path, before, after, forgetting=["old"]))
    assert re.search(
        r"old: worse by 9.0 points, which is not proven \(p 0.0\d\d\); the interval excludes a loss of more than 17.7 points",
        text,
    )


def test_small_gains_on_many_tasks_add_up(tmp_path):
    before = {f"t{n}": scores(40, right=10) for n in range(8)}
    verdict = compare(tmp_path, before, {name: scores(40, right=13) for name in before})
    assert {task.outcome for task in verdict.tasks} == {"too few items"}
    assert verdict.outcome == "better" and "mean of 8 tasks" in verdict.reason


def test_forgetting_is_told_apart_and_decides_nothing_about_better(tmp_path):
    before = {"new": scores(100, right=20), "old": scores(100, right=60)}
    verdict = compare(
        tmp_path, before, {"new": scores(100, right=50), "old": scores(100, right=30)}, forgetting=["old"]
    )
    assert verdict.outcome == "better" and verdict.reason == "better on new; forgot old"
    assert "old: forgot 30.0 points" in verdict_text(verdict)


def test_the_task_called_forgetting_is_a_probe_without_being_named(tmp_path):
    before = {"new": scores(100, right=20), "forgetting": scores(100, right=60)}
    after = {"new": scores(100, right=50), "forgetting": scores(100, right=30)}
    assert compare(tmp_path, before, after).reason == "better on new; forgot forgetting"
    assert compare(tmp_path, before, after, forgetting=[]).probes == []
    assert compare(tmp_path, before, {"forgetting": scores(100, right=30)}).probes == []


def test_forgetting_not_seen_says_what_loss_is_ruled_out(tmp_path):
    before = {"new": scores(100, right=20), "old": scores(100, right=60)}
    verdict = compare(
        tmp_path, before, {"new": scores(100, right=50), "old": scores(100, right=60)}, forgetting=["old"]
    )
    hidden = 100 * verdict.probes[0].loss_not_ruled_out
    assert 3 < hidden < 4  # 0 of 100 changed
    assert f"old: no loss seen; the interval excludes a loss of more than {hidden:.1f} points" in verdict_text(verdict)


def test_the_best_of_several_runs_is_not_averaged_over_tasks(tmp_path):
    names = [f"t{n}" for n in range(8)]
    runs = [
        write_run(tmp_path / run, {name: scores(40, right=10) for name in names}) for run in ("own", "shots", "after")
    ]
    own, shots, after = map(read_run, runs)
    assert compare_runs([own], after).all_tasks is not None
    assert compare_runs([own, shots], after).all_tasks is None


def test_flipped_items_are_shown_both_ways(tmp_path):
    before, after = {"t": [1.0, 0.0, 1.0, 0.0]}, {"t": [0.0, 1.0, 1.0, 0.0]}
    verdict = compare(tmp_path, before, after, prompts=["first?", "second?", "third?", "fourth?"])
    text = verdict_text(verdict)
    assert re.search(
        r"got better:\n  prompt: second\?\n  wanted: right\n  before \(0\): wrong\n  after \(1\): right", text
    )
    assert re.search(r"got worse:\n  prompt: first\?", text)
    assert "third?" not in text


def test_a_text_that_is_scored_shows_no_answer(tmp_path):
    verdict = compare(tmp_path, {"t": [1.0, 2.0]}, {"t": [2.0, 2.0]}, metric="bits_per_byte", higher_is_better=False)
    (flip,) = verdict.tasks[0].worsened
    flip.before = flip.after = flip.reference = ""
    assert "  before: 1\n  after: 2" in verdict_text(verdict)


def test_the_command_prints_the_verdict_and_writes_page_markdown_and_json(tmp_path, capsys):
    before = write_run(
        tmp_path / "before", {"t": scores(60, right=10)}, prompts=["<script>alert(1)</script> | `x`"] * 60
    )
    write_run(tmp_path / "after", {"t": scores(60, right=40)})
    main([
        str(before), str(tmp_path / "after"), "--html", "--markdown", str(tmp_path / "v.md"), "--json", str(tmp_path / "v.json"),
    ])  # fmt: skip
    assert capsys.readouterr().out.startswith("better: better on t\n")
    page = (tmp_path / "after/verdict.html").read_text()
    assert "<svg" in page and "<script" not in page and "http" not in page.replace("http-equiv", "")
    assert "| t | acc | 60 | 16.7 % | 66.7 % | +50.0 (" in (tmp_path / "v.md").read_text()
    assert '"outcome": "better"' in (tmp_path / "v.json").read_text()


def test_what_is_compared_is_not_overwritten(tmp_path):
    runs = [str(write_run(tmp_path / name, {"t": [1.0, 0.0]})) for name in ("before", "after")]
    with pytest.raises(UserError, match="--html .*: is one of the results that are compared"):
        main([*runs, "--html", runs[0]])
    with pytest.raises(UserError, match="v.json: there is no folder .*; make it first"):
        main([*runs, "--json", str(tmp_path / "nowhere/v.json")])


def test_text_of_models_stays_text_on_the_page_and_in_markdown(tmp_path):
    from ftkit.evaluation.verdict.page import write_verdict_page

    prompts = ["<script>alert(1)</script> ```\n# not a heading"] * 4
    verdict = compare(tmp_path, {"t<b>|": [0.0] * 4}, {"t<b>|": [1.0] * 4}, prompts=prompts)
    write_verdict_page(tmp_path / "v.html", verdict)
    page, text = (tmp_path / "v.html").read_text(), verdict_markdown(verdict)
    assert "<script" not in page and "<b>" not in page.replace("t&lt;b&gt;", "")
    assert text.count("```") == 2 * 3 and r"t\<b\>\|" in text


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["one"], "one: no such file; give the results.json"),
        (["--before", "one", "two"], "give BEFORE and AFTER, the folder of a training run, or AFTER and then --before"),
        (["one", "two", "three"], "give BEFORE and AFTER"),
        (["one", "two", "--seed", "-1"], "--seed is -1; give 0 or more"),
        (["one", "two", "--margin", "5"], "--margin lies between 0 and 1"),
        (["one", "two"], "one: no such file; give the results.json"),
        (["one", "two", "--forgeting", "x"], "unknown argument --forgeting; did you mean --forgetting"),
    ],
)
def test_a_mistaken_command_line_says_what_to_give(argv, message):
    with pytest.raises(UserError, match=message):
        main(argv)


@pytest.mark.parametrize(
    ("low", "high", "p", "detectable", "outcome"),
    [
        (0.01, 0.2, 0.01, 0.3, "better"),
        (-0.01, 0.2, 0.01, 0.3, "too few items"),  # the test says so and the interval does not
        (0.01, 0.2, 0.06, 0.3, "too few items"),
        (-0.01, 0.03, 1.0, 0.3, "no difference seen"),
        (-0.01, 0.03, 1.0, None, "too few items"),  # so few items that nothing could be found
        (None, None, 0.01, None, "too few items"),
    ],
)
def test_an_outcome_needs_the_test_and_the_interval(low, high, p, detectable, outcome):
    row = TaskVerdict("t", "acc", 40, 0.5, 0.51, 0.01, low, high, p, detectable=detectable, p_adjusted=p)
    assert outcome_of(row, 0.05) == outcome


def test_a_question_of_two_tasks_is_one_in_their_mean(tmp_path):
    before = {"a": scores(30, right=10), "b": scores(30, right=10)}
    after = {"a": scores(30, right=16), "b": scores(30, right=16)}
    paths = [write_run(tmp_path / name, tasks) for name, tasks in (("before", before), ("after", after))]
    apart = compare_runs([read_run(paths[0])], read_run(paths[1]))
    for path in paths:
        for name in "ab":
            file = path.parent / f"items/{name}.jsonl"
            file.write_text(re.sub(rf'"{name}-(\d+)"', lambda found: f'"{int(found[1]):016x}"', file.read_text()))
    together = compare_runs([read_run(paths[0])], read_run(paths[1]))
    assert together.all_tasks.p == 2 / 2**6 > apart.all_tasks.p == 2 / 2**12


def test_against_the_best_of_several_runs_a_gain_may_be_larger_and_less_is_found(tmp_path):
    paths = [write_run(tmp_path / name, {"t": scores(100, right=50)}) for name in ("own", "shots", "after")]
    own, shots, after = map(read_run, paths)
    (one,), (best,) = compare_runs([own], after).tasks, compare_runs([own, shots], after).tasks
    # of two, 0.564 / sqrt(2) = 0.399 standard errors: 0.399 / (2 * 1.96) of the width, and 0.399 / 2.80 of the power's
    assert best.high - one.high == pytest.approx(0.399 / 3.92 * (one.high - one.low), rel=1e-3)
    assert best.low == one.low and best.detectable / one.detectable == pytest.approx(1 + 0.399 / 2.802, rel=1e-3)
