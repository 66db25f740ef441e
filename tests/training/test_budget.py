"""The length, the schedule and the cost of a pretraining run are what the budget says."""

import pytest
import torch
from transformers import get_scheduler

from ftkit.config.errors import UserError
from ftkit.config.settings.pretrain import PretrainArguments
from ftkit.training.budget import (
    budget_lines,
    settle_length,
    settle_schedule,
    tokens_per_update,
    training_flops,
)


def arguments(tmp_path, **settings) -> PretrainArguments:
    return PretrainArguments(output_dir=str(tmp_path), use_cpu=True, **settings)


def learning_rates(training, updates: int) -> list[float]:
    """The learning rate of each update as transformers' own scheduler gives it."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = get_scheduler(
        training.lr_scheduler_type, optimizer, num_warmup_steps=10, num_training_steps=updates,
        scheduler_specific_kwargs=training.lr_scheduler_kwargs,
    )  # fmt: skip
    rates = []
    for _ in range(updates):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def test_a_budget_of_tokens_becomes_updates(tmp_path):
    training = arguments(tmp_path, max_tokens=1e5, per_device_train_batch_size=4, gradient_accumulation_steps=2)
    assert tokens_per_update(training, 128) == 1024
    assert settle_length(training, 128, 500) == training.max_steps == 98  # 97.7 rounded


def test_without_a_budget_the_passes_count_and_the_last_batch_is_left_out(tmp_path):
    training = arguments(tmp_path, num_train_epochs=2, per_device_train_batch_size=4)
    assert settle_length(training, 128, 43) == 20


def test_what_trains_nothing_is_refused(tmp_path):
    with pytest.raises(UserError, match="needs --max_tokens or --max_steps"):
        settle_length(arguments(tmp_path), 128, None)
    with pytest.raises(UserError, match="3 blocks of 128 tokens do not fill one batch"):
        settle_length(arguments(tmp_path, per_device_train_batch_size=4), 128, 3)
    with pytest.raises(UserError, match="--max_tokens and --max_steps both end the run"):
        arguments(tmp_path, max_tokens=10, max_steps=3)
    with pytest.raises(UserError, match="--decay_share is 2; give a share"):
        arguments(tmp_path, decay_share=2)
    with pytest.raises(UserError, match="--max_tokens is 0; give a number"):
        arguments(tmp_path, max_tokens=0)


def test_cosine_ends_at_the_share_of_the_peak(tmp_path):
    training = arguments(tmp_path, min_learning_rate_share=0.1)
    settle_schedule(training, 100)
    rates = learning_rates(training, 100)
    assert max(rates) == rates[10] == 1.0 and rates[-1] == pytest.approx(0.1, abs=0.01)


def test_warmup_stable_decay_stays_at_the_peak_until_it_decays(tmp_path):
    training = arguments(tmp_path, lr_scheduler_type="warmup_stable_decay", decay_share=0.3, min_learning_rate_share=0)
    settle_schedule(training, 100)
    rates = learning_rates(training, 100)
    assert rates[10:70] == [1.0] * 60 and rates[71] < 1 and rates[-1] < 0.02
    assert all(late < early for early, late in zip(rates[70:], rates[71:], strict=False))


def test_settings_of_the_schedule_that_a_person_gave_stay(tmp_path):
    training = arguments(tmp_path, lr_scheduler_kwargs={"num_cycles": 1})
    settle_schedule(training, 100)
    assert training.lr_scheduler_kwargs == {"num_cycles": 1} and training.lr_scheduler_type == "cosine"


def test_the_estimate_is_six_operations_a_parameter_and_token():
    assert training_flops(124_000_000, 1e9) == 7.44e17
    lines = budget_lines(5_000_000, 10_000_000, 4_000_000)
    assert "3.00e+14 operations" in lines[0] and "2.0 tokens per parameter" in lines[1] and "2.50 over" in lines[2]
