"""NaN and infinity, in whatever way they come up, end a run of any trainer within one update, and nothing of it is kept.

Eleven ways x four trainers x with and without held-out rows, four ways x five more, of which the default suite runs one of each way; infinity goes the way of NaN.
"""

import functools
import json
import math
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from ftkit.config.parser import run
from ftkit.runs import lifecycle
from ftkit.runs.recipes import load_recipe
from ftkit.training.checkpoints import list_checkpoints, verify_checkpoint

TRAINERS = ("sft", "dpo", "pretrain", "classify")
REWARDED = ("kto", "grpo", "ppo", "distill", "reward")  # each in one way by default
BAD = 3  # the update in which it happens
FLAGS = (
    "--max_steps", "5", "--save_strategy", "steps", "--save_steps", "1", "--logging_steps", "1", "--dropout", "0",
    "--per_device_train_batch_size", "2", "--gradient_accumulation_steps", "2", "--learning_rate", "1e-3",
)  # fmt: skip
HELD_OUT = ("--test_size", "4", "--eval_strategy", "steps", "--eval_steps", "1")
RESULTS = ("*.safetensors", "README.md", "report.html", "results.json", "loss.png")  # of a run that is done


def in_bad_update(trainer) -> bool:
    return trainer.state.global_step == BAD - 1 and trainer.model.training


def trained(trainer) -> torch.nn.Parameter:
    """The last trained weight with a gradient in every update."""
    return [one for one in trainer.model.parameters() if one.requires_grad][-1]


def bad_loss(trainer, value: float) -> None:
    """The loss alone is not finite: its gradient is that of a good one."""
    compute_loss = trainer.compute_loss

    def compute(*args, **kwargs):
        loss = compute_loss(*args, **kwargs)
        return loss + value if in_bad_update(trainer) else loss

    trainer.compute_loss = compute


def bad_gradient(trainer, value: float) -> None:
    """One element of a gradient is not finite, under a good loss."""
    training_step = trainer.training_step

    def step(*args, **kwargs):
        loss = training_step(*args, **kwargs)
        if in_bad_update(trainer):
            trained(trainer).grad.view(-1)[0] = value
        return loss

    trainer.training_step = step


def bad_weight(trainer, value: float) -> None:
    """A weight is no longer finite when the update begins."""
    training_step = trainer.training_step

    def step(*args, **kwargs):
        if in_bad_update(trainer):
            trained(trainer).data.view(-1)[0] = value
        return training_step(*args, **kwargs)

    trainer.training_step = step


def bad_optimizer(trainer, value: float) -> None:
    """The optimizer's state turns the weights of a good update into what is not finite."""
    training_step = trainer.training_step

    def step(*args, **kwargs):
        if in_bad_update(trainer):
            trainer.optimizer.state[trained(trainer)]["exp_avg"].view(-1)[0] = value
        return training_step(*args, **kwargs)

    trainer.training_step = step


@dataclass(frozen=True)
class Way:
    """inject: called with the trainer before its first update. base: put into one tensor of the model that is loaded.

    flags: beside FLAGS. last: the newest checkpoint that is left. said: what the line on stderr says.
    """

    said: str
    inject: Callable | None = None
    base: float | None = None
    flags: tuple[str, ...] = ()
    last: int = BAD - 1


