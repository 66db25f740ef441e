"""Settings that don't fit together are refused before anything is loaded."""

import pytest

from ftkit.config.errors import UserError
from ftkit.config.settings.common import DataArguments, ModelArguments, RunSettings
from ftkit.config.settings.sft import SFTArguments
from ftkit.sft import RECIPE


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "--model_name_or_path is missing"),
        ({"model_name_or_path": "m", "load_in_4bit": True}, "--load_in_4bit without a PEFT method"),
        ({"model_name_or_path": "m", "load_in_8bit": True}, "--load_in_8bit without a PEFT method"),
        ({"model_name_or_path": "m", "use_peft": True, "num_frozen_layers": 1}, "PEFT freezes the base already"),
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


def test_an_output_folder_is_needed():
    with pytest.raises(UserError, match="--output_dir is missing"):
        SFTArguments()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--assistant_only_loss", "--assistant_only_loss has no effect: ftkit always trains the answers"),
        ("--completion_only_loss false", "--completion_only_loss has no effect"),
        ("--chat_template_path x", "--chat_template_path is TRL's; use --template"),
        ("--packing --packing_strategy wrapped", "--packing_strategy wrapped lets rows see each other"),
        ("--hardware cpu-2", "--hardware plans for another machine; add --plan"),
        ("--use_peft --peft_method prompt_tuning --use_dora", "--use_dora belongs to LoRA"),
        ("--lora_r 16", "--lora_r without --use_peft: all weights would be trained; add --use_peft"),
        ("--use_peft --adapter x --lora_r 4", "--lora_r with --adapter: the adapter has its own"),
    ],
)
def test_settings_without_effect_are_refused(flags, message):
    argv = ["--model_name_or_path", "m", "--dataset_name", "d", "--output_dir", "o", *flags.split()]
    with pytest.raises(UserError, match=f"^{message}"):
        RECIPE.parse(argv)


def test_settings_that_ask_for_nothing_are_taken():
    argv = ["--model_name_or_path", "m", "--dataset_name", "d", "--output_dir", "o", "--use_dora", "false"]
    assert not RECIPE.parse(argv).model.use_dora


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
    with pytest.raises(UserError, match="settings that a library does not take: .*load_best_model_at_end"):
        asked.configured({"bf16": False, "use_cpu": True, "activation_checkpointing": False, "learning_rate": 1e-4})


def test_two_precisions_are_refused():
    with pytest.raises(UserError, match="two precisions"):
        SFTArguments(output_dir="o", fp16=True, bf16=True)
