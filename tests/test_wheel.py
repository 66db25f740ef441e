"""The wheel carries its assets inside ftkit/ and works from another folder, without the checkout."""

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


@pytest.mark.slow
def test_the_wheel_has_only_ftkit_at_its_top_level_and_the_templates_of_its_pages(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {f"ftkit/evaluation/pages/{name}" for name in ("frame.html", "pieces.html", "style.css")} <= names
    gpt2 = [info for info in zipfile.ZipFile(wheel).infolist() if info.filename.startswith("ftkit/assets/gpt2/")]
    assert {"LICENSE", "README.md", "vocab.json", "merges.txt"} <= {Path(info.filename).name for info in gpt2}
    assert sum(info.compress_size for info in gpt2) < 700_000
    top = {name.split("/")[0] for name in names}
    assert {name for name in top if not name.endswith(".dist-info")} == {"ftkit"}


@pytest.mark.slow
def test_an_installed_wheel_finds_its_assets_from_another_folder(wheel, tmp_path):
    environment = tmp_path / "venv"
    venv.create(environment, with_pip=True)
    python = environment / "bin/python"
    subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", "--no-index", wheel], check=True, cwd=tmp_path)
    # The dependencies come from this environment, except its own ftkit, which is an editable checkout.
    site = Path(
        subprocess.check_output(
            [python, "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"], text=True
        ).strip()
    )
    (site / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    code = f"""
from pathlib import Path
import ftkit
from ftkit.config.assets import asset_path, list_assets
assert "site-packages" in ftkit.__file__ and str(Path(ftkit.__file__)).startswith({str(environment)!r}), ftkit.__file__
assert {{"alpaca", "chatml", "llama3", "phi3", "plain"}} <= set(list_assets("templates"))
assert "instructions" in list_assets("datasets")
from ftkit.config.assets import bundled_base
assert bundled_base() and (bundled_base() / "model.safetensors").stat().st_size > 7e6
from ftkit.data.reading.loading import load_rows
rows = load_rows("instructions")
assert len(rows.train) >= 1500 and rows.test
import datasets
assert hasattr(datasets, "load_dataset")
"""
    done = subprocess.run([python, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    listed = subprocess.run([environment / "bin/ftkit", "--help"], cwd=tmp_path, capture_output=True, text=True)
    assert "ftkit sft" in listed.stdout
