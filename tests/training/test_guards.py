"""What the guards let pass and what they stop, on numbers given by hand; runs are in tests/runs/test_not_finite.py."""

import json
import math
from types import SimpleNamespace

import pytest
import torch

from ftkit.config.errors import UserError
from ftkit.training.guards import SKIPS_IN_A_ROW, GuardMixin, optimizer_tensors
from ftkit.training.stopped_batch import sequences

MANY = 3 * SKIPS_IN_A_ROW


class Base:
    """What the guards ask of a Trainer."""

    def __init__(self, folder, *, fp16=False):
        self.args = SimpleNamespace(fp16=fp16, output_dir=str(folder), should_save=True)
        self.state = SimpleNamespace(global_step=0)
        self.accelerator = SimpleNamespace(num_processes=1)
        self.processing_class = SimpleNamespace(decode=lambda ids: f"text of {ids}")

    def is_world_process_zero(self):
        return True

    def training_step(self, model, inputs):
        return torch.tensor(inputs.pop("loss"))

    def _get_grad_norm(self, model, grad_norm=None):
        return grad_norm

    def settle(self):
        """No checkpoint is being published."""


class Guarded(GuardMixin, Base):
    """The guards alone."""

    def update(self, norm: float, losses=(1.0,)) -> None:
        for number, loss in enumerate(losses):
            self.training_step(None, {"input_ids": torch.tensor([[number, 7]]), "loss": loss})
        self._get_grad_norm(None, torch.tensor(norm))
        self.state.global_step += 1


def test_fp16_may_skip_updates_while_its_scale_comes_down(tmp_path):
    trainer = Guarded(tmp_path, fp16=True)
    for update in range(MANY):
        trainer.update(math.inf if update % SKIPS_IN_A_ROW else 1.0)  # one in so many is good
    assert trainer.state.global_step == MANY


def test_fp16_that_skips_every_update_is_stopped(tmp_path):
    trainer = Guarded(tmp_path, fp16=True)
    trainer.update(1.0)
    with pytest.raises(
        UserError,
        match=f"the gradient norm is inf in {SKIPS_IN_A_ROW} updates in a row, .* at update 25; .*--bf16 for --fp16",
    ):
        for _ in range(MANY):
            trainer.update(math.inf)


@pytest.mark.parametrize("fp16", [False, True])
def test_a_loss_is_stopped_in_any_precision(tmp_path, fp16):
    with pytest.raises(UserError, match="the loss is nan at update 1; nothing of it was saved"):
        Guarded(tmp_path, fp16=fp16).update(1.0, [1.0, math.nan])


@pytest.mark.parametrize("norm", [math.nan, math.inf])
def test_a_gradient_is_stopped_at_once_without_a_scaler(tmp_path, norm):
    with pytest.raises(UserError, match=f"the gradient norm is {norm} at update 1"):
        Guarded(tmp_path).update(norm)


def test_only_the_batches_with_a_bad_loss_are_kept(tmp_path):
    with pytest.raises(UserError):
        Guarded(tmp_path).update(1.0, [1.0, math.inf, 2.0])
    kept = json.loads((tmp_path / "stopped_batch.json").read_text())
    row = {"source": None, "num_tokens": 2, "loss": "inf", "text": "text of [1, 7]"}
    assert kept == {"update": 1, "reason": "the loss is inf", "rows": [row]}


def test_of_a_bad_gradient_all_batches_are_kept(tmp_path):
    with pytest.raises(UserError):
        Guarded(tmp_path).update(math.nan, [1.0, 2.0])
    assert len(json.loads((tmp_path / "stopped_batch.json").read_text())["rows"]) == 2


def test_an_update_forgets_the_batches_of_the_one_before(tmp_path):
    trainer = Guarded(tmp_path)
    trainer.update(1.0, [1.0, 2.0])
    assert trainer.batches == trainer.batch_losses == []


def test_the_state_of_an_optimizer_is_named_by_its_parameter():
    model = torch.nn.Linear(2, 1, bias=False)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    names = [name for name, _ in optimizer_tensors(optimizer, model)]
    assert names == [f"the optimizer's {kind} of weight" for kind in ("step", "exp_avg", "exp_avg_sq")]


IDS = torch.tensor([[5, 6, 7, 8], [9, 10, 11, 12]])
BATCHES = {
    "padded on the right and left": (
        {"input_ids": IDS, "attention_mask": torch.tensor([[1, 1, 0, 0], [0, 1, 1, 1]])}, [[5, 6], [10, 11, 12]],
    ),
    "packed": (
        {"input_ids": IDS, "position_ids": torch.tensor([[0, 1, 0, 1], [0, 0, 1, 2]])}, [[5, 6], [7, 8], [9], [10, 11, 12]],
    ),
    "blocks": ({"input_ids": IDS}, IDS.tolist()),
}  # fmt: skip


@pytest.mark.parametrize("name", BATCHES)
def test_a_batch_is_cut_into_its_rows(name):
    batch, rows = BATCHES[name]
    assert list(sequences(batch)) == rows
