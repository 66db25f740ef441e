"""The README is a front door: short, every command in it parses or runs, its tree is whole, what it shows was printed."""

import importlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from guide_blocks import blocks_of, commands_of, missing_line, run_block, run_command

from ftkit.cli import COMMANDS
from ftkit.commands.predict.texts import parse as parse_prediction
from ftkit.config.command_line import split_config
from ftkit.config.flags import flag_name, is_flag, read_settings
from ftkit.config.yaml_file import read_yaml_settings
from ftkit.runs.recipes import TRAINERS, load_recipe

ROOT = Path(__file__).resolve().parents[1]
FLAGS = {name: load_recipe(name).flags for name in TRAINERS}
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
GUIDES = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "examples/guides").glob("*.md"))]


def inline_commands(text: str) -> list[str]:
    """The commands written as `code`, in order."""
    return re.findall(r"`((?:ftkit|accelerate launch) [^`]+)`", text)


def command_lines() -> list[str]:
    """Commands in blocks and in `code` of README and guides, line continuations joined."""
    pages = (TEXT, *GUIDES)
    blocks = [
        command
        for text in pages
        for block in blocks_of(text)
        if block.language == "bash"
        for command in commands_of(block.code)
    ]
    return [line for line in dict.fromkeys(blocks + inline_commands("".join(pages))) if "<<" not in line]


def check_command(argv: list[str]) -> None:
    """Raise UserError for a flag that the command does not have."""
    if argv[:2] == ["accelerate", "launch"]:
        script = next((index for index, part in enumerate(argv) if part.endswith(".py")), None)
        if script is None:
            return
        assert (ROOT / argv[script]).is_file()
        argv = ["ftkit", Path(argv[script]).stem, *argv[script + 1 :]]
    assert argv[0] == "ftkit" and (argv[1] in COMMANDS or argv[1] == "help" or argv[1].startswith("--")), argv
    if "--predict" in argv:
        parse_prediction(argv[2:])
    elif argv[1] in FLAGS and not {"--help"} & set(argv):
        config, rest = split_config(argv[2:])
        names = read_settings(FLAGS[argv[1]])
        for word in filter(is_flag, rest):
            flag_name(word, names)
        if config and (ROOT / config).is_file():
            read_yaml_settings(str(ROOT / config), names)


@pytest.mark.parametrize("line", command_lines())
def test_every_command_line_parses(line):
    for part in line.split("&&"):
        argv = shlex.split(part, comments=True)
        if argv[0] in ("ftkit", "accelerate"):
            check_command(argv)


def test_a_reader_is_through_in_150_lines():
    assert len(TEXT.splitlines()) <= 150


def test_the_two_commands_come_first():
    first, second = re.findall(r"^pip install .*$", TEXT, flags=re.MULTILINE)
    assert first.endswith("&& ftkit try") and second.endswith("&& pytest")


def test_the_tree_names_every_part_of_the_package():
    tree = TEXT.split("```\nftkit/\n")[1].split("```")[0]
    parts = [path for path in (ROOT / "ftkit").iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()]
    parts = [path for path in parts if path.name not in ("__init__.py", "__main__.py")]
    missing = [path.name for path in parts if not re.search(rf"\b{re.escape(path.name)}(?=[,/ ])", tree)]
    assert not missing


def test_every_file_and_link_exists():
    for target in re.findall(r"\]\(([^)#]+)\)|src=\"([^\"]+)\"|`(tests/[\w/.]+)`", TEXT):
        target = "".join(target)
        assert target.startswith("http") or (ROOT / target).exists(), target


