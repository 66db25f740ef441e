"""Runs that are finite and yet lost are warned of, and receipt.json says which tensors have moved."""

import json
import logging

import pytest

from ftkit.config.errors import UserError
from ftkit.runs import lifecycle

SHORT = ("--max_steps", "6", "--save_strategy", "no", "--learning_rate", "1e-3")
MOVED = {
    "sft": (("--use_peft", "--use_dora"), {"lora_A": 14, "lora_B": 14, "magnitude": 14}, 20),
    "dpo": ((), {"embeddings": 1, "layers": 19}, 0),
    "reward": ((), {"embeddings": 1, "layers": 19, "head": 1}, 0),
    "ppo": ((), {"embeddings": 1, "layers": 19, "value head": 2}, 0),
    "pretrain": ((), {"embeddings": 1, "layers": 10}, 0),
    "classify": (("--num_trained_layers", "0"), {"head": 1}, 20),
}  # flags, trained tensors by group, frozen tensors


@pytest.mark.parametrize(
    "trainer",
    ["sft", "classify", *(pytest.param(name, marks=pytest.mark.slow) for name in ("dpo", "reward", "ppo", "pretrain"))],
)
def test_the_receipt_says_which_tensors_have_moved(trainer, files, tmp_path, caplog):
    flags, trained, num_frozen = MOVED[trainer]
    files.run(trainer, tmp_path / "out", *SHORT, *flags)
    moved = json.loads((tmp_path / "out" / "receipt.json").read_text())["moved"]
    frozen = {"frozen": {"tensors": num_frozen, "moved": 0}} if num_frozen else {}
    assert (
        moved["groups"] == {group: {"tensors": number, "moved": number} for group, number in trained.items()} | frozen
    )
    assert moved["updates"] in (5, 6)  # the first has no learning rate where it is warmed up
    assert not [record for record in caplog.records if "moved" in record.getMessage()]


def test_what_does_not_move_and_what_should_not_are_named(files, tmp_path, monkeypatch, caplog):
    announce = lifecycle.announce

    def announce_and_spoil(run, method, trainer, *rest):
        announce(run, method, trainer, *rest)
        named = dict(trainer.model.named_parameters())
        stuck = next(one for name, one in named.items() if "layers.1.mlp.up_proj.lora_B" in name)
        stuck.register_hook(lambda gradient: gradient * 0)
        optimizer_step = trainer.create_optimizer().step

        def step(*args, **kwargs):
            next(one for name, one in named.items() if "layers.0.mlp.up_proj.base_layer" in name).data.add_(1e-3)
            return optimizer_step(*args, **kwargs)

        trainer.optimizer.step = step

    monkeypatch.setattr(lifecycle, "announce", announce_and_spoil)
    caplog.set_level(logging.WARNING)
    files.run("sft", tmp_path / "out", *SHORT, "--use_peft")
    first, second, third = [text for record in caplog.records if "moved" in (text := record.getMessage())]
    assert first.startswith(
        "1 frozen tensors have moved: base_model.model.model.layers.0.mlp.up_proj.base_layer.weight"
    )
    assert second.startswith("lora_A: 1 of 14 tensors have not moved in 5 updates (float32): base_model")
    assert third.startswith("lora_B: 1 of 14 tensors have not moved in 5 updates (float32): base_model")
    assert "layers.1.mlp.up_proj.lora_B.default.weight" in third


def test_a_learning_rate_out_of_reason_is_said_in_the_plan(files, tmp_path, capsys):
    files.run("sft", tmp_path / "out", "--plan", "--learning_rate", "2e5")
    assert "warning    learning rate 200000 moves every weight by more than its size" in capsys.readouterr().err


def test_a_run_whose_loss_explodes_is_warned_of_while_it_goes(files, tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    files.run("sft", tmp_path / "out", "--max_steps", "12", "--save_strategy", "no", "--learning_rate", "5",
              "--warmup_steps", "6", "--lr_scheduler_type", "constant_with_warmup")  # fmt: skip
    (text,) = [text for record in caplog.records if "above its start" in (text := record.getMessage())]
    assert "3 updates in a row; lower --learning_rate" in text


@pytest.mark.parametrize(("flag", "value"), [("learning_rate", "inf"), ("weight_decay", "nan")])
def test_a_setting_that_is_not_finite_is_refused(files, tmp_path, flag, value):
    with pytest.raises(UserError, match=f"--{flag} is {value}; give a number that is finite"):
        files.parse("sft", tmp_path / "out", f"--{flag}", value)
