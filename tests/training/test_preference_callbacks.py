"""A preference run that unlearns what it should prefer is warned of, once; one that learns nothing has its cause named."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
from preference_runs import built

from ftkit.config.errors import UserError
from ftkit.training.preferences import BothFallCallback, StuckCallback, stuck_because

ARGS = SimpleNamespace(beta=0.05)  # a reward of -0.1 is two nats less than at the start


def warnings_of(rewards: list[tuple[float, float]], prefix: str, capsys) -> int:
    callback = BothFallCallback("chosen and rejected", "lower --learning_rate")
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
    callback = BothFallCallback("chosen and rejected", "lower --learning_rate")
    state = SimpleNamespace(global_step=1, is_world_process_zero=True)
    for logs in ({"loss": 1.0}, None, {"train_runtime": 1.0}):
        callback.on_log(ARGS, state, None, logs)
    assert capsys.readouterr().err == ""


STATES = {  # largest reward of each batch, learning rate -> whether it looks, and at which update
    "moves": ([1e-3] * 12, 1e-5, None),
    "stays": ([1e-9] * 12, 1e-5, 10),
    "moves late": ([0.0] * 8 + [1e-3] * 4, 1e-5, None),
    "warms up": ([0.0] * 12, 0.0, None),
}


@pytest.mark.parametrize(("rewards", "rate", "stops_at"), STATES.values(), ids=STATES)
def test_a_run_that_stays_at_its_reference_is_looked_at_after_ten_updates(rewards, rate, stops_at, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "ftkit.training.preferences.stuck_because", lambda *args: (seen.append(args), ("why", False))[1]
    )
    callback, state = StuckCallback(None), SimpleNamespace(global_step=0, is_world_process_zero=True)
    for state.global_step, reward in enumerate(rewards, start=1):
        logs = {"loss": 0.69315, "rewards/chosen": reward, "rewards/rejected": -reward, "learning_rate": rate}
        callback.on_log(ARGS, state, None, logs)
        assert bool(seen) == (stops_at is not None and state.global_step >= stops_at)
    assert len(seen) == bool(stops_at)


def test_a_short_run_that_never_moved_says_so_at_its_end(tiny_folder, tmp_path, capsys):
    built("dpo", tiny_folder, tmp_path, "--learning_rate", "1e-12").train()
    (line,) = [line for line in capsys.readouterr().err.split("\n") if line.startswith("warning: after")]
    assert line.startswith(
        "warning: after 3 updates the answers are as likely as under the reference (loss 0.6931, as at the start): a "
        "learning rate of at most 1e-12 has moved them by no more than "
    )


def switch_off(trainer):
    trainer.model.base_model.disable_adapter_layers()
    for name, weight in trainer.model.named_parameters():
        weight.requires_grad_("lora" in name)


def freeze(trainer):
    trainer.model.requires_grad_(False)


def share(trainer):
    trainer.ref_model = trainer.model


def equal_rows(trainer):
    trainer.train_dataset = trainer.train_dataset.map(lambda row: {"rejected_ids": row["chosen_ids"]})


def nothing(trainer):
    pass


RATE = {"learning_rate": 1e-9, "grad_norm": 1.0}
CAUSES = {  # flags, what is done to the trainer, its last record, what is said, whether the run ends
    "adapter": (("--use_peft",), switch_off, RATE, "the adapter is switched off", True),
    "frozen": ((), freeze, RATE, "no weight is trained", True),
    "same model": ((), share, RATE, "the reference is the trained model itself", True),
    "equal": ((), equal_rows, RATE, "chosen and rejected answers are equal in every row", True),
    "no gradient": ((), nothing, RATE | {"grad_norm": 0.0}, "the gradient is exactly 0", True),
    "rate 0": (("--use_peft",), nothing, RATE | {"learning_rate": 0.0}, "the learning rate has been 0 so far", False),
    "small rate": (("--use_peft",), nothing, RATE, "has moved them by no more than 1e-05 nats; raise", False),
}


@pytest.mark.parametrize(("flags", "spoil", "logs", "said", "ends"), CAUSES.values(), ids=CAUSES)
def test_what_keeps_a_run_at_its_reference_is_named(flags, spoil, logs, said, ends, tiny_folder, tmp_path, capsys):
    trainer = built("dpo", tiny_folder, tmp_path, *flags)
    spoil(trainer)
    reason, is_final = stuck_because(trainer, logs, 1e-5)
    assert said in reason and is_final == ends
    callback, state = StuckCallback(trainer), SimpleNamespace(global_step=10, is_world_process_zero=True)
    with pytest.raises(UserError, match=said) if ends else nullcontext():
        callback.on_log(trainer.args, state, None, {"rewards/chosen": 1e-6, "rewards/rejected": 0.0, **logs})
        callback.on_train_end(trainer.args, state, None)
        assert said[:20] in capsys.readouterr().err