WAYS = {
    "nan_loss": Way("the loss is nan at update 3;", functools.partial(bad_loss, value=math.nan)),
    "inf_loss": Way("the loss is inf at update 3;", functools.partial(bad_loss, value=math.inf)),
    "nan_gradient": Way("the gradient norm is nan at update 3;", functools.partial(bad_gradient, value=math.nan)),
    "inf_gradient": Way("the gradient norm is inf at update 3;", functools.partial(bad_gradient, value=math.inf)),
    "nan_weight": Way("the loss is nan at update 3;", functools.partial(bad_weight, value=math.nan)),
    "inf_weight": Way("(loss|gradient norm) is (nan|inf) at update 3;", functools.partial(bad_weight, value=math.inf)),
    "nan_optimizer": Way("NaN or infinity .* after update 3;|loss is nan after", functools.partial(bad_optimizer, value=math.nan)),
    "learning_rate": Way("(nan|inf|NaN or infinity.*) (at update [23]|after update [12]);", flags=("--learning_rate", "1e30"), last=2),
    "nan_base": Way("tensor .* holds NaN or infinity as float32", base=math.nan, last=0),
    "huge_base": Way("(held-out loss|loss|held-out rows) .*(at update 1;|before the first update;|weights or the precision)", base=3e38, last=0),
    "inf_base": Way("tensor .* holds NaN or infinity as float32", base=math.inf, last=0),
}  # fmt: skip
ADAPTER = Way(
    "NaN or infinity .*lora_.* after update 3;",
    functools.partial(bad_optimizer, value=math.nan),
    flags=("--use_peft",),
)
SAMPLE = {(way, TRAINERS[number % 4], number % 3 == 0) for number, way in enumerate(WAYS) if not way.startswith("inf_")}
TABLE = [
    pytest.param(way, trainer, held_out, id=f"{way}-{trainer}-{'held_out' if held_out else 'all_trained'}",
                 marks=() if (way, trainer, held_out) in SAMPLE else pytest.mark.slow)
    for way in WAYS for trainer in TRAINERS for held_out in (False, True)
]  # fmt: skip
WAYS_OF_TRAINING = ("nan_loss", "nan_gradient", "nan_weight", "nan_optimizer")
TABLE += [
    pytest.param(way, trainer, False, id=f"{way}-{trainer}",
                 marks=() if way == WAYS_OF_TRAINING[number % 4] else pytest.mark.slow)
    for number, trainer in enumerate(REWARDED) for way in WAYS_OF_TRAINING
]  # fmt: skip
TABLE.append(pytest.param("nan_adapter", "sft", False, id="nan_adapter-sft"))


def damaged_base(source: Path, target: Path, value: float) -> Path:
    """A copy of a model with `value` in its last tensor, or where that is finite, in all of its layers."""
    shutil.copytree(source, target)
    path = target / "model.safetensors"
    tensors = load_file(path)
    tensors[max(tensors)].view(-1)[-1] = value
    for name in tensors if math.isfinite(value) else ():
        if "mlp" in name:
            tensors[name].fill_(value)
    save_file(tensors, path, metadata={"format": "pt"})
    return target


def argv_of(files, trainer: str, out: Path, way: Way, held_out: bool) -> list[str]:
    argv = [*files.flags(trainer, out), *FLAGS, *(HELD_OUT if held_out else ()), *way.flags]
    if trainer != "pretrain":
        del argv[(place := argv.index("--dropout")) : place + 2]
    if way.base is not None:
        model = str(damaged_base(files.model, out.parent / "base", way.base))
        if trainer == "pretrain":
            argv = ["--dataset_name", str(files.path(trainer)), "--output_dir", str(out), "--model_name_or_path", model,
                    "--block_size", "32", "--disable_tqdm", "--bf16", "false"]  # fmt: skip
        else:
            argv[argv.index("--model_name_or_path") + 1] = model
    return argv


@pytest.mark.parametrize(("name", "trainer", "held_out"), TABLE)
def test_it_stops_within_one_update_and_keeps_nothing_of_it(
    name, trainer, held_out, files, tmp_path, monkeypatch, capsys
):
    way, out = WAYS.get(name, ADAPTER), tmp_path / "out"
    announce = lifecycle.announce

    def announce_and_inject(run, method, trainer, *rest):
        announce(run, method, trainer, *rest)
        if way.inject:
            way.inject(trainer)

    monkeypatch.setattr(lifecycle, "announce", announce_and_inject)
    assert run(load_recipe(trainer).main, argv_of(files, trainer, out, way, held_out)) == 2
    lines = capsys.readouterr().err.rstrip("\n").split("\n")
    assert re.search(way.said, lines[-1]), lines[-3:]
    assert "done:" not in lines
    kept = list_checkpoints(out)
    assert [verify_checkpoint(path) for path in kept] == [[]] * len(kept)
    assert max((int(path.name.removeprefix("checkpoint-")) for path in kept), default=0) <= way.last
    assert all(
        torch.isfinite(value).all()
        for path in kept
        for file in path.glob("*model.safetensors")
        for value in load_file(file).values()
    )
    assert not [path for pattern in RESULTS for path in out.glob(pattern)]
    for line in (out / "metrics.jsonl").read_text().split("\n")[:-1] if kept else ():
        record = json.loads(line, parse_constant=pytest.fail)
        assert None not in record.values()
        assert record["step"] <= BAD


