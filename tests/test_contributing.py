"""CONTRIBUTING.md names what is there, and CHANGELOG.md the version that is."""

import re
from pathlib import Path

import pytest

import ftkit

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def test_every_path_exists():
    names = re.findall(r"`((?:ftkit|tests|templates)/[\w./]+)`", TEXT)
    names = [name for name in names if "NAME" not in name]
    assert len(names) > 10
    assert not [name for name in names if not (ROOT / name).exists()]


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("ftkit/runs/recipes.py", ("TRAINERS",)),
        ("ftkit/training/method.py", ("class Method", "prepare", "facts", "load", "build_trainer", "receipt")),
        ("ftkit/training/run_trainer.py", ("class RunMixin",)),
        ("ftkit/metrics/definition.py", ("class TextMetric",)),
        ("ftkit/serving/app.py", ("guards",)),
        ("ftkit/evaluation/bench/task_file.py", ("METRICS",)),
        ("ftkit/evaluation/bench/units.py", ("def answer_scores",)),
    ],
)
def test_every_name_is_where_it_is_said_to_be(path, names):
    code = (ROOT / path).read_text(encoding="utf-8")
    for name in names:
        assert name in code and name.split()[-1] in TEXT, name


def test_stages_stand_in_the_order_that_is_enforced():
    layout = (ROOT / "tests" / "test_layout.py").read_text(encoding="utf-8")
    stages = re.search(r"^    (config > .*)$", TEXT, flags=re.MULTILINE)[1].split(" > ")
    assert ", ".join(f'"{stage}"' for stage in stages) in layout


def test_the_changelog_ends_with_this_version():
    headings = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert headings[0] == "Unreleased" and headings[1] == ftkit.__version__
