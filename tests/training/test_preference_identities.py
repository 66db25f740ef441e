"""What a loss of preferences must not depend on: padding, the order in a batch; and what it is at the reference itself."""

import math

import pytest
import torch
from preference_runs import built

from ftkit.config.versions import has_fused_head
from ftkit.training import reference_free

RUNS = {
    "dpo": ("dpo", ()),
    "ipo": ("dpo", ("--loss_type", "ipo")),
    "orpo": ("dpo", ("--loss_type", "orpo")),
    "simpo": ("dpo", ("--loss_type", "simpo", "--cpo_alpha", "0.5")),
    "kto": ("kto", ()),
}
AT_START = {"dpo": math.log(2), "ipo": 25.0, "kto": 0.5}  # (1 / (2 * 0.1)) ** 2; 1 - sigmoid(0)


@pytest.fixture(scope="module")
def trainer(request, tiny_folder, tmp_path_factory):
    command, flags = RUNS[request.param]
    found = built(command, tiny_folder, tmp_path_factory.mktemp("run"), *flags)
    found.name = request.param
    found.model.train()
    return found


def loss_of(trainer, rows: list[dict], multiple: int | None = None) -> float:
    trainer.data_collator.pad_to_multiple_of = multiple
    with torch.no_grad():
        return trainer._compute_loss(trainer.model, trainer.data_collator(rows), False).item()


@pytest.mark.parametrize("trainer", AT_START, indirect=True)
def test_a_policy_that_is_its_reference_has_no_margin_and_no_kl(trainer):
    trainer._metrics["train"].clear()
    assert loss_of(trainer, trainer.train_dataset.to_list()) == pytest.approx(AT_START[trainer.name], rel=1e-6)
    logged = trainer._metrics["train"]
    assert logged["rewards/margins"] == logged["rewards/chosen"] == [0.0]
    if has_fused_head() or trainer.name == "kto":  # whose log-probabilities per token it is taken from
        assert logged["kl"] == [0.0]


@pytest.mark.parametrize("trainer", RUNS, indirect=True)
def test_the_loss_is_the_same_in_any_order_and_with_any_padding(trainer):
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in trainer.model.parameters():
            weight.add_(torch.randn_like(weight) * 0.03)
    rows = trainer.train_dataset.to_list()
    loss = loss_of(trainer, rows)
    assert loss_of(trainer, rows[::-1]) == pytest.approx(loss, rel=1e-6)
    assert loss_of(trainer, rows, multiple=128) == pytest.approx(loss, rel=1e-6)
    assert loss_of(trainer, rows[:4]) != pytest.approx(loss, rel=1e-3)


@pytest.mark.parametrize("trainer", ["orpo", "simpo"], indirect=True)
def test_a_trl_without_a_head_to_replace_gives_the_same_loss(trainer, monkeypatch):
    rows = trainer.train_dataset.to_list()
    loss = loss_of(trainer, rows)
    monkeypatch.setattr(reference_free, "has_fused_head", lambda: False)
    assert loss_of(trainer, rows) == pytest.approx(loss, rel=1e-6)
