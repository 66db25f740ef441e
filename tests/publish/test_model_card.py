"""The card says what was done and how to use it, and names no path of the machine it was made on."""

import json

import pytest
from huggingface_hub import ModelCard

from ftkit.publish.model_card import method_name, write_model_card


@pytest.fixture
def run_folder(tmp_path):
    folder = tmp_path / "my-adapter"
    folder.mkdir()
    (folder / "run.yaml").write_text(
        "# ftkit sft ...\n# ftkit 0.1.0, torch 2.13.0\n"
        "model_name_or_path: HuggingFaceTB/SmolLM2-135M\ndataset_name: /home/me/secret/rows.jsonl\n"
        "template: alpaca\nuse_peft: true\nlora_r: 8\noutput_dir: /home/me/runs/my-adapter\n"
    )
    (folder / "adapter_config.json").write_text("{}")
    lines = [{"step": 0, "eval_loss": 2.5}, {"step": 5, "loss": 2.0}, {"step": 9, "eval_loss": 1.25}]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_the_card_is_valid_metadata_with_method_data_and_results(run_folder):
    path = write_model_card(
        str(run_folder), {"num_rows": 90, "num_trained_tokens": 1130, "first_rows": [[["a", True]]]}
    )
    card = ModelCard.load(path)
    assert card.data.library_name == "peft" and card.data.base_model == "HuggingFaceTB/SmolLM2-135M"
    assert "LoRA adapter of `HuggingFaceTB/SmolLM2-135M` on `rows.jsonl`" in card.text
    assert "2.5000 at step 0, 1.2500 at step 9" in card.text
    assert "| num_trained_tokens | 1130 |" in card.text and "| lora_r | 8 |" in card.text
    assert "/home/me" not in card.content


def test_the_usage_snippet_is_python(run_folder):
    content = write_model_card(str(run_folder), {}).read_text()
    snippet = content.split("```python\n")[1].split("```")[0]
    compile(snippet, "card", "exec")


def test_without_held_out_rows_the_card_claims_nothing(run_folder):
    (run_folder / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n')
    assert "nothing was measured" in write_model_card(str(run_folder), {}).read_text()


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({}, "Full fine-tune"),
        ({"num_frozen_layers": 2}, "Full fine-tune (first 2 layers frozen)"),
        ({"use_peft": True}, "LoRA adapter"),
        ({"use_peft": True, "load_in_4bit": True}, "QLoRA adapter"),
        ({"use_peft": True, "use_dora": True, "load_in_4bit": True}, "QDoRA adapter"),
        ({"use_peft": True, "use_rslora": True}, "rsLoRA adapter"),
        ({"use_peft": True, "peft_method": "prompt_tuning"}, "Soft prompt (prompt tuning)"),
    ],
)
def test_methods_have_their_names(settings, name):
    assert method_name(settings) == name
