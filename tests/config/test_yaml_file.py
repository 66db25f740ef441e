"""A YAML file means what it says: each value is read by the type of its setting, and mistakes have file and line."""

import pytest

from ftkit.config.errors import UserError
from ftkit.config.flags import read_settings
from ftkit.config.run_folder import RunRecord, write_run_yaml
from ftkit.config.yaml_file import read_yaml_record
from ftkit.runs.recipes import load_recipe


def read(tmp_path, text: str, trainer: str = "classify") -> dict:
    path = tmp_path / "c.yaml"
    path.write_text(text, encoding="utf-8")
    return read_yaml_record(str(path), read_settings(load_recipe(trainer).flags)).asked


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("save_strategy: no", "save_strategy", "no"),
        ("save_strategy: 'no'", "save_strategy", "no"),
        ("class_names: [no, yes]", "class_names", ["no", "yes"]),
        ("class_names: [1, 2]", "class_names", ["1", "2"]),
        ("class_names:\n- off\n- on", "class_names", ["off", "on"]),
        ("class_names: spam", "class_names", ["spam"]),
        ("positive_label: yes", "positive_label", "yes"),
        ("lora_r: 8.0", "lora_r", 8),
        ("lora_r: '8'", "lora_r", 8),
        ("output_dir: 2024-05-01", "output_dir", "2024-05-01"),
        ("output_dir: 1.10", "output_dir", "1.10"),
        ("output_dir: 12:30", "output_dir", "12:30"),
        ("dataset_name: null.jsonl", "dataset_name", "null.jsonl"),
        ("run_name: 'null'", "run_name", "null"),
        ("learning_rate: 1e-4", "learning_rate", 1e-4),
        ("learning_rate: 1", "learning_rate", 1.0),
        ("use_peft: yes", "use_peft", True),
        ("use_peft: off", "use_peft", False),
        ("use_peft: 1", "use_peft", True),
        ("max_length: none", "max_length", None),
        ("max_length: None", "max_length", None),
        ("report_to: none", "report_to", "none"),
        ("report_to: [tensorboard, wandb]", "report_to", ["tensorboard", "wandb"]),
        ("model: M", "model_name_or_path", "M"),
        ("learning-rate: 2", "learning_rate", 2.0),
        ("lr_scheduler_kwargs: {num_cycles: 2}", "lr_scheduler_kwargs", {"num_cycles": 2}),
        ("lr_scheduler_kwargs:\n  num_cycles: 2", "lr_scheduler_kwargs", {"num_cycles": 2}),
        ("lr_scheduler_kwargs: '{\"num_cycles\": 2}'", "lr_scheduler_kwargs", {"num_cycles": 2}),
    ],
)
def test_a_value_is_read_by_the_type_of_its_setting(line, name, value, tmp_path):
    found = read(tmp_path, f"seed: 1\n{line}\n")
    assert found == {"seed": 1, name: value}
    assert type(found[name]) is type(value)


@pytest.mark.parametrize("value", ["", "null", "~", "NULL"])
def test_a_setting_without_a_value_is_not_given(value, tmp_path):
    assert read(tmp_path, f"seed: 1\nmax_length: {value}\nrun_name: {value}\n") == {"seed": 1}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("lora_r: eight", 'lora_r is "eight"; give a whole number'),
        ("lora_r: 8.5", 'lora_r is "8.5"; give a whole number'),
        ("lora_r: [8]", "lora_r is a list; it takes one value, no list"),
        ("lora_r: {a: 8}", "lora_r is a block of `key: value` lines; give one value"),
        ("use_peft: maybe", 'use_peft is "maybe"; give true or false'),
        ("learning_rate: fast", 'learning_rate is "fast"; give a number'),
        ("save_strategy: false", 'save_strategy is "false"; give one of no, steps, epoch, best'),
        ("class_names: [[a]]", "give a list of plain values"),
        ("class_names: {a: 1}", "give one value"),
        ("lr_scheduler_kwargs: '{'", "give a JSON object"),
        ("lr: 1", 'unknown setting "lr"; did you mean learning_rate?'),
        ("lora_rank: 1", 'unknown setting "lora_rank"; did you mean lora_r?'),
        ("training:\n  lora_r: 8", 'unknown setting "training"; write its settings without indentation'),
        ("zebra: 1", 'unknown setting "zebra"; see --help all'),
        ("<<: {lora_r: 8}", 'unknown setting "<<"'),
        ("? [a, b]\n: 1", "expected `key: value` lines"),
        ("seed: 2", '"seed" is set twice'),
        ("run_name: [", "not valid YAML"),
        ("lora_r: *nowhere", "not valid YAML"),
    ],
)
def test_a_mistake_has_file_and_line(line, message, tmp_path):
    with pytest.raises(UserError) as error:
        read(tmp_path, f"seed: 1\n{line}\n")
    assert message in str(error.value)
    assert str(error.value).startswith(f"{tmp_path}/c.yaml:") and "\n" not in str(error.value)


def test_a_runs_own_file_keeps_what_was_set_to_nothing(tmp_path):
    settings = read_settings(load_recipe("sft").flags)
    asked = {
        "max_length": None, "output_dir": "2024-05-01", "save_strategy": "no", "use_peft": True, "lora_r": 8,
        "learning_rate": 1e-5, "num_train_epochs": 1.0, "lora_target_modules": ["q_proj", "on"],
        "lr_scheduler_kwargs": {"num_cycles": 2}, "run_name": "null", "dataset_name": "ä\x85b",
    }  # fmt: skip
    write_run_yaml(str(tmp_path), RunRecord("sft", asked, {"bf16": False}))
    record = read_yaml_record(str(tmp_path / "run.yaml"), settings)
    assert record.asked == asked and record.decided == {"bf16": False}
    assert not record.is_edited


def test_a_run_that_was_told_none_is_repeated_with_none(tmp_path):
    recipe = load_recipe("sft")
    argv = ["--model", "m", "--dataset_name", "d", "--output_dir", str(tmp_path / "out")]
    asked = recipe.parse([*argv, "--max_length", "none"])
    write_run_yaml(str(tmp_path), RunRecord("sft", asked.asked()))
    again = recipe.parse(["--config", str(tmp_path / "run.yaml")])
    assert again.training.max_length is None and "max_length" in again.given
    assert again.asked() == asked.asked()
