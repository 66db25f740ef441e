"""What pretraining costs is what the budget says, and settings that end no run are refused."""

import pytest

from ftkit.config.errors import UserError
from ftkit.config.settings.pretrain import PretrainArguments
from ftkit.training.budget import budget_lines, training_flops


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_tokens": 10, "max_steps": 3}, "--max_tokens and --max_steps both end the run"),
        ({"decay_share": 2}, "--decay_share is 2; give a share"),
        ({"max_tokens": 0}, "--max_tokens is 0; give a number"),
    ],
)
def test_budgets_that_cannot_be_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        PretrainArguments(output_dir="o", **settings)


def test_the_estimate_is_six_operations_a_parameter_and_token():
    assert training_flops(124_000_000, 1e9) == 7.44e17
    lines = budget_lines(5_000_000, 10_000_000, 4_000_000)
    assert "3.00e+14 operations" in lines[0] and "2.0 tokens per parameter" in lines[1] and "2.50 over" in lines[2]
