"""FTGPTForSequenceClassification: which token is scored, the losses, and the mistakes it refuses."""

import pytest
import torch
from transformers import AutoModelForSequenceClassification, LlamaForSequenceClassification, pipeline

from ftkit.model import FTGPTForCausalLM, FTGPTForSequenceClassification

PAD = 0


def gap(left, right):
    return (left - right).abs().max().item()


@pytest.fixture
def classifier(tiny_model):
    def make(preset, **overrides):
        overrides = {"num_labels": 3, "pad_token_id": PAD, **overrides}
        return tiny_model(preset, FTGPTForSequenceClassification, **overrides)

    return make


def padded(ids, side):
    amount = (4, 0) if side == "left" else (0, 4)
    return torch.nn.functional.pad(ids, amount, value=PAD), torch.nn.functional.pad(torch.ones_like(ids), amount)


@pytest.mark.parametrize("with_mask", [True, False])
@pytest.mark.parametrize("side", ["left", "right"])
def test_the_last_token_that_is_not_padding_is_scored(side, with_mask, preset, classifier, token_ids):
    model, ids = classifier(preset), token_ids(2, 6)
    expected = model.score(model.model(ids).last_hidden_state[:, -1])
    batch, mask = padded(ids, side)
    if side == "left" and not with_mask:
        # Without a mask the padding is attended to; only the place that is scored can be checked.
        expected = model.score(model.model(batch).last_hidden_state[:, -1])
    got = model(batch, attention_mask=mask if with_mask else None).logits
    assert got.shape == (2, 3)
    assert gap(got, expected) <= 1e-5


def test_an_end_token_that_doubles_as_padding_is_scored(preset, classifier):
    model = classifier(preset, pad_token_id=5, eos_token_id=5)
    alone = model.score(model.model(torch.tensor([[7, 8, 5]])).last_hidden_state[:, 2])
    batch = torch.tensor([[7, 8, 5, 5, 5], [9, 8, 7, 6, 5]])
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    assert gap(model(batch, attention_mask=mask).logits[:1], alone) <= 1e-5


def test_logits_and_loss_equal_those_of_llama(llama_twins, token_ids):
    classes = (LlamaForSequenceClassification, FTGPTForSequenceClassification)
    reference, model = llama_twins(*classes, num_labels=3, pad_token_id=PAD)
    batch, mask = padded(token_ids(3, 6), "right")
    labels = torch.tensor([0, 2, 1])
    expected = reference(batch, attention_mask=mask, labels=labels)
    got = model(batch, attention_mask=mask, labels=labels)
    assert gap(got.logits, expected.logits) <= 1e-5
    assert got.loss.item() == pytest.approx(expected.loss.item(), abs=1e-6)


def test_one_label_is_a_regression(preset, classifier, token_ids):
    model = classifier(preset, num_labels=1)
    output = model(token_ids(2, 6), labels=torch.tensor([0.5, -1.0]))
    expected = ((output.logits[:, 0] - torch.tensor([0.5, -1.0])) ** 2).mean()
    assert output.loss.item() == pytest.approx(expected.item())


def test_several_labels_at_once_are_scored_by_binary_cross_entropy(preset, classifier, token_ids):
    model, labels = classifier(preset), torch.tensor([[1.0, 0.0, 1.0]])
    output = model(token_ids(1, 6), labels=labels)
    chance = output.logits.sigmoid()
    expected = -(labels * chance.log() + (1 - labels) * (1 - chance).log()).mean()
    assert output.loss.item() == pytest.approx(expected.item(), abs=1e-6)


def test_a_class_outside_num_labels_is_refused(preset, classifier, token_ids):
    model = classifier(preset)
    for wrong in (3, -100):
        with pytest.raises(ValueError, match=f"labels hold {wrong}, but must be from 0 to 2 .num_labels"):
            model(token_ids(2, 6), labels=torch.tensor([0, wrong]))


def test_a_batch_whose_padding_is_unknown_is_refused(preset, classifier, token_ids):
    model = classifier(preset, pad_token_id=None)
    assert model(token_ids(1, 6)).logits.shape == (1, 3)
    with pytest.raises(ValueError, match="padding is unknown; give attention_mask or set config.pad_token_id"):
        model(token_ids(2, 6))


def test_a_base_model_folder_loads_with_a_new_head_and_keeps_the_rest(preset, tiny_model, token_ids, tmp_path):
    base = tiny_model(preset)
    base.save_pretrained(tmp_path)
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path, num_labels=4)
    assert isinstance(base, FTGPTForCausalLM) and isinstance(model, FTGPTForSequenceClassification)
    ids = token_ids(1, 6)
    assert gap(model.model(ids).last_hidden_state, base.model(ids).last_hidden_state) <= 1e-6
    model.save_pretrained(tmp_path / "classifier")
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path / "classifier")
    assert again.num_labels == 4 and gap(again(ids).logits, model(ids).logits) <= 1e-6


def test_text_classification_pipeline_names_the_largest_class(preset, classifier, character_tokenizer):
    model = classifier(preset, id2label={0: "bad", 1: "fair", 2: "good"}, label2id={"bad": 0, "fair": 1, "good": 2})
    classify = pipeline("text-classification", model=model, tokenizer=character_tokenizer, device="cpu")
    texts = ["Hello there", "Hi"]
    for text, output in zip(texts, classify(texts, batch_size=2), strict=True):
        logits = model(character_tokenizer(text, return_tensors="pt").input_ids).logits[0]
        assert output["label"] == ["bad", "fair", "good"][logits.argmax()]
        assert output["score"] == pytest.approx(logits.softmax(-1).max().item(), abs=1e-5)
