"""Settings that don't fit together are refused before anything is loaded."""

import pytest

from ftkit.config.errors import UserError
from ftkit.config.settings.common import DataArguments, ModelArguments, SFTArguments, changed_settings


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


def test_hardware_decides_precision_and_checkpointing_unless_told(monkeypatch):
    from ftkit.config.hardware import Hardware
    from ftkit.config.settings import common as arguments

    monkeypatch.setattr(arguments, "probe", lambda: Hardware("cpu", "no GPU", 2, 8.0, bf16_speedup=0.5))
    decided = SFTArguments(output_dir="o")
    assert (decided.bf16, decided.activation_checkpointing, decided.use_cpu) == (False, False, True)
    told = SFTArguments(output_dir="o", bf16=True, activation_checkpointing=True)
    assert (told.bf16, told.activation_checkpointing) == (True, True)


def test_changed_settings_hold_only_what_differs_and_rebuild_the_same(tmp_path):
    model = ModelArguments(model_name_or_path="m", use_peft=True, lora_r=4)
    assert changed_settings(model) == {
        "model_name_or_path": "m",
        "use_peft": True,
        "lora_r": 4,
    }
