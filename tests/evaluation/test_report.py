"""The report page: every part that a run wrote, nothing that it did not, and no text that becomes markup."""

import json
import os
from datetime import datetime
from html.parser import HTMLParser
from pathlib import Path

import pytest
from benchmark_runs import write_run as write_benchmark
from jinja2 import UndefinedError

from ftkit.config.jsonl import read_log
from ftkit.evaluation.pages import report
from ftkit.evaluation.pages.charts import loss_chart, loss_points, save_loss_png, ticks
from ftkit.evaluation.pages.naming import run_title
from ftkit.evaluation.pages.page import environment, number_text
from ftkit.evaluation.pages.report import write_loss_plot, write_report
from ftkit.evaluation.results import Item, Results, Score, mean_score, task_of, write_run

EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&"
VOID = {"meta", "link", "img", "br"}


class Page(HTMLParser):
    """Tags, attributes and text of a page; checks that tags are balanced."""

    def __init__(self, page: str):
        super().__init__()
        self.open, self.tags, self.attributes, self.texts, self.marked = [], [], [], [], []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)
        if "mark" in self.open and "pre" in self.open:
            self.marked.append(data)


def write_lines(path: Path, records: list[dict]) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")


def make_run(folder: Path) -> None:
    (folder / "run.yaml").write_text(
        "model_name_or_path: org/base\ndataset_name: /data/rows.jsonl\nlearning_rate: 0.0002\nsystem: null\n"
    )
    receipt = {
        "num_rows": 12345, "num_tokens": 1356, "num_trained_tokens": 678, "packed": False, "num_unknown_tokens": 0,
        "template": {"name": "alpaca"}, "longest_rows": [{"num_tokens": 44, "source": "/data/rows.jsonl:3"}],
        "typical_rows": [
            {"source": "rows.jsonl:7", "num_tokens": 4, "tokens": [["Q: <b>", False], ["answer </pre>", True]]},
            {"source": None, "num_tokens": 2, "tokens": [["context only", False]]},
        ],
    }  # fmt: skip
    (folder / "receipt.json").write_text(json.dumps(receipt))
    write_lines(
        folder / "metrics.jsonl",
        [
            {"step": 0, "eval_loss": 3.25},
            {"step": 1, "loss": 3.0, "useful_tokens_per_second": 170.4, "peak_memory_gib": 1.5},
            {"step": 2, "loss": 1.0, "useful_tokens_per_second": 180.4, "peak_memory_gib": 1.75},
            {"step": 2, "eval_loss": 0.5},
        ],
    )
    os.utime(folder / "metrics.jsonl", (noon := datetime(2026, 5, 3, 12).timestamp(), noon))
    write_lines(
        folder / "samples.jsonl",
        [
            {"step": 0, "prompt": "past of see?", "reference": "saw", "answer": "It is saw."},
            {"step": 2, "prompt": "past of see?", "reference": "saw", "answer": "saw."},
        ],
    )
    for name, num_right, loss in (("before", 14, 3.31), ("before-copying-the-input", 0, None), ("", 152, 0.52)):
        items = [
            Item(str(number), {"exact_match": float(number < num_right)}, f"question {number}") for number in range(200)
        ]
        scores = {"exact_match": mean_score([item.scores["exact_match"] for item in items])}
        scores |= {"answer_loss": Score(loss, higher_is_better=False)} if loss else {}
        write_run(folder / name, Results({"name": name}, {"words": task_of("words", items, scores)}), {"words": items})


def test_page_shows_settings_receipt_curve_samples_and_results(tmp_path):
    make_run(tmp_path)
    path = write_report(tmp_path)
    assert path == tmp_path / "report.html"
    page = Page(path.read_text(encoding="utf-8"))
    text = " ".join(page.texts)
    for part in (
        "Full fine-tune of base on rows.jsonl", "3 May 2026 · folder", "12,345 read", "678 trained (50.0 %)", "alpaca", "rows.jsonl:7, 4 tokens",
        "3.250 → 0.500", "1.75 GiB", "76.0 %", "69.6 to 81.4", "0.52", "before, copying the input", "past of see?",
        "It is saw.", "better on words", "44 tokens (data/rows.jsonl:3)",
    ):  # fmt: skip
        assert part in text, part
    assert page.tags.count("polyline") == 0 and page.tags.count("circle") == 4  # few points are dots
    assert page.tags.count("h2") == 5


def test_trained_text_is_marked_and_context_is_not(tmp_path):
    make_run(tmp_path)
    assert Page(write_report(tmp_path).read_text()).marked == ["answer </pre>"]


def test_answers_that_match_the_reference_are_ticked(tmp_path):
    make_run(tmp_path)
    page = write_report(tmp_path).read_text()
    assert '<td class="right"><pre>saw.</pre></td>' in page
    assert "<td><pre>It is saw.</pre></td>" in page


