"""A run that is finite and yet lost is warned of once; what only looks like one is not."""

import logging
import random

import pytest

from ftkit.training.explosion import FAR, LONG, START_UPDATES, Explosion, rate_warning


def warnings_of(caplog, losses, norms=None) -> list[str]:
    explosion = Explosion()
    caplog.set_level(logging.WARNING)
    for update, loss in enumerate(losses, start=1):
        explosion.watch(update, loss, 1.0 if norms is None else norms[update - 1])
    return [record.getMessage() for record in caplog.records]


def test_a_loss_far_above_its_start_is_said_at_the_third_update(caplog):
    (text,) = warnings_of(caplog, [2.0] * START_UPDATES + [4.5] * 20)
    assert text.startswith(f"at update {START_UPDATES + FAR} the loss is 4.500, above its start (2.000)")


def test_a_loss_a_little_above_its_start_is_said_when_it_lasts(caplog):
    assert warnings_of(caplog, [2.0] * START_UPDATES + [2.1] * (LONG - 1)) == []
    (text,) = warnings_of(caplog, [2.0] * START_UPDATES + [2.1] * LONG)
    assert f"for {LONG} updates in a row" in text


@pytest.mark.parametrize("losses", [
    [2.0] * 40,
    [5.0, 3.0, 2.0, 1.8, 1.7, *[4.9] * 40],  # below the first
    [0.01] * START_UPDATES + [0.2, 0.009] * 20,  # small numbers double by chance
    [2.0] * START_UPDATES + [4.5, 4.5, 1.9] * 10,
], ids=["flat", "below_the_first", "small", "not_in_a_row"])  # fmt: skip
def test_these_are_no_explosion(caplog, losses):
    assert warnings_of(caplog, losses) == []


def test_noise_alone_is_hardly_ever_taken_for_one():
    draw, alarms = random.Random(0), 0
    for _ in range(2000):
        explosion = Explosion()
        for update in range(START_UPDATES + LONG):
            explosion.watch(update, draw.gauss(2.0, 0.3), 1.0)
        alarms += bool(explosion.warned)
    assert alarms <= 2  # 2000 / 15504 are expected


def test_a_gradient_of_zero_is_said_when_it_comes_twice_and_once_only(caplog):
    assert warnings_of(caplog, [2.0] * 4, norms=[1.0, 0.0, 1.0, 0.0]) == []
    (text,) = warnings_of(caplog, [2.0] * 6, norms=[1.0, 0.0, 0.0, 1.0, 0.0, 0.0])
    assert text.startswith("the gradient is exactly 0 at update 3, so nothing is learned")


@pytest.mark.parametrize(("rate", "optimizer", "is_soft_prompt", "said"), [
    (2e5, "adamw_torch_fused", False, "more than its size"), (0.2, "adamw_torch", False, "more than its size"),
    (0.1, "adamw_torch", False, None), (0.3, "adamw_torch", True, None), (3.0, "adamw_torch", True, "more than"),
    (1.0, "sgd", False, None), (20.0, "sgd", False, "more than"), (0.0, "adamw_torch", False, "too small"),
    (1e-10, "adamw_torch", False, "too small"), (1e-6, "adamw_torch", False, None),
])  # fmt: skip
def test_learning_rates_out_of_reason(rate, optimizer, is_soft_prompt, said):
    found = rate_warning(rate, optimizer, is_soft_prompt=is_soft_prompt)
    assert found is None if said is None else said in found
