"""Every command line in the README parses, its tree names every file, and the cheap commands run."""

import importlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from ftkit.cli import COMMANDS
from ftkit.commands.classify_file import parse as parse_prediction
from ftkit.config.command_line import split_config
from ftkit.config.flags import check_flags, flag_names
from ftkit.config.yaml_file import read_yaml_settings
from ftkit.runs.recipes import TRAINERS, load_recipe

ROOT = Path(__file__).resolve().parents[1]
FLAGS = {name: load_recipe(name).flags for name in TRAINERS}
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def command_lines() -> list[str]:
    """Commands in bash blocks and in `code` of the README, line continuations joined."""
    blocks = re.findall(r"```bash\n(.*?)```", TEXT, flags=re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    inline = re.findall(r"`((?:ftkit|accelerate launch) [^`]+)`", TEXT)
    return [line.strip() for line in (*lines, *inline) if line.strip()]


def check_command(argv: list[str]) -> None:
    """Raise UserError for a flag that the command does not have."""
    if argv[:2] == ["accelerate", "launch"]:
        script = next(index for index, part in enumerate(argv) if part.endswith(".py"))
        assert (ROOT / argv[script]).is_file()
        argv = ["ftkit", Path(argv[script]).stem, *argv[script + 1 :]]
    assert argv[0] == "ftkit" and (argv[1] in COMMANDS or argv[1].startswith("--")), argv
    if "--predict" in argv:
        parse_prediction(argv[2:])
    elif argv[1] in FLAGS:
        config, rest = split_config(argv[2:])
        names = flag_names(FLAGS[argv[1]])
        check_flags(rest, names)
        if config and (ROOT / config).is_file():
            read_yaml_settings(str(ROOT / config), names)
    elif argv[1] in COMMANDS:
        done = subprocess.run([sys.executable, "-m", "ftkit", argv[1], "--help"], capture_output=True, text=True)
        assert all(part in done.stdout for part in argv if part.startswith("--")), (argv, done.stdout)


@pytest.mark.parametrize("line", command_lines())
def test_every_command_line_parses(line):
    for part in line.split("&&"):
        argv = shlex.split(part)
        if argv[0] in ("ftkit", "accelerate"):
            check_command(argv)
        else:
            assert argv[0] in ("pip", "pytest", "git", "python3", "."), line


def test_the_two_commands_come_first():
    first, second = re.findall(r"^pip install .*$", TEXT, flags=re.MULTILINE)
    assert first.endswith("&& ftkit try") and second.endswith("&& pytest")


def test_the_tree_names_every_part_of_the_package():
    tree = TEXT.split("```\nftkit/\n")[1].split("```")[0]
    parts = [path for path in (ROOT / "ftkit").iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()]
    parts = [path for path in parts if path.name not in ("__init__.py", "__main__.py")]
    missing = [path.name for path in parts if not re.search(rf"\b{re.escape(path.name)}(?=[,/ ])", tree)]
    assert not missing


def test_every_setting_table_file_and_link_exists():
    for target in re.findall(r"\]\(([^)#]+)\)", TEXT):
        assert target.startswith("http") or (ROOT / target).exists(), target


def trainer_of(path: Path) -> str:
    """The command an example is for: the beginning of its name."""
    return path.stem.partition("_")[0]


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda path: path.name)
def test_every_example_holds_known_settings(path):
    settings = read_yaml_settings(str(path), flag_names(FLAGS[trainer_of(path)]))
    assert settings["output_dir"].startswith("runs/")


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.sh")), ids=lambda path: path.name)
def test_every_example_script_is_valid_and_its_commands_parse(path):
    assert os.access(path, os.X_OK)
    subprocess.run(["bash", "-n", path], check=True)
    for line in path.read_text().replace("\\\n", " ").splitlines():
        if line.startswith(("ftkit", "accelerate")):
            check_command(shlex.split(line))


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda path: path.name)
def test_every_example_runs_on_a_tiny_model(path, tiny_folder, tmp_path, monkeypatch):
    main = importlib.import_module(f"ftkit.{trainer_of(path)}").main
    monkeypatch.setenv("FTKIT_CACHE", str(tmp_path / "cache"))
    frozen = ["--num_frozen_layers", "1"] if "num_frozen_layers" in path.read_text() else []
    model = ["--model_name_or_path", str(tiny_folder)]
    if trainer_of(path) == "pretrain":  # a new model, from text that has to be built
        model = [
            "--tokenizer",
            str(tiny_folder),
            "--dataset_name",
            "corpus",
            "--hidden_size",
            "16",
            "--max_tokens",
            "4096",
        ]
    steps = [] if trainer_of(path) == "pretrain" else ["--max_steps", "1", "--eval_strategy", "no"]
    main(["--config", str(path), *model, "--output_dir", str(tmp_path / "out"), *steps, "--disable_tqdm", *frozen])
    assert (tmp_path / "out/report.html").is_file()
