"""The tree keeps its promises: imports flow one way, importing does nothing, functions are short and say what they do."""

import ast
import functools
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
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


FUNCTION = ast.FunctionDef | ast.AsyncFunctionDef
MAX_LINES, P90_LINES = 60, 25  # of a function
# The sets below may only shrink.
ACTS_AT_IMPORT = {
    "__main__.py",  # which is run, never imported
    "model/__init__.py",  # registers FTGPT with transformers' Auto classes, and says so
}
# Functions without an effect, that a module may call to make its constants; calls of classes may be made as well.
PURE = {
    "dataclass", "field", "setting", "compile", "getLogger", "lru_cache", "tuple", "list", "dict", "set", "frozenset",
    "type", "len", "range", "maketrans", "log", "join", "split", "items", "values", "get", "resolve", "with_name",
    "_replace", "no_grad", "inference_mode", "shown_formats", "_same", "_settings", "model_validator",
}  # fmt: skip
# What a library calls, with the meaning that its own documentation gives it.
LIBRARY_METHODS = re.compile("forward|backward|log|training_step|parse_args|error|on_[a-z_]+")


# Every module of the package but for the code that was saved with the bundled base.
PATHS = [path for path in sorted(PACKAGE.rglob("*.py")) if path.relative_to(PACKAGE).parts[0] != "assets"]


@functools.cache
def trees() -> dict[Path, ast.Module]:
    """All of `PATHS`, parsed where a test looks at them."""
    return {path: ast.parse(path.read_text(encoding="utf-8")) for path in PATHS}


def imported_names(tree: ast.Module) -> set[str]:
    """The full name of everything below `ftkit` that a module imports, also inside functions."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.startswith("ftkit.")}


def ftkit_imports(path: Path) -> set[str]:
    """The first name below `ftkit` of every import in a file."""
    return {name.split(".")[1] for name in imported_names(trees()[path])}


def functions(body: list[ast.stmt], prefix: str = "") -> Iterator[tuple[str, ast.FunctionDef, ast.ClassDef | None]]:
    """(name, function, its class) of all functions of a module, with those inside others."""
    for node in body:
        if isinstance(node, FUNCTION | ast.ClassDef):
            owner = node if isinstance(node, ast.ClassDef) else None
            if not owner:
                yield prefix + node.name, node, None
            for name, inner, inner_owner in functions(node.body, f"{prefix}{node.name}."):
                yield name, inner, inner_owner or (owner if name.count(".") == prefix.count(".") + 1 else None)


def where(path: Path) -> str:
    """A file's name in the package."""
    return str(path.relative_to(PACKAGE))


def test_a_stage_imports_only_stages_to_its_left():
    for path in trees():
        if path.parent != PACKAGE:
            stage = path.relative_to(PACKAGE).parts[0]
            allowed = {*STAGES[: STAGES.index(stage) + 1], "__version__"}
            assert ftkit_imports(path) <= allowed, f"{where(path)} reaches to the right of {stage}"


def test_commands_are_imported_by_the_command_line_only():
    for path in trees():
        if path.parent != PACKAGE and path.relative_to(PACKAGE).parts[0] != "commands":
            assert "commands" not in ftkit_imports(path), path


def test_no_command_imports_another():
    commands = PACKAGE / "commands"
    for path in sorted(commands.rglob("*.py")):
        folder = path.relative_to(commands).parent.parts  # the actions of one command share what is in its folder
        own = ".".join(("ftkit", "commands", *folder, ""))
        found = {name for name in imported_names(trees()[path]) if name.startswith("ftkit.commands")}
        assert all(folder and name.startswith(own) for name in found), path


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


def test_no_module_imports_itself_by_way_of_others():
    modules = {}
    for path in trees():
        parts = path.relative_to(ROOT).with_suffix("").parts
        modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    graph = {}
    for module, path in modules.items():
        names = imported_names(trees()[path])
        graph[module] = {name if name in modules else name.rpartition(".")[0] for name in names} & modules.keys()
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"imports go round: {' -> '.join(error.args[1])}")


def calls_at_import(body: list[ast.stmt]) -> Iterator[ast.Call | ast.stmt]:
    """What runs when a module is imported: calls, and statements that are no definition."""
    for node in body:
        parts = [node]
        if isinstance(node, ast.ClassDef):
            yield from calls_at_import(node.body)
            parts = [*node.decorator_list, *node.bases]
        elif isinstance(node, FUNCTION):
            parts = [*node.decorator_list, *node.args.defaults, *filter(None, node.args.kw_defaults)]
        elif isinstance(node, ast.If) and ast.unparse(node.test) in ("__name__ == '__main__'", "TYPE_CHECKING"):
            continue
        elif not isinstance(node, ast.Assign | ast.AnnAssign | ast.Import | ast.ImportFrom | ast.Expr | ast.Pass):
            yield node
        for part in parts:
            delayed = {id(inner) for one in ast.walk(part) if isinstance(one, ast.Lambda) for inner in ast.walk(one)}
            yield from (one for one in ast.walk(part) if isinstance(one, ast.Call) and id(one) not in delayed)


