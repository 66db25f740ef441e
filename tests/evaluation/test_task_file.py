"""Task files: the bundled ones are valid, and each mistake in one names file, line and what is meant."""

import pytest

from ftkit.config.errors import UserError
from ftkit.evaluation.bench.task_file import METRICS, bundled_tasks, load_task

GOOD = """version: 1
about: "a task"
kind: multiple_choice
metrics: [acc]
data: rows.jsonl
prompt: "{{ question }}"
choices: [A, B]
answer: "{{ answer }}"
"""


def write(tmp_path, text: str):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", bundled_tasks())
def test_every_bundled_task_is_valid(name):
    task = load_task(name)
    assert task.name == name and task.about and not task.about.endswith(".")


def test_the_hash_is_of_what_is_asked_and_not_of_where_the_rows_lie(tmp_path):
    one = load_task(str(write(tmp_path, GOOD))).settings_hash
    assert load_task(str(write(tmp_path, GOOD.replace("rows.jsonl", "other.jsonl")))).settings_hash == one
    assert load_task(str(write(tmp_path, GOOD + "num_fewshot: 2\n"))).settings_hash == one
    assert load_task(str(write(tmp_path, GOOD.replace("{{ question }}", "{{ question }}?")))).settings_hash != one


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("prompt:", "promt:", r'mine.yaml:6: unknown setting "promt"; did you mean "prompt"'),
        ("version: 1\n", "", "mine.yaml:1: version is missing"),
        ("version: 1", "version: one", "mine.yaml:1: version is 'one'; give a whole number"),
        ("version: 1", "version: true", "mine.yaml:1: version is True; give a whole number"),
        ("version: 1", "version: 0", "mine.yaml:1: version and max_new_tokens start at 1"),
        ("kind: multiple_choice", "kind: multiple_choices", 'mine.yaml:3: unknown kind .*did you mean "multiple_choice"'),
        ("metrics: [acc]", "metrics: [accuracy]", 'mine.yaml:4: unknown metric "accuracy"'),
        ("metrics: [acc]", "metrics: [ac_norm]", 'mine.yaml:4: unknown metric "ac_norm"; did you mean "acc_norm"'),
        ("metrics: [acc]", "metrics: []", "mine.yaml:4: no metric"),
        ("metrics: [acc]", "metrics: [consistency]", "mine.yaml:4: acc_worst and consistency are about rephrasings"),
        ("metrics: [acc]", "metrics: acc", "mine.yaml:4: metrics is 'acc'; give a list of texts"),
        ("choices: [A, B]\n", "", "mine.yaml:3: a multiple_choice task needs choices: and answer:"),
        ("choices: [A, B]", "choices: [1, 2]", r"mine.yaml:7: choices is \[1, 2\]"),
        ("kind: multiple_choice\nmetrics: [acc]", "kind: generation\nmetrics: [token_f1]", "needs target:"),
        ("kind: multiple_choice\nmetrics: [acc]\ndata: rows.jsonl\nprompt:", "kind: perplexity\nmetrics: [perplexity]\ndescription:", "a perplexity task needs prompt:"),
        ("choices: [A, B]", "choices: [A]", r"mine.yaml:7: choices are \['A'\]; give two or more, none of them empty"),
        ("choices: [A, B]", "choices: [A, '']", "mine.yaml:7: choices are .*none of them empty"),
        ("choices: [A, B]", "choices: [A, A]", "mine.yaml:7: choices are .*, two of them equal"),
        ("version: 1", "version: 1\nfewshot_split: test", "mine.yaml:2: items of test would be their own examples"),
        ("prompt:", "favourite: 1\nprompt:", 'mine.yaml:6: unknown setting "favourite"; a task has version, kind, .*rephrasings'),
    ],
)  # fmt: skip
def test_a_mistake_names_line_and_remedy(tmp_path, old, new, message):
    assert old in GOOD
    with pytest.raises(UserError, match=message):
        load_task(str(write(tmp_path, GOOD.replace(old, new))))


GENERATION = """version: 1
about: "a task"
kind: generation
metrics: [exact_match]
target: "{{ answer }}"
prompt: "{{ question }}"
"""
PERPLEXITY = """version: 1
about: "a task"
kind: perplexity
metrics: [perplexity]
prompt: "{{ text }}"
"""


@pytest.mark.parametrize(
    ("task", "line", "message"),
    [
        (GOOD, "stop: [x]", "mine.yaml:9: a multiple_choice task has no stop:; leave it out"),
        (GOOD, "target: x", "a multiple_choice task has no target:"),
        (GOOD, "max_new_tokens: 9", "a multiple_choice task has no max_new_tokens:"),
        (GENERATION, "rephrasings: [x]", "mine.yaml:7: a generation task has no rephrasings:"),
        (GENERATION, "choices: [a, b]", "a generation task has no choices:"),
        (GENERATION, "answer: x", "a generation task has no answer:"),
        (PERPLEXITY, "description: x", "mine.yaml:6: a perplexity task has no description:"),
        (PERPLEXITY, "template: true", "a perplexity task has no template:"),
        (PERPLEXITY, "fewshot_split: train", "a perplexity task has no fewshot_split:"),
        (PERPLEXITY, "num_fewshot: 2", "a perplexity task has no num_fewshot:"),
        (GENERATION, "stop: ['']", "mine.yaml:7: an empty text ends every answer before it begins"),
    ],
)
def test_a_setting_that_a_kind_of_task_lacks_is_refused(tmp_path, task, line, message):
    load_task(str(write(tmp_path, task)))
    with pytest.raises(UserError, match=message):
        load_task(str(write(tmp_path, task + line + "\n")))


@pytest.mark.parametrize("metric", [name for name in METRICS["generation"] if name != "faithfulness"])
def test_a_metric_without_what_it_compares_with_is_refused(tmp_path, metric):
    has, needs = ("target", "constraints") if "constraint" in metric else ("constraints", "target")
    text = GENERATION.replace("exact_match", metric).replace("target:", f"{has}:")
    with pytest.raises(UserError, match=f"mine.yaml:4: {metric} needs {needs}:"):
        load_task(str(write(tmp_path, text)))
    load_task(str(write(tmp_path, text.replace(f"{has}:", f"{needs}:"))))


def test_a_file_in_another_encoding_is_named(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(GOOD, encoding="utf-16")
    with pytest.raises(UserError, match="mine.yaml: cannot be read as text .*; give a YAML file in UTF-8"):
        load_task(str(path))


def test_a_mistyped_name_gets_the_nearest():
    with pytest.raises(UserError, match='unknown task "mlmu"; did you mean "mmlu"'):
        load_task("mlmu")
    with pytest.raises(UserError, match="no such task file"):
        load_task("nowhere/mine.yaml")
