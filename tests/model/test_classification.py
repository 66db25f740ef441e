"""Classifiers of every family: the token that is pooled, the head, what is trained, and what is refused."""

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    BertConfig,
    BertForMaskedLM,
    DistilBertConfig,
    DistilBertForMaskedLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaForSequenceClassification,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from ftkit.config.errors import UserError
from ftkit.model.classifier import (
    class_probabilities,
    load_classifier,
    stored_labels,
    train_last_layers,
    transformer_layers,
)
from ftkit.model.loading import load_tokenizer
from ftkit.model.trained_classifier import load_trained_classifier

SIZES = {
    "vocab_size": 300,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "hidden_size": 32,
    "intermediate_size": 48,
}
LABELS = ["bad", "fair", "good"]
FAMILIES = ("llama", "gpt2", "qwen2", "bert", "distilbert", "ftgpt-gpt2", "ftgpt-llama")


def base_model(family):
    torch.manual_seed(0)
    if family == "gpt2":
        return GPT2LMHeadModel(GPT2Config(vocab_size=300, n_embd=32, n_layer=2, n_head=2, n_positions=64, initializer_range=0.2, bos_token_id=0, eos_token_id=0))  # fmt: skip
    if family == "qwen2":
        return Qwen2ForCausalLM(
            Qwen2Config(**SIZES, num_key_value_heads=2, max_position_embeddings=64, initializer_range=0.2)
        )
    if family == "bert":
        return BertForMaskedLM(BertConfig(**SIZES, max_position_embeddings=64, pad_token_id=1, initializer_range=0.2))
    return DistilBertForMaskedLM(DistilBertConfig(vocab_size=300, dim=32, n_layers=2, n_heads=2, hidden_dim=48, max_position_embeddings=64, pad_token_id=1, initializer_range=0.2))  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory, tiny_folder):
    """A base model's folder by family, with the tokenizer of the tiny Llama; FTGPT ones are conversions."""
    from ftkit.model.weights.conversion import import_weights

    root, found = tmp_path_factory.mktemp("families"), {"llama": tiny_folder}
    tokenizer = load_tokenizer(tiny_folder)
    for family in ("gpt2", "qwen2", "bert", "distilbert"):
        found[family] = root / family
        base_model(family).save_pretrained(found[family])
        tokenizer.save_pretrained(found[family])
    for family in ("gpt2", "llama"):
        found[f"ftgpt-{family}"] = root / f"ftgpt-{family}"
        import_weights(found[family], found[f"ftgpt-{family}"])
        tokenizer.save_pretrained(found[f"ftgpt-{family}"])
    return found


@pytest.fixture
def loaded(folders):
    def load(family, labels=LABELS):
        tokenizer = load_tokenizer(folders[family])
        torch.manual_seed(1)
        return load_classifier(folders[family], labels, pad_token_id=tokenizer.pad_token_id), tokenizer

    return load


@pytest.mark.parametrize("family", FAMILIES)
def test_padding_on_the_right_changes_nothing(family, loaded):
    (model, _), tokenizer = loaded(family)
    tokenizer.padding_side = "right"
    sequences = [tokenizer(text)["input_ids"] for text in ("a", "quite a long text", "shorter")]
    together = class_probabilities(model, sequences, tokenizer)
    alone = torch.cat([class_probabilities(model, [sequence], tokenizer) for sequence in sequences])
    assert (together - alone).abs().max() < 1e-5
    assert not torch.allclose(alone[0], alone[1], atol=1e-3)


@pytest.mark.parametrize("family", ["llama", "qwen2", "ftgpt-gpt2", "ftgpt-llama"])
def test_padding_on_the_left_changes_nothing_where_positions_follow_the_mask(family, loaded):
    (model, _), tokenizer = loaded(family)
    sequences = [tokenizer(text)["input_ids"] for text in ("a", "quite a long text", "shorter")]
    alone = torch.cat([class_probabilities(model, [sequence], tokenizer) for sequence in sequences])
    tokenizer.padding_side = "left"
    assert (class_probabilities(model, sequences, tokenizer) - alone).abs().max() < 1e-5


def test_a_stock_gpt2_counts_the_padding_on_its_left_as_positions(loaded):
    """Why the tokenizer of a classifier pads on the right: the pooled token is right, its position is not."""
    (model, _), tokenizer = loaded("gpt2")
    sequences = [tokenizer(text)["input_ids"] for text in ("a", "quite a long text")]
    alone = torch.cat([class_probabilities(model, [sequence], tokenizer) for sequence in sequences])
    tokenizer.padding_side = "left"
    together = class_probabilities(model, sequences, tokenizer)
    assert (together[1] - alone[1]).abs().max() < 1e-5 and (together[0] - alone[0]).abs().max() > 1e-3


