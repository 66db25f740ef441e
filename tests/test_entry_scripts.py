"""The entry scripts run by path where the dependencies are installed and ftkit is not, from a folder elsewhere."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import ftkit

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = ("sft", "dpo", "kto", "reward", "grpo", "ppo", "distill", "pretrain", "classify", "embed")


@pytest.fixture(scope="module")
def run_script(tmp_path_factory):
    """Run a script by its path; what is installed is there but for ftkit, its metadata and links to its checkout."""
    packages, folder = tmp_path_factory.mktemp("env") / "site-packages", tmp_path_factory.mktemp("elsewhere")
    packages.mkdir()  # by that name dill tells what is installed
    for place in map(Path, sys.path):
        if place.name in ("site-packages", "dist-packages"):
            for entry in place.iterdir():
                link = packages / entry.name
                if not entry.name.startswith("ftkit") and entry.suffix != ".pth" and not link.exists():
                    link.symlink_to(entry)
    environ = {**os.environ, "PYTHONPATH": str(packages), "HF_HUB_OFFLINE": "1"}

    def run(*line: str, code: str | None = None) -> subprocess.CompletedProcess:
        start = ["-c", code] if code else ["-X", "importtime", str(ROOT / "ftkit" / line[0])]
        command = [sys.executable, "-S", *start, *line[1:]]
        return subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=600)

    assert "No module named 'ftkit'" in run(code="import yaml, ftkit").stderr
    missing = "import importlib.metadata as m; m.version('ftkit')"
    assert "PackageNotFoundError" in run(code=missing).stderr
    return run


@pytest.mark.parametrize("name", SCRIPTS)
def test_each_script_starts_and_checks_flags_before_it_imports_torch(name, run_script):
    done = run_script(f"{name}.py", "--no_such_flag")
    imported = [line for line in done.stderr.split("\n") if line.startswith("import time:")]
    said = [line for line in done.stderr.split("\n") if line not in imported]
    assert (done.returncode, said) == (2, ["unknown flag --no_such_flag; see --help", ""])
    assert any(line.endswith("ftkit.config.parser") for line in imported)
    assert not any(line.endswith("| torch") for line in imported)


@pytest.mark.slow
def test_a_run_ends_with_its_version_noted(run_script, tiny_folder, word_rows, tmp_path):
    data, folder = tmp_path / "train.jsonl", tmp_path / "out"
    data.write_text("".join(json.dumps(row) + "\n" for row in word_rows))
    done = run_script(
        "sft.py", "--model_name_or_path", str(tiny_folder), "--dataset_name", str(data), "--template", "alpaca",
        "--max_steps", "1", "--max_length", "256", "--output_dir", str(folder),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f"# ftkit {ftkit.__version__}, torch " in (folder / "run.yaml").read_text(encoding="utf-8")
