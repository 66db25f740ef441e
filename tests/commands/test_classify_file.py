"""`ftkit classify --predict` on classifiers that ftkit did not train, beside transformers' pipeline."""

import json

import pytest
import torch
from peft import LoraConfig, TaskType, get_peft_model
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    LlamaForSequenceClassification,
    pipeline,
)

from ftkit.commands.predict.texts import main
from ftkit.config.errors import UserError
from ftkit.model.context import context_size

TEXTS = ["bal com", "WIN", "dun fep dun", "ask ask ask ask"]
ENCODER = {
    "vocab_size": 300, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48,
    "initializer_range": 0.5, "pad_token_id": 1,
}  # fmt: skip


@pytest.fixture
def classifier(tiny_folder, tmp_path):
    """Saves a random classifier of a configuration's settings with the tiny tokenizer; returns its folder."""

    def save(model_type="llama", **settings):
        torch.manual_seed(0)
        if model_type == "llama":
            model = LlamaForSequenceClassification.from_pretrained(tiny_folder, **settings)
            torch.nn.init.normal_(model.score.weight)
        else:
            model = AutoModelForSequenceClassification.from_config(
                AutoConfig.for_model(model_type, **ENCODER, **settings)
            )
        model.save_pretrained(tmp_path / "foreign")
        AutoTokenizer.from_pretrained(tiny_folder).save_pretrained(tmp_path / "foreign")
        return tmp_path / "foreign"

    return save


def predictions(model, tmp_path, texts=TEXTS, *flags) -> list[dict]:
    source, target = tmp_path / "asked.jsonl", tmp_path / "answers.jsonl"
    source.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    main(["--predict", str(source), "--model_name_or_path", str(model), "--output_file", str(target), *flags])
    return [json.loads(line) for line in target.read_text().splitlines()]


def of_pipeline(model, **settings) -> list[dict]:
    """Every output by name, as transformers' own pipeline gives them."""
    asked = pipeline("text-classification", model=model, device="cpu", top_k=None, **settings)(TEXTS)
    return [{one["label"]: one["score"] for one in found} for found in asked]


def test_each_class_of_a_multi_label_model_has_a_probability_of_its_own(classifier, tmp_path):
    names = {0: "toxic", 1: "insult", 2: "threat"}
    folder = classifier(num_labels=3, id2label=names, problem_type="multi_label_classification")
    found = predictions(folder, tmp_path)
    for one, expected in zip(found, of_pipeline(str(folder)), strict=True):
        assert one["probabilities"] == pytest.approx(expected, abs=2e-6)
        assert one["labels"] == [name for name in names.values() if expected[name] >= 0.5]
    assert any(sum(one["probabilities"].values()) > 1.1 for one in found)


def test_one_output_is_a_yes_or_no_and_a_regression_a_value(classifier, tmp_path):
    folder = classifier(num_labels=1)
    found = predictions(folder, tmp_path)
    for one, expected in zip(found, of_pipeline(str(folder)), strict=True):
        assert one["probabilities"] == pytest.approx(expected, abs=2e-6)
    assert {len(one["labels"]) for one in found} == {0, 1}
    folder = classifier(num_labels=1, problem_type="regression")
    (tmp_path / "answers.jsonl").unlink()
    values = predictions(folder, tmp_path)
    for one, expected in zip(values, of_pipeline(str(folder)), strict=True):
        assert set(one) == {"text", "scores"} and one["scores"] == pytest.approx(expected, rel=1e-4, abs=2e-6)
    assert min(one["scores"]["LABEL_0"] for one in values) < 0


@pytest.mark.parametrize("model_type", ["roberta", "xlm-roberta", "camembert", "mpnet", "data2vec-text", "bert"])
def test_a_text_is_cut_at_the_positions_that_the_model_has(classifier, model_type, tmp_path):
    folder = classifier(model_type, num_labels=2, max_position_embeddings=20)
    limit = 20 if model_type == "bert" else 18
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    assert context_size(model.config) == limit
    model(torch.full((1, limit), 5))
    with pytest.raises((IndexError, RuntimeError)):
        model(torch.full((1, limit + 1), 5))
    assert len(predictions(folder, tmp_path, ["ask " * 40])) == 1
    (tmp_path / "answers.jsonl").unlink()
    with pytest.raises(UserError, match=f"--max_length {limit + 1}: the model's context is {limit} tokens"):
        predictions(folder, tmp_path, ["a"], "--max_length", str(limit + 1))


def plain_adapter(folder, tmp_path, num_labels, **settings):
    """An adapter as PEFT alone saves it: no run, no recorded base, no tokenizer."""
    torch.manual_seed(1)
    base = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=num_labels)
    config = LoraConfig(task_type=TaskType.SEQ_CLS, r=4, target_modules=["q_proj"], init_lora_weights=False, **settings)
    model = get_peft_model(base, config)
    model.save_pretrained(tmp_path / "adapter")
    return model.eval()


@pytest.mark.parametrize("is_old", [False, True])
def test_an_adapter_of_peft_alone_is_used_by_its_own_head(tiny_folder, tmp_path, is_old):
    model = plain_adapter(tiny_folder, tmp_path, 3)
    if is_old:  # PEFT filled in the heads when it loaded
        path = tmp_path / "adapter/adapter_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"modules_to_save": None}))
    tokenizer = AutoTokenizer.from_pretrained(tiny_folder)
    found = predictions(tmp_path / "adapter", tmp_path)
    model.config.pad_token_id = tokenizer.pad_token_id
    for one in found:
        ids = torch.tensor([tokenizer(one["text"])["input_ids"]])
        chances = model(ids).logits.softmax(-1)[0].tolist()
        assert list(one["probabilities"].values()) == pytest.approx(chances, abs=2e-5)
        assert set(one["probabilities"]) == {"LABEL_0", "LABEL_1", "LABEL_2"}


def test_an_adapter_takes_the_names_of_a_base_that_is_a_classifier(classifier, tmp_path):
    folder = classifier(num_labels=2, id2label={0: "ham", 1: "spam"})
    plain_adapter(folder, tmp_path, 2)
    assert {one["label"] for one in predictions(tmp_path / "adapter", tmp_path)} <= {"ham", "spam"}


def test_an_adapter_without_its_head_is_refused_in_one_line(tiny_folder, tmp_path):
    from safetensors.torch import load_file, save_file

    plain_adapter(tiny_folder, tmp_path, 3)
    path = tmp_path / "adapter/adapter_model.safetensors"
    save_file({name: tensor for name, tensor in load_file(path).items() if "score" not in name}, path)
    with pytest.raises(UserError, match="its head is not in it, so its classes are not known"):
        predictions(tmp_path / "adapter", tmp_path)
