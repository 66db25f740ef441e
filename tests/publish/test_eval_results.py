"""A benchmark's results in the card's metadata and in .eval_results/, and only what the Hub can place."""

import pytest
import yaml
from huggingface_hub import ModelCard

from ftkit.config.errors import UserError
from ftkit.evaluation.results import Results, Score, TaskResult, write_results
from ftkit.publish.card.eval_results import benchmark_results, entries_yaml, with_benchmark
from ftkit.publish.card.model_card import card_for
from ftkit.publish.hub.upload_plan import plan_upload


def write_benchmark(folder, num_fewshot=5, **settings):
    """A run of a Hub task, one of its subjects, one with rows of a file, and one of the person's own."""
    (folder / "benchmark").mkdir(parents=True, exist_ok=True)
    tasks = {
        name: TaskResult(
            name, 1, "hash", 100, num_fewshot, "acc", {"acc": Score(value, 0.1, 0.9)}, "items/x.jsonl", data=data
        )
        for name, value, data in (
            ("mmlu", 0.31, "cais/mmlu"), ("mmlu/astronomy", 0.42, "cais/mmlu"), ("hellaswag", 0.5, ""), ("gsm8k", 0.9, "")
        )
    }  # fmt: skip
    settings = {"limit": None} | settings
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


def test_a_subject_is_told_as_the_part_of_its_dataset(tmp_path):
    write_benchmark(tmp_path)
    assert [one.dataset_config for one in benchmark_results(tmp_path)] == ["all", "astronomy"]
    card = ModelCard(with_benchmark("---\nlicense: mit\n---\n", tmp_path))
    read = [(one.dataset_name, one.dataset_config) for one in card.data.eval_results]
    assert read == [("mmlu, 5-shot, 100 items", "all"), ("mmlu/astronomy, 5-shot, 100 items", "astronomy")]


def test_a_later_run_with_other_examples_takes_the_place_of_the_earlier(tmp_path):
    write_benchmark(tmp_path)
    card = with_benchmark("---\nlicense: mit\n---\n", tmp_path)
    write_benchmark(tmp_path, num_fewshot=0)
    names = [one.dataset_name for one in ModelCard(with_benchmark(card, tmp_path)).data.eval_results]
    assert names == ["mmlu, 0-shot, 100 items", "mmlu/astronomy, 0-shot, 100 items"]


def test_a_benchmark_that_is_cut_is_named_and_another_file_is_none(tmp_path):
    write_benchmark(tmp_path)
    path = tmp_path / "benchmark/results.json"
    path.write_text(path.read_text()[:-20])
    with pytest.raises(UserError, match="results.json: not JSON|line 1|Expecting"):
        benchmark_results(tmp_path)
    path.write_text("[]")
    assert benchmark_results(tmp_path) == []