def test_settings_that_are_none_and_absent_numbers_are_left_blank(tmp_path):
    make_run(tmp_path)
    texts = Page(write_report(tmp_path).read_text()).texts
    assert "ftkit sft --model_name_or_path org/base --dataset_name /data/rows.jsonl --learning_rate 0.0002" in texts
    assert not [text for text in texts if "None" in text]


@pytest.mark.parametrize("absent", ["run.yaml", "receipt.json", "metrics.jsonl", "samples.jsonl", "results.json"])
def test_a_missing_file_leaves_out_its_section_only(tmp_path, absent):
    make_run(tmp_path)
    (tmp_path / absent).unlink()
    assert Page(write_report(tmp_path).read_text()).tags.count("h2") == 4


def test_an_empty_folder_still_gives_a_page(tmp_path):
    assert "This folder holds no run." in write_report(tmp_path).read_text()
    assert write_loss_plot(tmp_path) is None


def test_text_of_users_and_models_never_becomes_markup(tmp_path):
    folder = tmp_path / "<i>run"
    folder.mkdir()
    (folder / "run.yaml").write_text(json.dumps({"model_name_or_path": EVIL, EVIL: [EVIL]}))
    receipt = {
        "num_rows": 1,
        "dropped": {EVIL: 1},
        "template": {"name": EVIL},
        "longest_rows": [{"num_tokens": 1, "source": EVIL}],
        "typical_rows": [{"source": EVIL, "num_tokens": 2, "tokens": [[EVIL, True], [EVIL, False]]}],
    }
    (folder / "receipt.json").write_text(json.dumps(receipt))
    write_lines(
        folder / "metrics.jsonl",
        [{"step": 1, "loss": 1.0, "useful_tokens_per_second": EVIL}, {"step": EVIL, "loss": 1.0}],
    )
    write_lines(folder / "samples.jsonl", [{"step": EVIL, "prompt": EVIL, "reference": EVIL, "answer": EVIL}])
    items = [Item("1", {EVIL: 1.0}, EVIL, EVIL, EVIL)]
    for place in (folder, folder / f"before-{EVIL[1:7]}"):
        task = task_of(EVIL.replace("/", ""), items, {EVIL: Score(1.0, 0.5, 1.0, is_share=True)})
        write_run(place, Results({"name": EVIL}, {task.name: task}), {task.name: items})
    page = Page(write_report(folder).read_text(encoding="utf-8"))
    assert not {"script", "img", "i"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert EVIL in page.texts


def test_page_loads_nothing_from_elsewhere(tmp_path):
    make_run(tmp_path)
    page = Page(write_report(tmp_path).read_text())
    assert not {"link", "script", "iframe"} & set(page.tags)
    assert not {"src", "href"} & {name for name, _ in page.attributes}
    policy = [value for name, value in page.attributes if name == "content"]
    assert any(value.startswith("default-src 'none'") for value in policy)


def test_half_written_line_is_skipped_with_a_warning(tmp_path, caplog):
    make_run(tmp_path)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "lo')
    write_report(tmp_path)
    assert "metrics.jsonl:5: no record" in caplog.text


def test_a_text_with_other_line_ends_is_one_text(tmp_path):
    make_run(tmp_path)
    answer = "one\u2028two\x85three\x0cfour"
    sample = {"step": 0, "prompt": answer, "reference": "saw", "answer": answer}
    (tmp_path / "samples.jsonl").write_text(json.dumps(sample, ensure_ascii=False) + "\n", encoding="utf-8")
    item = {"prompt": answer, "prediction": "spam", "reference": "ham", "extra": {"probabilities": {"spam": 0.9}}}
    (tmp_path / "items/classification.jsonl").write_text(json.dumps(item, ensure_ascii=False) + "\n", encoding="utf-8")
    assert "two\x85three" in write_report(tmp_path).read_text(encoding="utf-8")
    assert read_log(tmp_path / "items/classification.jsonl") == [item]


def test_loss_plot_is_a_png(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "save_loss_png", save_loss_png)  # which other tests draw once
    make_run(tmp_path)
    path = write_loss_plot(tmp_path)
    assert path == tmp_path / "loss.png"
    assert path.read_bytes().startswith(b"\x89PNG")


def test_loss_points_leave_out_what_is_no_number():
    lines = [
        {"step": 1, "loss": 2.0},
        {"step": 2, "loss": float("nan")},
        {"step": 3, "eval_loss": 1},
        {"step": None, "loss": 1.0},
    ]
    assert loss_points(lines) == ([(1, 2.0)], [(3, 1)])


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 60, [0, 20, 40, 60]),
        (0, 3.3, [0, 1, 2, 3, 4]),
        (0, 0.04, [0, 0.01, 0.02, 0.03, 0.04]),
        (0, 0, [0, 0.2, 0.4, 0.6, 0.8, 1]),
    ],
)
def test_ticks_are_round_numbers_that_cover_the_range(low, high, expected):
    assert ticks(low, high) == pytest.approx(expected)


