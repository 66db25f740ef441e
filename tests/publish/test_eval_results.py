"""A benchmark's results in the card's metadata and in .eval_results/, and only what the Hub can place."""

import yaml
from huggingface_hub import ModelCard

from ftkit.evaluation.results import Results, Score, TaskResult, write_results
from ftkit.publish.eval_results import benchmark_results, entries_yaml, with_benchmark
from ftkit.publish.model_card import card_for
from ftkit.publish.upload_plan import plan_upload


def write_benchmark(folder, **settings):
    """A run of a Hub task, one of its subjects, one with rows of a file, and one of the person's own."""
    (folder / "benchmark").mkdir(parents=True)
    tasks = {
        name: TaskResult(name, 1, "hash", 100, 5, "acc", {"acc": Score(value, 0.1, 0.9)}, "items/x.jsonl")
        for name, value in (("mmlu", 0.31), ("mmlu/astronomy", 0.42), ("hellaswag", 0.5), ("my_task", 0.9))
    }
    settings = {"limit": None, "task_data": {"hellaswag": "rows.jsonl"}} | settings
    write_results(folder / "benchmark/results.json", Results({}, tasks, settings, {"ftkit": "9.9"}))


def test_only_tasks_whose_rows_are_on_the_hub_are_told(tmp_path):
    write_benchmark(tmp_path)
    assert [(one.dataset_type, one.dataset_name, one.metric_value) for one in benchmark_results(tmp_path)] == [
        ("cais/mmlu", "mmlu, 5-shot, 100 items", 0.31), ("cais/mmlu", "mmlu/astronomy, 5-shot, 100 items", 0.42),
    ]  # fmt: skip


def test_entries_have_the_form_of_the_hub(tmp_path):
    write_benchmark(tmp_path)
    first, second = yaml.safe_load(entries_yaml(tmp_path))
    assert first["dataset"] == {"id": "cais/mmlu", "task_id": "mmlu"} and first["value"] == 0.31
    assert second["dataset"]["task_id"] == "astronomy"
    assert first["notes"] == "acc, 5-shot, 100 items, ftkit 9.9"


def test_a_part_of_a_benchmark_is_no_entry(tmp_path):
    write_benchmark(tmp_path, limit=10)
    assert entries_yaml(tmp_path) == "" and len(benchmark_results(tmp_path)) == 2


def test_a_folder_without_a_benchmark_has_no_results(tmp_path):
    assert benchmark_results(tmp_path) == [] and entries_yaml(tmp_path) == ""
    (tmp_path / "benchmark").mkdir()
    (tmp_path / "benchmark/results.json").write_text('{"rows": []}')
    assert benchmark_results(tmp_path) == [] and with_benchmark("text", tmp_path) == "text"


def test_a_card_that_is_there_keeps_its_text_and_its_other_results(tmp_path):
    write_benchmark(tmp_path)
    before = """---
model-index:
- name: mine
  results:
  - task: {type: text-generation}
    dataset: {type: owner/rows, name: 'owner/rows, held-out rows'}
    metrics: [{type: loss, value: 1.25, name: answer loss}]
---

# Mine

Text of a person.
"""
    once = with_benchmark(before, tmp_path)
    assert with_benchmark(once, tmp_path) == once
    card = ModelCard(once)
    assert [one.metric_value for one in card.data.eval_results] == [1.25, 0.31, 0.42]
    assert card.data.model_name == "mine" and card.text.strip().endswith("Text of a person.")


def test_a_new_card_and_a_push_tell_the_benchmark(pushed_folder):
    write_benchmark(pushed_folder)
    card = ModelCard(card_for(pushed_folder, "owner/name"))
    assert [one.dataset_type for one in card.data.eval_results] == ["cais/mmlu"] * 2
    files = {file.name: file for file in plan_upload(pushed_folder, "owner/name").files}
    assert b"cais/mmlu" in files[".eval_results/ftkit.yaml"].content
    assert b"cais/mmlu" in files["README.md"].content
