"""Completion knows commands, flags, values, bundled names and files, in a real shell, without importing a library."""

import os
import shutil
import subprocess
import sys

import pytest

from ftkit.cli import COMMANDS
from ftkit.commands.completion import SCRIPTS, main, next_words
from ftkit.config.errors import UserError


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("sf", ["sft"]),
        ("help sf", ["sft"]),
        ("sft --te", ["--template", "--test_size", "--ternary", "--ternary_warmup"]),
        ("sft --learning-r", ["--learning_rate"]),
        ("sft --template alp", ["alpaca", ":files"]),
        ("sft --model ", ["base", "smollm2", ":files"]),
        ("sft --model = sm", ["smollm2", ":files"]),
        ("sft --save_strategy ", ["no", "steps", "epoch", "best"]),
        ("sft --use_peft --lora_al", ["--lora_alpha"]),
        ("sft --dataset_name spa", ["spam", ":files"]),
        ("bench --tasks know", ["knowledge"]),
        ("bench --tasks knowledge,reas", ["knowledge,reasoning"]),
        ("bench --num_f", ["--num_fewshot"]),
        ("data ch", ["check"]),
        ("data check --max_l", ["--max_length"]),
        ("data check instr", ["instructions", ":files"]),
        ("adapters mer", ["merge"]),
        ("export --format gg", ["gguf"]),
        ("chat --dtype bf", ["bfloat16"]),
        ("compare ", [":files"]),
        ("nosuch --x", []),
    ],
)
def test_what_may_come_next(typed, found):
    assert next_words(typed.split(" ")) == found


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in ("data", "adapters")])
def test_every_command_has_flags_to_complete(name):
    assert "--help" in next_words([name, "--hel"])


def test_bash_completes_commands_flags_names_and_files(tmp_path):
    """Runs the printed script in bash, as pressing the tab key does."""
    (tmp_path / "bin").mkdir()
    ftkit = tmp_path / "bin/ftkit"
    ftkit.write_text(f'#!/bin/sh\nexec {sys.executable} -m ftkit "$@"\n')
    ftkit.chmod(0o755)
    (tmp_path / "my rows.jsonl").touch()
    lines = [
        'ask() { COMP_WORDS=(ftkit "$@"); COMP_CWORD=$#; COMPREPLY=(); _ftkit; (IFS=\'|\'; echo "${COMPREPLY[*]}"); }',
        "ask pretr",
        "ask sft --model sm",
        "ask sft --dataset_name my",
        "ask sft --lora_al",
    ]
    environment = os.environ | {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": os.getcwd()}
    script = SCRIPTS["bash"] + "\n".join(lines)
    done = subprocess.run(["bash"], input=script, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.stdout.splitlines() == ["pretrain", "smollm2", "my rows.jsonl", "--lora_alpha"], done.stderr


@pytest.mark.parametrize("shell", SCRIPTS)
def test_the_script_of_a_shell_is_printed_and_is_valid(shell, capsys):
    main([shell])
    printed = capsys.readouterr().out
    assert "ftkit completion words -- " in printed
    assert printed.count("{") == printed.count("}") and printed.count("(") == printed.count(")")
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=printed, check=True, text=True)


def test_an_unknown_shell_is_refused():
    with pytest.raises(UserError, match='no completion for the shell "powershell"; there are bash, zsh, fish'):
        main(["powershell"])
