"""Loss on answers against transformers' own loss; exact match and baselines by hand."""

import pytest
import torch

from ftkit.inference import scoring
from ftkit.inference.scoring import (
    answer_loss,
    copy_input,
    exact_match,
    most_frequent_answer,
)

PAD_ID = 0
ROWS = [
    {"input_ids": [5, 6, 7, 8, 9], "labels": [-100, -100, 7, 8, 9]},
    {"input_ids": [10, 11], "labels": [-100, 11]},
    {"input_ids": [12, 13, 14], "labels": [-100, -100, -100]},
    {"input_ids": [15, 16, 17, 18, 19, 20, 21], "labels": [15, 16, -100, -100, 19, 20, 21]},
    {"input_ids": [22], "labels": [22]},
]
NUM_SCORED = [3, 1, 0, 4, 0]  # the first token of a row is never predicted


def loss_of_transformers(model, row: dict) -> float:
    """The model's own mean loss of one row, unpadded."""
    with torch.no_grad():
        return model(input_ids=torch.tensor([row["input_ids"]]), labels=torch.tensor([row["labels"]])).loss.item()


@pytest.mark.parametrize("family", ["llama", "qwen2", "gpt2", "ftgpt", "gemma2"])
@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_answer_loss_equals_transformers_loss_row_by_row(make_model, family, batch_size):
    model = make_model(family)
    losses = answer_loss(model, ROWS, PAD_ID, batch_size)
    assert [number for _, number in losses] == NUM_SCORED
    for row, (total, number) in zip(ROWS, losses, strict=True):
        if number:
            assert total / number == pytest.approx(loss_of_transformers(model, row), abs=1e-5)
        else:
            assert total == 0.0


def test_sum_over_rows_is_the_mean_that_transformers_reports_for_the_batch(make_model):
    model = make_model()
    ids, mask, labels = scoring.padded(ROWS, PAD_ID, "cpu")
    with torch.no_grad():
        expected = model(input_ids=ids, attention_mask=mask, labels=labels).loss.item()
    losses = answer_loss(model, ROWS, PAD_ID)
    assert sum(total for total, _ in losses) / sum(number for _, number in losses) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("family", ["llama", "gpt2", "ftgpt"])
def test_logits_exist_at_trained_positions_only(make_model, family, monkeypatch):
    model = make_model(family)
    sizes = []
    model.get_output_embeddings().register_forward_hook(
        lambda module, inputs, output: sizes.append(output[..., 0].numel())
    )
    monkeypatch.setattr(scoring, "HEAD_CHUNK", 3)
    answer_loss(model, ROWS, PAD_ID, batch_size=8)
    # first the check on the shortest scored row, both ways, then 8 scored tokens in chunks of 3
    assert sizes == [2, 2, 3, 3, 2]


def test_soft_capped_logits_take_the_models_own_forward_however_close_they_are(make_model, monkeypatch):
    monkeypatch.setattr(scoring, "HEAD_TOLERANCE", 1e9)
    assert isinstance(scoring.choose_scorer(make_model("gemma2"), [5, 6, 7]), scoring.FullScorer)


def test_head_that_is_changed_behind_the_config_is_found_out(make_model):
    model = make_model()
    assert isinstance(scoring.choose_scorer(model, [5, 6, 7]), scoring.CompactScorer)
    forward = model.forward

    def scaled(*args, **kwargs):
        output = forward(*args, **kwargs)
        output.logits = output.logits * 0.5
        return output

    model.forward = scaled
    assert isinstance(scoring.choose_scorer(model, [5, 6, 7]), scoring.FullScorer)


@pytest.mark.parametrize("method", ["lora", "prompt_tuning"])
def test_answer_loss_of_a_peft_model_equals_its_own_loss(make_model, method):
    from peft import LoraConfig, PromptTuningConfig, get_peft_model

    torch.manual_seed(0)
    config = (
        LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear", init_lora_weights=False)
        if method == "lora"
        else PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)
    )
    model = get_peft_model(make_model(), config).eval()
    row = ROWS[0]
    assert answer_loss(model, [row], PAD_ID)[0] == (pytest.approx(3 * loss_of_transformers(model, row), abs=3e-5), 3)


def test_scoring_restores_the_mode_of_each_module_and_keeps_dropout_off(make_model):
    model = make_model("gpt2")
    expected = answer_loss(model, ROWS, PAD_ID)
    model.train()
    model.transformer.h[0].eval()
    before = [module.training for module in model.modules()]
    assert answer_loss(model, ROWS, PAD_ID) == expected
    assert [module.training for module in model.modules()] == before


def test_rows_of_unequal_length_are_named(make_model):
    with pytest.raises(ValueError, match="row 1: 2 input_ids and 1 labels"):
        answer_loss(make_model(), [ROWS[0], {"input_ids": [1, 2], "labels": [1]}], PAD_ID)


def test_no_rows_give_no_losses(make_model):
    assert answer_loss(make_model(), [], PAD_ID) == []


@pytest.mark.parametrize(
    ("prediction", "reference", "equal"),
    [
        ("iron", "iron", True),
        (" two  hundred\nfive ", "two hundred five", True),
        ("It ends.", "It ends", True),
        ("It ends .", "It ends", True),
        ("Iron", "iron", False),
        ("iron!", "iron", False),
        ("iron..", "iron", False),
        ("", "iron", False),
    ],
)
def test_exact_match_rule(prediction, reference, equal):
    assert exact_match([prediction], [reference]) == [equal]


def test_exact_match_refuses_unequal_lengths():
    with pytest.raises(ValueError, match="1 predictions and 2 references"):
        exact_match(["a"], ["a", "b"])


def test_most_frequent_answer_counts_normalised_answers_and_prefers_the_earliest():
    assert most_frequent_answer(["noun", "verb.", "verb", "bird"]) == "verb."
    assert most_frequent_answer(["b", "a", "a", "b"]) == "b"
    with pytest.raises(ValueError, match="no answers"):
        most_frequent_answer([])


def test_copy_input_takes_input_then_quoted_word_then_instruction():
    rows = [
        {"instruction": "Write it in capitals.", "input": " map "},
        {"instruction": 'Put "see" into the past, not "look".', "input": ""},
        {"instruction": "Say “moin”."},
        {"instruction": "Count to two.", "input": ""},
    ]
    assert copy_input(rows) == ["map", "look", "moin", "Count to two."]