def test_the_refusals_are_word_for_word(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (block,) = [block for block in blocks_of(TEXT) if block.mark == "refused"]
    assert len(block.shown) == 3
    assert missing_line(block.shown, run_block(block)) is None


def demo(folder: Path, *flags: str) -> tuple[list[str], str]:
    """What the README shows of its first command, and what it prints as a process of its own, in another folder."""
    (block,) = [block for block in blocks_of(TEXT) if "ftkit try" in block.code]
    command = [sys.executable, "-m", "ftkit", "try", *flags]
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout
    return list(block.shown), done.stdout


@pytest.mark.slow  # some six minutes; the next test holds its lines
@pytest.mark.smollm2
def test_the_shown_demo_is_what_is_printed(tmp_path):
    shown, printed = demo(tmp_path)
    missing = missing_line(tuple(shown), printed)
    assert missing is None, f"not printed: {missing}\n{printed}"


def without_figures(text: str) -> str:
    """The lines of a demo as one of any size prints them."""
    return re.sub(r"\d[\d.,]*", "0", re.sub(r"(?m)^verdict: .*", "verdict:", text))


@pytest.mark.processes
@pytest.mark.smollm2
def test_a_smaller_demo_prints_the_lines_that_are_shown(tmp_path):
    shown, printed = demo(tmp_path, "--num_rows", "8", "--num_test_rows", "8")
    lines = tuple(without_figures("\n".join(shown)).split("\n"))
    missing = missing_line(lines, without_figures(printed))
    assert missing is None, f"not printed: {missing}\n{printed}"


# The Hub; a person; what does not end by itself, and which guides run.
ONLY_PARSED = (
    "ftkit try", "ftkit push", "ftkit chat", "ftkit serve", "ftkit synth", "accelerate launch", "ftkit sft --help"
)  # fmt: skip
SMALLER = {  # the same command on small models, and shorter
    "smollm2": "base", "--num_heads 12": "--num_heads 4", "--max_tokens 2e6": "--max_tokens 4096 --hidden_size 16"
}  # fmt: skip
STEPS = {
    "sft": "--max_steps 2",
    "dpo": "--max_steps 2 --eval_strategy no",
    "grpo": "--max_steps 1 --max_completion_length 8 --num_generations 2 --before_after false --start_anyway",
    "classify": "--max_steps 2 --eval_strategy no",
    "embed": "--max_steps 2 --eval_strategy no",
    "bakeoff": "--budget 1000tokens --skip few_shot,soft_prompt,qlora,full --forgetting_limit 0",
}


@pytest.mark.processes
def test_every_command_of_the_table_runs(tmp_path, monkeypatch, book_tensors):
    import torch

    monkeypatch.chdir(tmp_path)
    torch.save(book_tensors, "model.pth")
    rows = [f"Write the number {number};{number}" for number in range(60)]
    Path("rows.csv").write_text("\n".join(["Question;Answer", *rows]) + "\n")
    Path("manual").mkdir()
    Path("manual/plans.md").write_text("# Plans\n\nThe plan Large has backups every night.\n")
    table = re.findall(r"^\| .*$", TEXT.split("## I have")[1].split("\n## ")[0], flags=re.MULTILINE)
    for line in inline_commands("\n".join(table)):
        if line.startswith(ONLY_PARSED):
            continue
        for found, put in SMALLER.items():
            line = line.replace(found, put)
        code, printed = run_command(f"{line} {STEPS.get(line.split()[1], '')}")
        assert code == 0, f"{line}\n{printed}"


def trainer_of(path: Path) -> str:
    """The command an example is for: the beginning of its name."""
    return path.stem.partition("_")[0]


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda path: path.name)
def test_every_example_holds_known_settings(path):
    settings = read_yaml_settings(str(path), read_settings(FLAGS[trainer_of(path)]))
    assert settings["output_dir"].startswith("runs/")


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.sh")), ids=lambda path: path.name)
def test_every_example_script_is_valid_and_its_commands_parse(path):
    assert os.access(path, os.X_OK)
    subprocess.run(["bash", "-n", path], check=True)
    for line in path.read_text().replace("\\\n", " ").splitlines():
        if line.startswith(("ftkit", "accelerate")):
            check_command(shlex.split(line))


def some_rows_of(name: str, folder: Path) -> str:
    """A folder with the first rows of each split of a bundled data set; few are held out, as each is scored twice."""
    folder.mkdir()
    for path in (ROOT / "datasets" / name).glob("*.jsonl"):
        kept = 32 if path.stem == "train" or name == "spam" else 8  # of the classes, both
        (folder / path.name).write_text("".join(path.read_text(encoding="utf-8").splitlines(keepends=True)[:kept]))
    return str(folder)


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda path: path.name)
def test_every_example_runs_on_a_tiny_model(path, tiny_folder, tiny_teacher, tmp_path, monkeypatch):
    main = importlib.import_module(f"ftkit.{trainer_of(path)}").main
    monkeypatch.setenv("FTKIT_CACHE", str(tmp_path / "cache"))
    frozen = ["--num_frozen_layers", "1"] if "num_frozen_layers" in path.read_text() else []
    rows = Path(read_yaml_settings(str(path), read_settings(FLAGS[trainer_of(path)]))["dataset_name"]).name
    model = ["--model_name_or_path", str(tiny_folder), "--dataset_name", some_rows_of(rows, tmp_path / "rows")]
    if trainer_of(path) == "pretrain":  # a new model
        model = ["--tokenizer", str(tiny_folder), *model[2:], "--hidden_size", "16", "--max_tokens", "4096"]
    if trainer_of(path) in ("grpo", "ppo"):  # a random model has no template, and is never right
        few = {"max_completion_length": 4, "receipt_prompts": 2, "per_device_train_batch_size": 2}
        few |= {"num_generations": 2} if trainer_of(path) == "grpo" else {"num_mini_batches": 1}
        model += ["--template", "plain", "--start_anyway", "--before_after", "false", "--untrained_rows", "drop"]
        model += [word for name, value in few.items() for word in (f"--{name}", str(value))]
    if trainer_of(path) == "distill":
        model += ["--template", "plain", "--teacher", str(tiny_teacher)]
    steps = [] if trainer_of(path) == "pretrain" else ["--max_steps", "1", "--eval_strategy", "no"]
    main(["--config", str(path), *model, "--output_dir", str(tmp_path / "out"), *steps, "--disable_tqdm", *frozen])
    assert (tmp_path / "out/report.html").is_file()
