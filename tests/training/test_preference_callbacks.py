"""The warning that a preference run unlearns what it should prefer comes when both answers fall, and once."""

from types import SimpleNamespace

import pytest

from ftkit.training.callbacks import BothFallCallback

ARGS = SimpleNamespace(beta=0.05)  # a reward of -0.1 is two nats less than at the start


def warnings_of(rewards: list[tuple[float, float]], prefix: str, capsys) -> int:
    callback = BothFallCallback()
    for step, (chosen, rejected) in enumerate(rewards):
        logs = {f"{prefix}rewards/chosen": chosen, f"{prefix}rewards/rejected": rejected}
        callback.on_log(ARGS, SimpleNamespace(global_step=step, is_world_process_zero=True), None, logs)
    return capsys.readouterr().err.count("warning")


@pytest.mark.parametrize("prefix", ["", "eval_"])
@pytest.mark.parametrize(
    ("rewards", "expected"),
    [
        ([(-0.1, -0.5), (-0.2, -0.9), (-0.3, -1.2)], 1),
        ([(-0.1, -0.5), (0.2, -0.9), (-0.3, -1.2)], 0),  # one batch may be an accident
        ([(0.1, -0.5), (0.2, -0.9)], 0),
        ([(0.1, 0.5), (0.2, 0.9)], 0),
        ([(-0.04, -0.5), (-0.04, -0.9)], 0),  # less than a nat: the noise of a batch
    ],
)
def test_it_warns_once_when_both_rewards_stay_negative(rewards, expected, prefix, capsys):
    assert warnings_of(rewards, prefix, capsys) == expected


def test_losses_without_rewards_are_no_matter_of_this_callback(capsys):
    callback = BothFallCallback()
    state = SimpleNamespace(global_step=1, is_world_process_zero=True)
    for logs in ({"loss": 1.0}, None, {"train_runtime": 1.0}):
        callback.on_log(ARGS, state, None, logs)
    assert capsys.readouterr().err == ""
