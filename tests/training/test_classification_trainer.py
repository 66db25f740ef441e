"""The loss of a classifier's rows: weights and smoothing in training, neither in evaluation, one divisor an update."""

from types import SimpleNamespace

import pytest
import torch

from ftkit.training.methods.classify import FTClassificationTrainer

LOGITS = torch.tensor([[2.0, 0.0], [0.0, 1.0], [0.5, 0.5]])
LABELS = torch.tensor([0, 0, 1])


def loss(*, training=True, weights=None, smoothing=0.0, num_items=None):
    trainer = SimpleNamespace(
        model=SimpleNamespace(training=training),
        args=SimpleNamespace(label_smoothing_factor=smoothing),
        class_weights=None if weights is None else torch.tensor(weights),
    )
    return FTClassificationTrainer.row_loss(trainer, {"logits": LOGITS}, LABELS, num_items).item()


def row_losses():
    """-log softmax of the right class, by hand."""
    chances = LOGITS.exp() / LOGITS.exp().sum(dim=1, keepdim=True)
    return [-chances[row, label].log().item() for row, label in enumerate(LABELS.tolist())]


def test_it_is_the_mean_over_the_rows_of_the_update():
    assert loss() == pytest.approx(sum(row_losses()) / 3)
    assert loss(num_items=12) == pytest.approx(sum(row_losses()) / 12)


def test_weights_multiply_rows_and_do_not_change_the_divisor():
    first, second, third = row_losses()
    assert loss(weights=[0.5, 2.0]) == pytest.approx((0.5 * first + 0.5 * second + 2.0 * third) / 3)


def test_smoothing_equals_that_of_torch():
    expected = torch.nn.functional.cross_entropy(LOGITS, LABELS, label_smoothing=0.1).item()
    assert loss(smoothing=0.1) == pytest.approx(expected)


def test_evaluation_knows_neither():
    assert loss(training=False, weights=[0.5, 2.0], smoothing=0.1) == pytest.approx(sum(row_losses()) / 3)
