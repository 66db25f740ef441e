"""Every command with an output tries it out before it reads anything: its model and data are not there at all."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import ftkit
from ftkit.cli import dispatch
from ftkit.config.errors import UserError

MODEL = ["--model_name_or_path", "gone"]
TRAINING = [*MODEL, "--dataset_name", "gone.jsonl", "--output_dir", "{out}"]
FOLDER, FILE = "{out}: .* is a file; give --output_dir a folder", "{out}: there is no folder file; make it first"
OUTPUTS = {  # the command line of each command and what it says of an OUT that can't be
    "sft": (TRAINING, FOLDER),
    "dpo": (TRAINING, FOLDER),
    "kto": (TRAINING, FOLDER),
    "reward": (TRAINING, FOLDER),
    "grpo": ([*TRAINING, "--rewards", "json"], FOLDER),
    "ppo": ([*TRAINING, "--rewards", "json"], FOLDER),
    "distill": ([*TRAINING, "--teacher", "gone"], FOLDER),
    "classify": (TRAINING, FOLDER),
    "pretrain": (TRAINING, FOLDER),
    "try": (["gone.jsonl", "--output_dir", "{out}"], FOLDER),
    "tokenizer": (["--files", "gone.txt", "--vocab_size", "300", "--output_dir", "{out}"], FOLDER),
    "generate": ([*MODEL, "--file", "gone.jsonl", "--output_file", "{out}"], FILE),
    "classify --predict": (["gone.jsonl", *MODEL, "--output_file", "{out}"], FILE),
    "reward --predict": (["gone.jsonl", *MODEL, "--output_file", "{out}"], FILE),
    "bench": ([*MODEL, "--tasks", "gone.yaml", "--output_dir", "{out}"], FOLDER),
    "index": (["gone", "--output_dir", "{out}"], FOLDER),
    "judge": (["a=gone.jsonl", *MODEL, "--output_dir", "{out}"], FOLDER),
    "synth": (["--kind", "personas", *MODEL, "--output_dir", "{out}"], FOLDER),
    "arena": (["gone.jsonl", "--dpo", "{out}.jsonl"], "there is no folder file; make it first"),
    "arena --kto": (["{out}.jsonl", "gone.jsonl"], "there is no folder file; make it first"),
    "compare": (["gone", "gone", "--json", "{out}"], FILE),
    "compare --markdown": (["{out}", "gone", "gone"], FILE),
    "compare --html={out}": (["gone", "gone"], FILE),
    "adapters merge": (["gone", "--output_dir", "{out}"], FOLDER),
    "export": (["gone", "--format", "gguf", "--output_dir", "{out}"], FOLDER),
    "data convert": (["gone.jsonl", "--output", "{out}.jsonl"], "there is no folder file; make it first"),
    "data dedup": (["gone.jsonl", "--output", "{out}.jsonl"], "there is no folder file; make it first"),
    "data leaks": (
        ["gone.jsonl", "--test", "gone.jsonl", "--output", "{out}.jsonl"],
        "there is no folder file; make it",
    ),
    "data split": (["gone.jsonl", "--output_dir", "{out}"], FOLDER),
    "data stats": (["gone.jsonl", "--output", "{out}.png"], "there is no folder file; make it first"),
    "data show": (["gone.jsonl", "--html", "{out}"], FILE),
}


@pytest.mark.parametrize("command", OUTPUTS)
def test_an_output_that_can_not_be_written_is_refused_before_anything_is_read(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("kept")
    flags, message = OUTPUTS[command]
    argv = [word.format(out="file/out") for word in (*command.split(), *flags)]
    with pytest.raises(UserError, match=message.format(out="file/out")):
        dispatch(argv)
    assert [path.name for path in tmp_path.iterdir()] == ["file"] and (tmp_path / "file").read_text() == "kept"


STARTS = {  # ways to start a command
    "ftkit sft": ["-m", "ftkit", "sft"],
    "python -m ftkit.sft": ["-m", "ftkit.sft"],
    "ftkit/sft.py, as accelerate launches it": [str(Path(ftkit.__file__).with_name("sft.py"))],
    "ftkit bench": ["-m", "ftkit", "bench"],
    "ftkit generate": ["-m", "ftkit", "generate"],
}


@pytest.mark.parametrize("start", STARTS)
def test_a_command_line_ends_with_one_line_and_exit_code_2(start, tmp_path):
    (tmp_path / "file").write_text("kept")
    command = next(name for name in ("sft", "bench", "generate") if name in start)
    argv = [word.format(out="file/out") for word in OUTPUTS[command][0]]
    line, environ = [sys.executable, *STARTS[start], *argv], {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(line, capture_output=True, text=True, cwd=tmp_path, env=environ)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and done.stderr.startswith("file/out: "), done.stderr
