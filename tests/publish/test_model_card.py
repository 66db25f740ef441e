"""The card says what was done and how to use it, and names no path of the machine it was made on."""

import json

import pytest
from huggingface_hub import ModelCard

from ftkit.config.errors import UserError
from ftkit.evaluation.results import Results, Score, TaskResult, write_results
from ftkit.publish.card.model_card import card_for, is_unfilled, method_name, with_repo_id, write_model_card


@pytest.fixture
def run_folder(tmp_path):
    folder = tmp_path / "my-adapter"
    folder.mkdir()
    (folder / "run.yaml").write_text(
        "# ftkit sft ...\n# ftkit 0.1.0, torch 2.13.0\n"
        "model_name_or_path: HuggingFaceTB/SmolLM2-135M\ndataset_name: /home/me/secret/rows.jsonl\n"
        "template: /home/me/house.jinja\nuse_peft: true\noutput_dir: /home/me/runs/my-adapter\nlogging_steps: 5\n"
    )
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 16, "lora_alpha": 32}))
    lines = [{"step": 0, "eval_loss": 2.5}, {"step": 5, "loss": 2.0}, {"step": 9, "eval_loss": 1.25}]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_the_card_is_valid_metadata_with_method_data_and_results(run_folder):
    path = write_model_card(
        str(run_folder), {"num_rows": 90, "num_tokens": 2260, "num_trained_tokens": 1130, "num_context_tokens": 1130}
    )
    card = ModelCard.load(path)
    assert card.data.library_name == "peft" and card.data.base_model == "HuggingFaceTB/SmolLM2-135M"
    assert card.data.base_model_relation == "adapter" and card.data.tags == ["ftkit", "sft", "lora"]
    assert "LoRA adapter of `HuggingFaceTB/SmolLM2-135M` on `rows.jsonl`" in card.text
    assert "| on held-out rows | step 0 | step 9 |" in card.text
    assert "| loss, nats per trained token | 2.5000 | 1.2500 |" in card.text
    assert "| rows | 90 read, none dropped, none cut |" in card.text and "| lora_r | 16 |" in card.text
    assert "| tokens | 1,130 trained (50.0 %), 1,130 context" in card.text
    assert "| template | house.jinja |" in card.text
    assert "Versions: ftkit 0.1.0, torch 2.13.0" in card.text
    assert "/home/me" not in card.content and "output_dir" not in card.content and "logging_steps" not in card.content


def test_a_preference_run_tells_accuracies_margins_and_intervals(run_folder):
    names = ("eval_loss", "eval_rewards/accuracies", "eval_rewards/margins", "eval_logps/chosen", "eval_logps/rejected")
    lines = [{"step": step, **dict(zip(names, values, strict=True))} for step, values in
             ((0, (0.6931, 0.5, 0.0, -40.0, -41.0)), (20, (0.55, 0.8125, 0.375, -39.5, -45.25)))]  # fmt: skip
    (run_folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for folder, scores in (
        (run_folder / "before", {"accuracy": Score(0.5, 0.4, 0.6, is_share=True)}),
        (run_folder, {"accuracy": Score(0.8125, 0.7, 0.9, is_share=True), "chosen_logps": Score(-1.5)}),
    ):
        task = TaskResult("preferences", 1, "hash", 32, 0, "accuracy", scores, "items/preferences.jsonl")
        write_results(folder / "results.json", Results({}, {"preferences": task}))
    text = write_model_card(str(run_folder), {"num_pairs": 200}, "dpo").read_text()
    assert "| pairs whose chosen answer gains more | 0.5000 | 0.8125 |" in text
    assert "| margin of the implicit rewards | 0.0000 | 0.3750 |" in text
    assert "| log-probability of the rejected answer, nats | -41.0000 | -45.2500 |" in text
    assert "| preferences, 32 items (95 % interval) | before | after |" in text
    assert "| accuracy | 50.0 % (40.0 to 60.0) | 81.2 % (70.0 to 90.0) |" in text
    assert "| log-probability of chosen, nats | - | -1.5 |" in text
    assert "Direct preference optimisation (arXiv:2305.18290)." in text and "- dpo\n" in text


def test_a_result_is_in_the_metadata_only_where_the_data_has_a_hub_id(run_folder):
    assert ModelCard.load(write_model_card(str(run_folder), {})).data.eval_results is None
    run_yaml = run_folder / "run.yaml"
    run_yaml.write_text(run_yaml.read_text().replace("/home/me/secret/rows.jsonl", "some-owner/rows"))
    (result,) = ModelCard.load(write_model_card(str(run_folder), {})).data.eval_results
    assert (result.metric_type, result.metric_value, result.dataset_type) == ("loss", 1.25, "some-owner/rows")


def test_the_licence_is_the_base_cards_or_not_there(run_folder, tmp_path):
    assert "license" not in write_model_card(str(run_folder), {}).read_text()
    base = tmp_path / "base"
    base.mkdir()
    (base / "README.md").write_text("---\nlicense: other\nlicense_name: llama3\nlanguage: en\n---\n# Base\n")
    (run_folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(base)}))
    data = ModelCard.load(write_model_card(str(run_folder), {})).data
    assert (data.license, data.license_name) == ("other", "llama3")


