"""Nothing that ftkit does rests on an assert, which `python -O` drops."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Refusals of four stages, each by the command that a person would run.
SCRIPT = """
import json, sys
from ftkit.cli import dispatch
from ftkit.config.parser import run
assert False, "so asserts run"
for argv in json.loads(sys.argv[1]):
    print(run(dispatch, argv))
"""


@pytest.mark.parametrize(
    ("commands", "expected"),
    [
        pytest.param(
            ["data check ROWS", "data check BAD", "data show ROWS --row 0", "no_such_command"],
            "0222",
            marks=pytest.mark.slow,  # the libraries are compiled for -O
        ),
        pytest.param(
            [
                "adapters info ADAPTER",
                "push MODEL owner/name --dry_run",
                "generate --model_name_or_path MODEL --prompt a",
            ],
            "202",  # a model without a template can be pushed, and not be asked
            marks=pytest.mark.slow,  # all of torch is compiled for -O
        ),
    ],
    ids=["data", "models"],
)
def test_what_is_refused_is_refused_without_asserts(commands, expected, tmp_path, tiny_folder, word_rows):
    places = {"ROWS": tmp_path / "rows.jsonl", "BAD": tmp_path / "bad.jsonl", "ADAPTER": tmp_path, "MODEL": tiny_folder}
    places["ROWS"].write_text("".join(json.dumps(row) + "\n" for row in word_rows))
    places["BAD"].write_text('{"instruction": "a", "output": 1}\n')
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 0, "lora_alpha": 1}')
    argvs = [[str(places.get(word, word)) for word in command.split()] for command in commands]
    done = subprocess.run(
        [sys.executable, "-O", "-c", SCRIPT, json.dumps(argvs)], capture_output=True, text=True, cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    codes = "".join(line for line in done.stdout.split("\n") if line in ("0", "1", "2"))
    assert codes == expected and "Traceback" not in done.stderr, done.stdout + done.stderr


def test_asserts_of_tests_hold_without_those_of_the_interpreter(tmp_path):
    (tmp_path / "test_planted.py").write_text("def test_planted():\n    assert 1 == 2\n")
    command = [sys.executable, "-O", "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_planted.py"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 1 and "1 failed" in done.stdout, done.stdout