@pytest.mark.parametrize("family", FAMILIES)
def test_the_pooled_state_is_that_of_the_last_token_or_the_first_of_an_encoder(family, loaded):
    (model, _), tokenizer = loaded(family)
    ids = torch.tensor([tokenizer("quite a long text")["input_ids"]])
    base = getattr(model, model.base_model_prefix)(ids).last_hidden_state
    if family in ("bert", "distilbert"):
        if family == "bert":
            pooled = model.classifier(torch.tanh(model.bert.pooler.dense(base[:, 0])))
        else:
            pooled = model.classifier(torch.relu(model.pre_classifier(base[:, 0])))
    else:
        pooled = model.score(base[:, -1])
    assert (model(ids).logits - pooled).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("family", "head"),
    [
        ("llama", ["score"]),
        ("gpt2", ["score"]),
        ("ftgpt-gpt2", ["score"]),
        ("bert", ["classifier", "bert.pooler.dense"]),
        ("distilbert", ["pre_classifier", "classifier"]),
    ],
)
def test_the_head_is_what_no_checkpoint_filled_and_classes_are_named(family, head, loaded, tmp_path):
    model, found = loaded(family)[0]
    assert sorted(found) == sorted(head)
    model.save_pretrained(tmp_path)
    assert stored_labels(tmp_path) == LABELS
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert again.config.id2label == dict(enumerate(LABELS)) and again.config.label2id["good"] == 2
    assert again.config.problem_type == "single_label_classification" and again.config.pad_token_id == 1


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("num_layers", [0, 1])
def test_only_the_head_and_the_last_layers_are_trained(family, num_layers, loaded):
    model, head = loaded(family)[0]
    train_last_layers(model, head, num_layers)
    name, _ = transformer_layers(model)
    trained = {key for key, parameter in model.named_parameters() if parameter.requires_grad}
    layers = {key for key in trained if key.startswith(f"{name}.")}
    assert {key.split(".")[len(name.split("."))] for key in layers} == ({"1"} if num_layers else set())
    heads = {key for key in trained if key.startswith(tuple(head))}
    after = trained - layers - heads
    assert heads and bool(after) == (bool(num_layers) and family not in ("bert", "distilbert"))
    assert all("norm" in key or "ln_f" in key for key in after)


def test_more_layers_than_there_are_is_refused(loaded):
    model, head = loaded("llama")[0]
    with pytest.raises(UserError, match="--num_trained_layers 3: the model has 2 layers; give 0 to 2"):
        train_last_layers(model, head, 3)


def test_a_classifier_keeps_its_head_and_refuses_other_classes(folders, loaded, tmp_path):
    (model, _), tokenizer = loaded("llama")
    model.save_pretrained(tmp_path)
    again = load_classifier(tmp_path, LABELS, pad_token_id=1).model
    assert isinstance(again, LlamaForSequenceClassification) and torch.equal(again.score.weight, model.score.weight)
    with pytest.raises(UserError, match="its head tells bad, fair, good apart, and the rows a, b; start from a base"):
        load_classifier(tmp_path, ["a", "b"], pad_token_id=1)
    with pytest.raises(UserError, match="--class_names bad fair good"):
        load_classifier(tmp_path, ["good", "fair", "bad"], pad_token_id=1)


def test_a_classifier_whose_classes_were_never_named_takes_names(folders, tmp_path):
    model = AutoModelForSequenceClassification.from_pretrained(folders["llama"], num_labels=2)
    model.save_pretrained(tmp_path)
    assert load_classifier(tmp_path, ["ham", "spam"], pad_token_id=1).model.config.id2label == {0: "ham", 1: "spam"}


def test_a_folder_that_is_no_classifier_is_refused_for_use(folders):
    with pytest.raises(UserError, match="is not a classifier; train one: ftkit classify --model"):
        load_trained_classifier(folders["llama"])


def test_probabilities_come_back_in_the_order_of_the_texts_in_evaluation_mode(loaded):
    (model, _), tokenizer = loaded("ftgpt-gpt2")
    tokenizer.padding_side = "right"
    model.train()
    sequences = [tokenizer("x" * length)["input_ids"] for length in (9, 1, 5, 3)]
    found = class_probabilities(model, sequences, tokenizer, batch_size=2)
    assert model.training and found.shape == (4, 3) and torch.allclose(found.sum(dim=1), torch.ones(4))
    model.eval()
    for sequence, row in zip(sequences, found, strict=True):
        assert torch.allclose(model(torch.tensor([sequence])).logits.softmax(-1)[0], row, atol=1e-5)


def test_importing_a_base_does_not_change_it(folders, loaded):
    ids = torch.tensor([[5, 6, 7]])
    base = AutoModelForCausalLM.from_pretrained(folders["llama"]).model(ids).last_hidden_state
    assert torch.equal(loaded("llama")[0].model.model(ids).last_hidden_state, base)