def test_nothing_happens_at_import():
    found = [(path, node) for path, tree in trees().items() if where(path) not in ACTS_AT_IMPORT
             for node in calls_at_import(tree.body)]  # fmt: skip
    assert len(found) > 500
    for path, node in found:
        called = getattr(node, "func", node)
        name = getattr(called, "attr", getattr(called, "id", type(called).__name__))
        is_pure = isinstance(node, ast.Call) and (name in PURE or name.lstrip("_")[:1].isupper())
        assert is_pure, f"{path}:{node.lineno}: {ast.unparse(node)[:60]} runs at import; do it in a function"


def test_no_function_changes_a_name_of_its_module():
    for path, tree in trees().items():
        assert not [node.names for node in ast.walk(tree) if isinstance(node, ast.Global)], path


def test_functions_fit_a_screen():
    lengths = {
        f"{where(path)}:{name}": node.end_lineno - node.lineno + 1
        for path, tree in trees().items()
        for name, node, _ in functions(tree.body)
    }
    assert not {name for name, length in lengths.items() if length > MAX_LINES}
    assert sorted(lengths.values())[len(lengths) * 9 // 10] <= P90_LINES


def test_every_file_says_what_it_is():
    for path, tree in trees().items():
        assert ast.get_docstring(tree) or not path.stat().st_size, f"{path} has no docstring"


def test_every_public_class_and_function_says_what_it_is():
    classes = {node.name: node for tree in trees().values() for node in tree.body if isinstance(node, ast.ClassDef)}

    def is_documented(owner: ast.ClassDef | None, node: ast.FunctionDef) -> bool:
        """Whether a function, or the one of a base class that it stands for, has a docstring."""
        if ast.get_docstring(node):
            return True
        for base in map(ast.unparse, owner.bases if owner else ()):
            if base not in classes:
                return bool(LIBRARY_METHODS.fullmatch(node.name))
            same = [one for one in classes[base].body if isinstance(one, FUNCTION) and one.name == node.name]
            if is_documented(classes[base], same[0] if same else node):
                return True
        return False

    silent = set()
    for path, tree in trees().items():
        silent |= {
            f"{where(path)}:{node.name}" for node in tree.body if is_public_class(node) and not ast.get_docstring(node)
        }
        for name, node, owner in functions(tree.body):
            is_nested = name.count(".") > bool(owner)
            if not is_nested and not re.search(r"(^|\.)_", name) and not is_documented(owner, node):
                silent.add(f"{where(path)}:{name}")
    assert not silent, f"add a docstring to: {', '.join(sorted(silent))}"


def is_public_class(node: ast.stmt) -> bool:
    return isinstance(node, ast.ClassDef) and not node.name.startswith("_")


def test_no_module_goes_without_a_type_check():
    settings = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert 'files = ["ftkit/config", "ftkit/runs", "ftkit/inference"]' in settings
    assert not re.findall(r'^  "(ftkit\.[\w.*]+)",', settings, flags=re.MULTILINE) and "ignore_errors" not in settings


def test_lines_are_cut_at_their_ends_alone_and_written_by_one_module():
    for path, tree in trees().items():
        for node in ast.walk(tree):
            place = f"{path}:{getattr(node, 'lineno', 0)}"
            assert not (isinstance(node, ast.Attribute) and node.attr == "splitlines"), f'{place}: use split("\\n")'
            if path.name != "jsonl.py" and isinstance(node, ast.BinOp):
                is_json_line = re.fullmatch(r"json\.dumps\((?!.*indent).*\) \+ '\\\\n'", ast.unparse(node))
                assert not is_json_line, f"{place}: use ftkit.config.jsonl"


def test_every_folder_says_what_each_of_its_files_is_for():
    folders = sorted(PACKAGE.glob("*/**/__init__.py"))
    assert len(folders) > 30
    for path in folders:
        said = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")), clean=False)
        named = set(re.findall(r"^([\w/.]+)  ", said, flags=re.MULTILINE))
        files = {file.name for file in path.parent.glob("*.py")} - {"__init__.py"}
        assert named == files | {f"{file.parent.name}/" for file in path.parent.glob("*/__init__.py")}, where(path)
