"""report.md and report.html of a benchmark run: the figures are there, and text of models stays text."""

import json
import re

import pytest
from benchmark_runs import write_run

from ftkit.config.errors import UserError
from ftkit.evaluation.bench.report import histogram, write_bench_report
from ftkit.evaluation.bench.scores import SHARES


def test_the_report_shows_scores_intervals_and_items(tmp_path):
    path = write_run(tmp_path, {"mmlu": [1.0] * 30 + [0.0] * 70}, model={"name": "org/base", "adapter": "runs/mine"})
    page = write_bench_report(path).read_text()
    assert page.count("Benchmark of base + mine") == 2  # title and heading
    assert "30.0 %" in page and "question 0" in page and "question 99" in page and "<svg" in page
    text = (tmp_path / "report.md").read_text()
    assert re.search(r"\| mmlu \| acc \| 30.0 % \| 2[01]\.\d to 39\.\d \| 100 \| 0 \|", text)


def test_groups_stand_below_their_task(tmp_path):
    path = write_run(tmp_path, {"mmlu": [1.0, 0.0]})
    raw = json.loads(path.read_text())
    raw["tasks"]["mmlu"]["scores"]["acc/astronomy"] = {"value": 0.25, "low": 0.1, "high": 0.5, "is_share": True}
    path.write_text(json.dumps(raw))
    page = write_bench_report(path).read_text()
    assert re.search(r"<th scope=\"row\">astronomy</th>\s*<td class=\"number strong\" data-of=\"score\">25.0 %", page)
    assert "| mmlu: astronomy | acc | 25.0 % | 10.0 to 50.0 |  |  |" in (tmp_path / "report.md").read_text()


def test_scores_that_are_no_shares_have_a_histogram_instead_of_bars(tmp_path):
    path = write_run(tmp_path, {"text": [1.2, 3.4, 2.2]}, metric="bits_per_byte", higher_is_better=False)
    page = write_bench_report(path).read_text()
    assert "2.267" in page and 'class="histogram"' in page and 'class="bar"' not in page


def test_what_is_a_share_is_told_by_the_metric_and_not_by_the_value(tmp_path):
    low = write_bench_report(write_run(tmp_path / "bleu", {"text": [0.4, 0.2]}, metric="bleu")).read_text()
    assert "0.3</td>" in low and "30.0 %" not in low
    biased = write_run(tmp_path / "bias", {"text": [1.0, 0.0]}, metric="stereotype_share", higher_is_better=False)
    assert "50.0 %" in write_bench_report(biased).read_text()
    assert {"acc", "rouge1", "stereotype_share"} <= SHARES
    assert not {"bleu", "chrf", "bits_per_byte", "perplexity"} & SHARES


def test_every_value_is_in_the_histogram():
    counts = [int(title.split()[-2]) for *_, title in histogram([0.0, 0.1, 0.1, 1.0])["bars"]]
    assert sum(counts) == 4 and counts[0] == 1 and counts[2] == 2 and counts[-1] == 1
    assert "3 items" in histogram([2.0] * 3)["bars"][0][3]


def test_text_of_models_and_data_stays_text(tmp_path):
    prompts = ["<script>alert(1)</script>"] * 2
    page = write_bench_report(
        write_run(tmp_path, {"t<i>": [1.0, 0.0]}, prompts=prompts, model={"name": "<b>"})
    ).read_text()
    assert "<script" not in page and "<b>" not in page.replace("<b></b>", "") and "<i>" not in page
    assert r"\<b\>" in (tmp_path / "report.md").read_text()


def test_results_that_are_none_are_refused(tmp_path):
    (tmp_path / "results.json").write_text("{}")
    with pytest.raises(UserError, match="results.json: is not a result of the form"):
        write_bench_report(tmp_path / "results.json")
