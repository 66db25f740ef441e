"""Settings that don't fit together are refused before anything is loaded."""

import pytest

from ftkit.config.errors import UserError
from ftkit.config.settings.common import DataArguments, ModelArguments, RunSettings
from ftkit.config.settings.sft import SFTArguments


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "--model_name_or_path is missing"),
        ({"model_name_or_path": "m", "load_in_4bit": True}, "--load_in_4bit without a PEFT method"),
        ({"model_name_or_path": "m", "load_in_8bit": True}, "--load_in_8bit without a PEFT method"),
        ({"model_name_or_path": "m", "use_peft": True, "num_frozen_layers": 1}, "PEFT freezes the base already"),
        (
            {"model_name_or_path": "m", "use_peft": True, "peft_method": "prompt_tuning", "use_dora": True},
            "belong to LoRA",
        ),
    ],
)
def test_model_settings_that_cannot_work_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        ModelArguments(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({}, "--dataset_name is missing"), ({"dataset_name": "d", "test_size": 0.0}, "--test_size is 0.0")],
)
def test_data_settings_that_cannot_work_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        DataArguments(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "--output_dir is missing"),
        ({"output_dir": "o", "assistant_only_loss": True}, "always trains the answers"),
        ({"output_dir": "o", "completion_only_loss": False}, "always trains the answers"),
        ({"output_dir": "o", "chat_template_path": "x"}, "use --template"),
        ({"output_dir": "o", "packing": True, "packing_strategy": "wrapped"}, "rows see each other"),
    ],
)
def test_training_settings_that_cannot_work_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        SFTArguments(**settings)


def test_what_was_asked_is_recorded_as_it_was_and_no_secret_with_it():
    data, model = DataArguments(dataset_name="d"), ModelArguments(model_name_or_path="m", use_peft=True, lora_r=4)
    training = SFTArguments(output_dir="o", hub_token="hf_x", max_length=None, eval_strategy="no")
    given = frozenset({"dataset_name", "model_name_or_path", "lora_r", "hub_token", "max_length", "eval_strategy"})
    asked = {"dataset_name": "d", "model_name_or_path": "m", "lora_r": 4, "max_length": None, "eval_strategy": "no"}
    assert RunSettings(data, model, training, given).asked() == asked


def test_a_configuration_is_a_copy_and_what_was_asked_stays():
    asked = SFTArguments(output_dir="o", push_to_hub=True)
    decided = {"bf16": False, "use_cpu": True, "activation_checkpointing": False, "learning_rate": 1e-4}
    config = asked.configured(decided)
    assert (config.bf16, config.learning_rate, config.push_to_hub) == (False, 1e-4, False)
    assert (asked.bf16, asked.learning_rate, asked.push_to_hub) == (None, None, True)


def test_what_a_library_refuses_is_one_line():
    asked = SFTArguments(output_dir="o", load_best_model_at_end=True, eval_strategy="no")
    with pytest.raises(UserError, match="settings that do not go together: .*load_best_model_at_end"):
        asked.configured({"bf16": False, "use_cpu": True, "activation_checkpointing": False, "learning_rate": 1e-4})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fp16": True, "bf16": True}, "two precisions"),
        ({"hardware": "cpu-2"}, "plans for another machine; add --plan"),
    ],
)
def test_two_precisions_and_a_machine_without_plan_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        SFTArguments(output_dir="o", **settings)