@pytest.mark.parametrize(
    "trainer",
    [
        "dpo",
        "pretrain",
        "grpo",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("sft", "reward", "classify")),
    ],
)
def test_the_batch_is_kept_with_the_lines_of_its_rows(trainer, files, tmp_path, monkeypatch, capsys):
    out, announce = tmp_path / "out", lifecycle.announce

    def announce_and_inject(run, method, built, *rest):
        announce(run, method, built, *rest)
        bad_loss(built, math.nan)

    monkeypatch.setattr(lifecycle, "announce", announce_and_inject)
    assert run(load_recipe(trainer).main, argv_of(files, trainer, out, Way(""), held_out=False)) == 2
    kept = json.loads((out / "stopped_batch.json").read_text())
    assert (kept["update"], kept["reason"]) == (BAD, "the loss is nan")
    texts = [json.loads(line) for line in files.path(trainer).read_text().split("\n")[:-1]]
    for row in kept["rows"]:
        places = [source.rsplit(":", 1) for source in row["source"].split(", ")]
        wrote = [texts[int(line) - 1] for _, line in places]
        words = [(one.get("input") or one.get("prompt") or one["text"]).split()[0] for one in wrote]
        assert {path for path, _ in places} == {str(files.path(trainer))}
        assert all(word in row["text"] for word in words[1:])  # of the first document of a block may be its end alone
        assert len(words) > 1 or words[0] in row["text"]
        assert row["loss"] == "nan" and row["num_tokens"] > 1
    assert kept["rows"][0]["source"].split(", ")[0] in capsys.readouterr().err


@pytest.mark.slow
def test_all_processes_stop_where_the_loss_of_one_is_not_finite(files, tmp_path):
    out, script = tmp_path / "out", Path(__file__).with_name("not_finite_in_one_process.py")
    line = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc_per_node",
        "2",
        "--master_port",
        "29733",
        str(script),
    ]
    argv = ["sft", *files.flags("sft", out), *FLAGS[:6], "--per_device_train_batch_size", "2"]
    done = subprocess.run([*line, *argv], capture_output=True, text=True, timeout=280)
    assert done.returncode == 1  # torchrun's, of processes that end with 2
    assert done.stderr.count("the loss is nan at update 3; nothing of it was saved") == 2, done.stderr[-3000:]
    assert "exitcode  : 2" in done.stderr
    assert [path.name for path in list_checkpoints(out)] == ["checkpoint-1", "checkpoint-2"]
    rows = json.loads((out / "stopped_batch.json").read_text())["rows"]
    assert [row["loss"] for row in rows] == ["nan"] * len(rows) and 1 <= len(rows) <= 2  # those of one process


@pytest.mark.parametrize("trainer", ["sft"])
def test_the_same_command_goes_on_once_the_cause_is_gone(trainer, files, tmp_path, monkeypatch):
    out, announce = tmp_path / "out", lifecycle.announce
    argv = argv_of(files, trainer, out, Way(""), held_out=False)

    def announce_and_inject(run, method, built, *rest):
        announce(run, method, built, *rest)
        bad_loss(built, math.nan)

    with monkeypatch.context() as patch:
        patch.setattr(lifecycle, "announce", announce_and_inject)
        assert run(load_recipe(trainer).main, argv) == 2
    assert run(load_recipe(trainer).main, argv) == 0
    assert list_checkpoints(out)[-1].name == "checkpoint-5"
    assert not (out / "stopped_batch.json").exists()
