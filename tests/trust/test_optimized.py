"""Nothing that ftkit does rests on an assert, which `python -O` drops."""

import json
import os
import subprocess
import sys
from pathlib import Path

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


def test_what_is_refused_is_refused_without_asserts(tmp_path, tiny_folder, word_rows):
    rows, bad, adapter = tmp_path / "rows.jsonl", tmp_path / "bad.jsonl", tmp_path / "adapter"
    rows.write_text("".join(json.dumps(row) + "\n" for row in word_rows))
    bad.write_text('{"instruction": "a", "output": 1}\n')
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 0, "lora_alpha": 1}')
    commands = [
        ["data", "check", str(rows)],
        ["data", "check", str(bad)],
        ["data", "show", str(rows), "--row", "0"],
        ["adapters", "info", str(adapter)],
        ["generate", "--model_name_or_path", str(tiny_folder), "--prompt", "Hi"],  # it has no template
        ["sft", "--no_such_flag"],
    ]
    done = subprocess.run(
        [sys.executable, "-O", "-c", SCRIPT, json.dumps(commands)], capture_output=True, text=True, cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    codes = [line for line in done.stdout.split("\n") if line.isdigit()]
    assert codes == ["0", "2", "2", "2", "2", "2"], done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_asserts_of_tests_hold_without_those_of_the_interpreter(tmp_path):
    (tmp_path / "test_planted.py").write_text("def test_planted():\n    assert 1 == 2\n")
    command = [sys.executable, "-O", "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_planted.py"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 1 and "1 failed" in done.stdout, done.stdout