def test_a_curve_of_few_points_is_dots_and_one_of_more_a_line_whose_evaluations_stay_dots():
    (line,) = loss_chart([(1, 2.0)], []).lines
    assert len(line.points) == len(line.dots) == 1 and not line.has_line
    train, evaluation = loss_chart([(step, 2.0) for step in range(9)], [(0, 3.0), (8, 1.5)]).lines
    assert train.has_line and not train.dots
    assert len(evaluation.dots) == 2 and not evaluation.has_line
    assert evaluation.dots[1][3] == "update 8: evaluation loss 1.5000"
    (evaluation,) = loss_chart([], [(step, 3.0) for step in range(4)]).lines
    assert evaluation.has_line and len(evaluation.dots) == 4


def test_a_run_is_called_by_what_was_done_to_which_model_on_which_data():
    cached = "/home/me/.cache/hub/models--org--small/snapshots/0123abc"
    settings = {"model_name_or_path": cached, "dataset_name": "/data/rows.jsonl", "use_peft": True}
    assert run_title(settings, "sft") == "LoRA of small on rows.jsonl"
    assert run_title(settings | {"load_in_4bit": True}, "dpo") == "DPO, QLoRA of small on rows.jsonl"
    assert run_title(settings | {"use_peft": False}, "classify") == "Classifier, full fine-tune of small on rows.jsonl"
    assert run_title({"dataset_name": "texts"}, "pretrain") == "Pretrained from random weights on texts"
    assert run_title({}, "sft") == ""


def test_the_verdict_stands_above_everything_else_and_is_said_once(tmp_path):
    make_run(tmp_path)
    page = write_report(tmp_path).read_text()
    body = page.partition("</style>")[2]
    assert body.count("better on words") == 1
    assert (
        body.index("3 May 2026") < body.index("better on words") < body.index("tiles") < body.index("Before and after")
    )


def test_the_tokens_of_a_report_are_those_of_the_whole_run(tmp_path):
    make_run(tmp_path)
    receipt = json.loads((tmp_path / "receipt.json").read_text())
    receipt["run"] = {"num_trained_tokens": 2034, "num_tokens": 4068}
    (tmp_path / "receipt.json").write_text(json.dumps(receipt))
    text = " ".join(Page(write_report(tmp_path).read_text()).texts)
    assert "2,034 tokens trained, of 4,068 read" in text and "678 trained (50.0 %), 0 context per pass" in text


def test_points_are_placed_by_step_and_loss():
    # 0 to 2 updates from left to right, 0 to 4 nats from the bottom to the top
    assert loss_chart([(0, 4.0), (2, 0.0)], []).lines[0].path == "0.00,0.00 100.00,100.00"


def test_the_axis_fits_the_values_and_shows_no_noise_as_a_mountain():
    assert loss_chart([(0, 10.8), (9, 3.3)], []).up[0] == (100.0, "2")
    assert loss_chart([(0, 3.0), (9, 0.5)], []).up[0] == (100.0, "0.5")
    ends = loss_chart([(0, 0.6931), (9, 0.6937)], []).up
    assert float(ends[-1][1]) - float(ends[0][1]) >= 0.03


def test_the_axis_across_ends_with_the_run():
    chart = loss_chart([(0, 4.0), (12, 0.0)], [])
    assert [text for _, text in chart.across] == ["0", "5", "10"] and chart.lines[0].points[1][0] == 100


def test_counts_of_a_receipt_are_words_without_zeros(tmp_path):
    make_run(tmp_path)
    text = write_report(tmp_path).read_text().partition("</style>")[2]
    assert "num_" not in text and "unknown" not in text and "padding" not in text


def test_runs_that_do_not_fit_leave_the_report_without_a_verdict(tmp_path):
    make_run(tmp_path)
    (tmp_path / "before/items/words.jsonl").unlink()
    text = " ".join(Page(write_report(tmp_path).read_text()).texts)
    assert "not compared: before/items/words.jsonl: no such file" in text and "76.0 %" in text


def test_the_verdict_of_the_runs_benchmark_is_on_the_page(tmp_path):
    make_run(tmp_path)
    for name in ("before", "after"):
        write_benchmark(tmp_path / "benchmark" / name, {"mmlu": [0.0] * 30 if name == "before" else [1.0] * 30})
    texts = Page(write_report(tmp_path).read_text()).texts
    assert any(text.startswith("benchmark: better on mmlu; acc ") for text in texts)


def test_a_name_that_a_template_lacks_is_an_error():
    with pytest.raises(UndefinedError):
        environment().get_template("rows.html").render(title="x", subtitles=[], date="")


@pytest.mark.parametrize(
    ("value", "text"),
    [(12345, "12,345"), (0.0002, "0.0002"), (1.23456, "1.235"), (None, ""), (True, "true"), ("a", "a")],
)
def test_numbers_are_shown_as_people_read_them(value, text):
    assert number_text(value) == text
