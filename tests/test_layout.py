"""The tree keeps its promises: imports flow one way, nothing shadows a dependency, the top level is fixed."""

import ast
import re
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "ftkit"
STAGES = (
    "config", "data", "model", "inference", "metrics", "training", "evaluation", "serving", "publish", "runs", "commands",
)  # fmt: skip
TOP_LEVEL = {
    "README.md", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md", "pyproject.toml", "constraints.txt", "ftkit", "templates", "datasets", "tests", "examples",
    ".ci", ".github", ".gitignore", ".pre-commit-config.yaml",
}  # fmt: skip


def ftkit_imports(path: Path) -> set[str]:
    """The first name below `ftkit` of every import in a file, also of those inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        found |= {name.split(".")[1] for name in names if name.startswith("ftkit.")}
    return found


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("*/**/*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_stage_imports_only_stages_to_its_left(path):
    stage = path.relative_to(PACKAGE).parts[0]
    if stage == "assets":  # the code that was saved with the base
        return
    allowed = {*STAGES[: STAGES.index(stage) + 1], "__version__"}
    allowed |= {"sft"} if path.name == "demo.py" else set()  # until `ftkit try` goes through the table of recipes
    assert ftkit_imports(path) <= allowed, f"{path.name} reaches to the right of {stage}"


def test_commands_are_imported_by_the_command_line_only():
    for path in PACKAGE.glob("*/**/*.py"):
        if path.relative_to(PACKAGE).parts[0] != "commands":
            assert "commands" not in ftkit_imports(path), path


def test_nothing_in_ftkit_shadows_a_module_when_a_script_is_run_by_path():
    children = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or path.is_dir()}
    children -= {"__init__", "__main__", "__pycache__"}
    modules = {*sys.stdlib_module_names, *packages_distributions()}
    assert not children & modules


def test_bundled_datasets_are_no_package():
    assert not list((ROOT / "datasets").rglob("__init__.py"))


def test_top_level_holds_nothing_else():
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("not a git checkout")
    assert {name.split("/")[0] for name in done.stdout.splitlines()} <= TOP_LEVEL


def test_every_file_and_public_function_says_what_it_is():
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if path.stat().st_size:
            assert ast.get_docstring(tree), f"{path} has no docstring"


def test_lines_are_cut_at_their_ends_alone_and_written_by_one_module():
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            where = f"{path}:{getattr(node, 'lineno', 0)}"
            assert not (isinstance(node, ast.Attribute) and node.attr == "splitlines"), f'{where}: use split("\\n")'
            if path.name != "jsonl.py" and isinstance(node, ast.BinOp):
                is_json_line = re.fullmatch(r"json\.dumps\((?!.*indent).*\) \+ '\\\\n'", ast.unparse(node))
                assert not is_json_line, f"{where}: use ftkit.config.jsonl"


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("*/**/__init__.py")), ids=lambda path: str(path.parent.name))
def test_every_folder_says_what_each_of_its_files_is_for(path):
    said = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")), clean=False)
    named = set(re.findall(r"^([\w/.]+)  ", said, flags=re.MULTILINE))
    files = {file.name for file in path.parent.glob("*.py")} - {"__init__.py"}
    assert named == files | {f"{file.parent.name}/" for file in path.parent.glob("*/__init__.py")}
