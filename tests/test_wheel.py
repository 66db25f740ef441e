"""The wheel carries its assets inside ftkit/ and works from another folder, without the checkout."""

import os
import re
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    code = "import sys; from hatchling.build import build_wheel; print(build_wheel(sys.argv[1]))"
    done = subprocess.run([sys.executable, "-c", code, str(folder)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / done.stdout.split()[-1]


@pytest.mark.processes
def test_the_wheel_has_only_ftkit_at_its_top_level_and_the_templates_of_its_pages(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {f"ftkit/evaluation/pages/{name}" for name in ("frame.html", "pieces.html", "style.css")} <= names
    gpt2 = [info for info in zipfile.ZipFile(wheel).infolist() if info.filename.startswith("ftkit/assets/gpt2/")]
    assert {"LICENSE", "README.md", "vocab.json", "merges.txt"} <= {Path(info.filename).name for info in gpt2}
    assert sum(info.compress_size for info in gpt2) < 700_000
    top = {name.split("/")[0] for name in names}
    assert {name for name in top if not name.endswith(".dist-info")} == {"ftkit"}


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """The bin/ of a bare venv with the wheel. Its dependencies are this environment's, but for ftkit, a checkout here."""
    environment = tmp_path_factory.mktemp("bare") / "venv"
    venv.create(environment)
    python = environment / "bin/python"
    pip = [sys.executable, "-m", "pip", "--python", python]
    subprocess.run([*pip, "install", "-q", "--no-deps", "--no-index", wheel], check=True)
    where = [python, "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"]
    site = Path(subprocess.check_output(where, text=True).strip())
    (site / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return python.parent


def run(installed: Path, folder: Path, *words: str) -> subprocess.CompletedProcess:
    """A command of the venv, from a folder elsewhere, without this checkout in its path."""
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"HF_HUB_OFFLINE": "1"}
    line = [installed / words[0], *words[1:]]
    return subprocess.run(line, cwd=folder, env=environ, capture_output=True, text=True)


@pytest.mark.processes
def test_an_installed_wheel_finds_its_assets_from_another_folder(installed, tmp_path):
    code = f"""
import ftkit
from ftkit.config.assets import bundled_base, list_assets
assert "site-packages" in ftkit.__file__ and ftkit.__file__.startswith({str(installed.parent)!r}), ftkit.__file__
assert {{"alpaca", "chatml", "llama3", "phi3", "plain"}} <= set(list_assets("templates"))
assert "instructions" in list_assets("datasets")
assert bundled_base() and (bundled_base() / "model.safetensors").stat().st_size > 7e6
from ftkit.data.reading.loading import load_rows
rows = load_rows("instructions")
assert len(rows.train) >= 1500 and rows.test
import datasets
assert hasattr(datasets, "load_dataset")
"""
    done = run(installed, tmp_path, "python", "-c", code)
    assert done.returncode == 0, done.stderr
    assert "ftkit sft" in run(installed, tmp_path, "ftkit", "--help").stdout


@pytest.mark.processes
def test_an_installed_wheel_gives_ftkit_try(installed, tmp_path):
    few = ("--num_rows", "32", "--num_test_rows", "8")
    done = run(installed, tmp_path, "ftkit", "try", "--model", "base", "--output_dir", "tried", *few)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "tried/adapter/adapter_model.safetensors").is_file()


def test_python_versions_are_the_same_in_pyproject_and_in_the_matrix():
    pyproject = (ROOT / "pyproject.toml").read_text()
    named = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', pyproject)
    (matrix,) = re.findall(r"python-version: \[(.*)\]", next((ROOT / ".github/workflows").iterdir()).read_text())
    assert named == re.findall(r"[\d.]+", matrix) == ["3.10", "3.11", "3.12", "3.13"]
    assert f'requires-python = ">={named[0]}"' in pyproject
