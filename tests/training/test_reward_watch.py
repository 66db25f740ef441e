"""What goes wrong while rewards are trained is warned of, each once, by name; a good run is left alone."""

import logging
from types import SimpleNamespace

import pytest

from ftkit.training.reward_watch import RewardWatch

GOOD = {
    "reward": 0.2, "entropy": 1.0, "completions/mean_length": 10.0, "kl": 0.01, "completions/clipped_ratio": 0.1,
    "groups_with_spread": 0.9,
}  # fmt: skip
CASES = {  # what the log says after a good start, and what is warned of
    "good": ({"reward": 0.9}, None),
    "entropy": ({"entropy": 0.09}, "the entropy is 0.09 nats per token, from 1: the answers are nearly always the same"),
    "low entropy yet": ({"entropy": 0.11}, None),
    "kl": ({"kl": 11.0}, "the KL to the start is 11 nats per token; raise --beta or lower --learning_rate"),
    "cut": ({"completions/clipped_ratio": 0.6}, "60.0 % of the answers reach --max_completion_length"),
    "spread": ({"groups_with_spread": 0.1}, "90.0 % of the groups have rewards that are all equal, and teach nothing"),
    "longer": ({"reward": 0.5, "completions/mean_length": 16.0}, "answers have 16.0 tokens, from 10.0, while the reward rose"),
    "shorter": ({"reward": 0.5, "completions/mean_length": 5.0}, "answers have 5.0 tokens, from 10.0, while the reward rose"),
    "longer for nothing": ({"completions/mean_length": 16.0}, None),
}  # fmt: skip


def warned(changes: dict, caplog, rewards=("exact_answer",)) -> list[str]:
    """The warnings of a run whose first five log lines are good and whose next three are changed."""
    trainer = SimpleNamespace(kl_flags="--beta", rewards=[SimpleNamespace(name=name) for name in rewards])
    watch = RewardWatch(trainer)
    with caplog.at_level(logging.WARNING):
        for step in range(8):
            state = SimpleNamespace(global_step=step, is_world_process_zero=True)
            watch.on_log(None, state, None, GOOD | (changes if step >= 5 else {}))
    return [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize(("changes", "message"), CASES.values(), ids=CASES)
def test_what_goes_wrong_is_warned_of_once(changes, message, caplog):
    found = warned(changes, caplog)
    assert len(found) == bool(message)
    if message:
        assert found[0].startswith("at update 5 ") and message in found[0]


def test_a_reward_for_the_length_may_change_lengths(caplog):
    assert warned({"reward": 0.5, "completions/mean_length": 5.0}, caplog, rewards=("length:-5",)) == []
