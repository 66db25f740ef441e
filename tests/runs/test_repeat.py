"""`ftkit X --config OUT/run.yaml --output_dir NEW` trains the same bits; what no longer fits is decided again and shown."""

from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from ftkit.runs.recipes import load_recipe

RUNS = {  # name: command, flags
    "sft-lora-packed": ("sft", ["--use_peft", "--lora_dropout", "0.1", "--max_steps", "2"]),
    "sft-full-unpacked": ("sft", ["--packing", "false", "--max_steps", "2", "--test_size", "4"]),
    "dpo": ("dpo", ["--use_peft", "--max_steps", "2"]),
    "reward": ("reward", ["--use_peft", "--max_steps", "2"]),
    "kto": ("kto", ["--use_peft", "--max_steps", "2"]),
    "grpo": ("grpo", ["--use_peft", "--max_steps", "2"]),
    "ppo": ("ppo", ["--use_peft", "--max_steps", "3", "--kl_target", "1"]),
    "distill": ("distill", ["--use_peft", "--max_steps", "2"]),
    "pretrain": ("pretrain", ["--max_tokens", "800", "--lr_scheduler_type", "cosine", "--dropout", "0.1"]),
    "classify": ("classify", ["--early_stopping_patience", "1", "--num_train_epochs", "2", "--test_size", "4"]),
}


@pytest.fixture(scope="module", params=RUNS)
def first(request, files, tmp_path_factory):
    """A run of each trainer: its command and its folder."""
    command, flags = RUNS[request.param]
    out = tmp_path_factory.mktemp("first") / "out"
    files.run(command, out, *flags)
    return command, out


@pytest.fixture(scope="module")
def sft_run(files, tmp_path_factory):
    """A packed run on all weights, of one update."""
    out = tmp_path_factory.mktemp("sft") / "out"
    files.run("sft", out, "--max_steps", "1")
    return out


def repeat(command: str, config: Path, out: Path, *flags: str):
    recipe = load_recipe(command)
    return recipe.train(recipe.parse(["--config", str(config), "--output_dir", str(out), *flags]))


def weights(folder: Path) -> dict:
    return load_file(next(iter(folder.glob("*.safetensors"))))


def edited(out: Path, target: Path, change) -> Path:
    """A copy of OUT/run.yaml after `change` of its content."""
    content = yaml.safe_load((out / "run.yaml").read_text())
    change(content)
    target.write_text(yaml.safe_dump(content))
    return target


def test_a_run_repeated_from_its_run_yaml_gives_the_same_bits(first, tmp_path, capsys):
    command, out = first
    repeat(command, out / "run.yaml", tmp_path / "again")
    printed = capsys.readouterr().err
    assert "as in the run of --config" in printed and "changed" not in printed
    expected, found = weights(out), weights(tmp_path / "again")
    assert expected.keys() == found.keys() and all(torch.equal(expected[name], found[name]) for name in expected)
    before, after = (yaml.safe_load((folder / "run.yaml").read_text()) for folder in (out, tmp_path / "again"))
    assert before["asked"] | {"output_dir": str(tmp_path / "again")} == after["asked"]
    assert (before["decided"], before["hardware"]) == (after["decided"], after["hardware"])


def test_a_repeated_run_can_be_repeated(first, tmp_path, capsys):
    command, out = first
    repeat(command, out / "run.yaml", tmp_path / "again", "--plan")
    assert "as in the run of --config" in capsys.readouterr().err


def test_an_edited_setting_is_decided_again_and_each_difference_shown(sft_run, tmp_path, capsys):
    config = edited(sft_run, tmp_path / "c.yaml", lambda run: run["asked"].update(packing=False, learning_rate=1e-3))
    repeat("sft", config, tmp_path / "out", "--plan")
    printed = capsys.readouterr().err
    assert "decided    again: settings in the file of --config were edited" in printed
    assert "changed    packing: True in the run of --config, False here" in printed
    assert "changed    learning_rate: 0.0005 in the run of --config, 0.001 here" in printed
    assert "as in the run of --config" not in printed


def test_a_flag_on_the_line_is_decided_again_and_each_difference_shown(sft_run, tmp_path, capsys):
    repeat("sft", sft_run / "run.yaml", tmp_path / "out", "--plan", "--packing", "false")
    printed = capsys.readouterr().err
    assert "changed    packing: True in the run of --config, False here" in printed
    assert "changed    attention: packed_sdpa in the run of --config, sdpa here" in printed
    assert "changed    learning_rate" not in printed


def test_a_run_of_another_machine_is_decided_again_and_each_difference_shown(sft_run, tmp_path, capsys):
    def from_gpu(run):
        run["hardware"].update(device="cuda", name="NVIDIA H100 80GB HBM3")
        run["decided"].update(use_cpu=False, bf16=True, attention="sdpa")

    repeat("sft", edited(sft_run, tmp_path / "c.yaml", from_gpu), tmp_path / "out", "--plan")
    printed = capsys.readouterr().err
    assert "changed    attention: sdpa in the run of --config, packed_sdpa here" in printed
    assert "changed    use_cpu: False in the run of --config, True here" in printed


def test_rows_that_changed_since_are_decided_again(files, tmp_path, capsys):
    rows = tmp_path / "rows.jsonl"
    rows.write_text(files.path("sft").read_text())
    files.run(
        "sft", tmp_path / "out", "--max_steps", "1", "--per_device_train_batch_size", "1", "--dataset_name", str(rows)
    )
    rows.write_text(rows.read_text() + '{"instruction": "Repeat.", "output": "%s"}\n' % ("ba co du " * 50))
    capsys.readouterr()
    trainer = repeat("sft", tmp_path / "out/run.yaml", tmp_path / "again")
    printed = capsys.readouterr().err
    assert "decided    again: rows or model are not those of the run of --config" in printed
    assert "changed    block_length" in printed
    assert not any(len(ids) > trainer.args.max_length for ids in trainer.train_dataset["input_ids"])


FLAT = {
    "sft": "bf16: false\nmax_length: 256\npacking: true\nuse_peft: true\nactivation_checkpointing: false\nmax_steps: 1\n",
    "pretrain": (
        "max_tokens: 640.0\nmax_steps: 5\nlr_scheduler_type: cosine_with_min_lr\nlr_scheduler_kwargs:\n  min_lr_rate: 0.1\n"
        "min_learning_rate_share: 0.1\nlogging_steps: 1\nbf16: false\n"
    ),
}  # fmt: skip


@pytest.mark.parametrize("command", FLAT)
def test_the_flat_file_of_the_first_version_repeats_its_run(command, files, tmp_path):
    old = tmp_path / "run.yaml"
    flags = iter(files.flags(command, tmp_path / "out")[: -len(("--bf16", "false", "--num_samples", "0"))])
    named = {name.removeprefix("--"): next(flags) if name != "--disable_tqdm" else True for name in flags}
    old.write_text(f"# ftkit {command} --config run.yaml\n" + FLAT[command] + yaml.safe_dump(named))
    trainer = repeat(command, old, tmp_path / "again")
    assert trainer.state.global_step == {"sft": 1, "pretrain": 2}[command]