@pytest.mark.parametrize(
    ("settings", "config", "expected"),
    [
        ("", {}, ["AutoModelForCausalLM.from_pretrained(\"HuggingFaceTB/SmolLM2-135M\", trust_remote_code=False)", "PeftModel.from_pretrained(model, model_id)"]),
        ("ftgpt: true\n", {}, ["load_model(local_model_folder(\"HuggingFaceTB/SmolLM2-135M\", ftgpt=True))"]),
        ("", {"trainable_token_indices": {"embed_tokens": [5]}}, ["model.resize_token_embeddings(len(tokenizer))"]),
    ],
)  # fmt: skip
def test_the_usage_snippet_is_python_for_this_adapter(run_folder, settings, config, expected):
    with open(run_folder / "run.yaml", "a") as file:
        file.write(settings)
    (run_folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", **config}))
    (run_folder / "chat_template.jinja").write_text("")
    content = write_model_card(str(run_folder), {}).read_text()
    snippet = content.split("```python\n")[1].split("```")[0]
    compile(snippet, "card", "exec")
    assert all(line in snippet for line in ['model_id = "my-adapter"', "apply_chat_template", *expected])
    assert "or `ftkit chat --adapter my-adapter`" in content


def test_a_models_snippet_trusts_code_only_where_there_is_some(run_folder):
    (run_folder / "adapter_config.json").unlink()
    for auto_map, argument in (
        ({}, "from_pretrained(model_id, trust_remote_code=False)\ninputs"),
        ({"AutoModel": "m.M"}, "(model_id, trust_remote_code=True)"),
    ):
        (run_folder / "config.json").write_text(json.dumps({"auto_map": auto_map}))
        snippet = write_model_card(str(run_folder), {}).read_text().split("```python\n")[1].split("```")[0]
        compile(snippet, "card", "exec")
        assert argument in snippet
        assert snippet.count("trust_remote_code=True") == 2 * bool(
            auto_map
        )  # a tokenizer's loader reads the config too


def test_the_repository_takes_the_folders_place_in_snippet_and_command_only(run_folder):
    (run_folder / "chat_template.jinja").write_text("")
    text = write_model_card(str(run_folder), {}).read_text()
    named = with_repo_id(text, "owner/name")
    changed = [new for old, new in zip(text.splitlines(), named.splitlines(), strict=True) if old != new]
    assert changed[0] == 'model_id = "owner/name"' and changed[1].startswith(
        "or `ftkit chat --adapter owner/name`. The"
    )
    assert len(changed) == 2 and with_repo_id("# own words\n", "owner/name") == "# own words\n"


def test_without_held_out_rows_the_card_claims_nothing(run_folder):
    (run_folder / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n')
    assert "nothing was measured" in write_model_card(str(run_folder), {}).read_text()


def test_a_folder_without_a_run_gets_a_card_of_what_is_there(tmp_path):
    folder = tmp_path / "merged"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "merge.json").write_text(json.dumps({"base": "some-owner/base", "mean_kl": 0.25, "rows": [1]}))
    text = card_for(folder, "owner/name")
    assert "Merge of an adapter into its base of `some-owner/base`" in text and "base_model_relation: finetune" in text
    assert "| mean_kl | 0.25 |" in text and "does not hold the record of a training run" in text
    assert "- sft" not in text


def test_a_card_that_nobody_filled_in_is_told_from_one_that_is():
    assert is_unfilled("# Model Card for Model ID\n") and is_unfilled("by: [More Information Needed]")
    assert not is_unfilled("# my-adapter\n")


def test_a_damaged_run_yaml_is_one_line(run_folder):
    for text in ("a: [", "- a list\n"):
        (run_folder / "run.yaml").write_text(text)
        with pytest.raises(UserError, match="run.yaml: not settings as a run writes them .*; restore it or delete it"):
            card_for(run_folder, "owner/name")


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
    assert method_name(settings, "sft") == name


def test_pretraining_says_what_it_began_with():
    assert method_name({}, "pretrain") == "Pretrained from random weights"
    assert method_name({"model_name_or_path": "x"}, "pretrain") == "Continued pretraining"
    assert method_name({"use_peft": True}, "pretrain") == "LoRA adapter"
