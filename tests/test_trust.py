"""No code of others runs: a lint over the package, its examples and benchmarks, seen to fail on planted snippets.

What it bans can only be written here, in the table of what it must find.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("ftkit", "examples", "tests/benchmarks")
DOCUMENTS = ("README.md", "CONTRIBUTING.md", "examples")

SERIALISERS = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "pickle5"}
LOADERS = {"from_pretrained", "from_config", "load_dataset", "load_dataset_builder", "pipeline", "SentenceTransformer"}
# Receivers whose `from_pretrained` reads a class that the caller has chosen: no folder can name code for them.
CHOSEN_CLASSES = {
    "PeftModel", "PeftConfig", "FTGPTConfig", "GenerationConfig", "PreTrainedTokenizerFast", "GPT2TokenizerFast",
    "LlamaForCausalLM", "LlamaTokenizer", "CONFIG_MAPPING",
}  # fmt: skip
SHELLS = {"os.system", "os.popen", "os.execl", "os.execlp", "subprocess.getoutput", "subprocess.getstatusoutput"}
SAFE_YAML = {"safe_load", "safe_load_all", "safe_dump", "SafeLoader", "compose", "dump"}
# Reads a pickle of texts and numbers by an unpickler that refuses every class and function.
RESTRICTED = {
    "ftkit/data/tokens/characters.py": "import of pickle",
    "ftkit/config/line_reader.py": "input()",  # Python's own, of a terminal
}
# What holds by construction, whatever a person or a file says; everywhere else an assert would vanish under -O.
INVARIANTS = {"ftkit/config/flags.py", "ftkit/config/assets.py", "ftkit/model/weights/shards.py"}


def name_of(node: ast.expr) -> str:
    """The dotted name of an expression, without what is called or indexed in it."""
    if isinstance(node, ast.Attribute):
        return f"{name_of(node.value)}.{node.attr}"
    if isinstance(node, ast.Call):
        return name_of(node.func)
    if isinstance(node, ast.Subscript):
        return name_of(node.value)
    return node.id if isinstance(node, ast.Name) else ""


def is_constant(node: ast.expr | None, value) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def wrong_call(node: ast.Call) -> str | None:
    """What is banned about a call; None for an innocent one."""
    name, keywords = name_of(node.func), {keyword.arg: keyword.value for keyword in node.keywords}
    owner, _, last = name.rpartition(".")
    if name in ("eval", "exec", "compile", "__import__", "input"):
        return f"{name}()"
    if name in SHELLS or is_constant(keywords.get("shell"), True):
        return "a shell"
    if owner == "torch" and last == "load" and not is_constant(keywords.get("weights_only"), True):
        return "torch.load without weights_only=True"
    if "weights_only" in keywords and not is_constant(keywords["weights_only"], True):
        return "weights_only that is not True"
    if is_constant(keywords.get("allow_pickle"), True) or last in ("read_pickle", "to_pickle"):
        return "a pickle"
    if owner == "yaml" and last not in SAFE_YAML:
        return f"yaml.{last}"
    if is_constant(keywords.get("trust_remote_code"), True):
        return "trust_remote_code=True"
    if last in LOADERS and owner.split(".")[-1] not in CHOSEN_CLASSES and "trust_remote_code" not in keywords:
        return f"{name} without trust_remote_code"
    return None


def swallows(handler: ast.ExceptHandler) -> bool:
    """Whether a handler takes every error and neither raises it nor hands or prints it on."""
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    takes_all = any(kind is None or name_of(kind) in ("Exception", "BaseException") for kind in kinds)
    said = {"traceback.print_exc", "traceback.format_exc", handler.name}
    inside = [inner for statement in handler.body for inner in ast.walk(statement)]
    return takes_all and not any(isinstance(node, ast.Raise) or name_of(node) in said - {None} for node in inside)


def snippet_faults(text: str) -> Iterator[str]:
    """Loading calls in a text that people copy, such as a card, which leave trust unspelled."""
    for line in text.split("\n"):
        for owner, call in re.findall(r"(\w+)\.(from_pretrained|from_config)\(|\b(?=pipeline\(.*model=)", line):
            if owner not in CHOSEN_CLASSES and not re.search(r"trust_remote_code|\{remote_code\}", line):
                yield f"a snippet with {call or 'pipeline'} without trust_remote_code"


def faults(source: str, path: str = "ftkit/new.py") -> list[str]:
    """ "LINE: what is banned", of a file's source."""
    found = []
    for node in ast.walk(ast.parse(source)):
        words = []
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            words += [f"import of {module}" for module in modules if module.split(".")[0] in SERIALISERS]
        elif isinstance(node, ast.Call):
            words += filter(None, [wrong_call(node)])
        elif isinstance(node, ast.Dict):
            pairs = zip(node.keys, node.values, strict=True)
            words += ["trust_remote_code=True" for key, value in pairs
                      if is_constant(value, True) and isinstance(key, ast.Constant) and key.value == "trust_remote_code"]  # fmt: skip
        elif isinstance(node, ast.ExceptHandler) and swallows(node):
            words.append("an error of any kind swallowed")
        elif isinstance(node, ast.Assert) and path.startswith("ftkit/") and path not in INVARIANTS:
            words.append("an assert, which -O drops")
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            words += snippet_faults(node.value)
        found += [f"{path}:{node.lineno}: {word}" for word in words]
    return found


def sources() -> list[str]:
    """The Python files that are held to it, but for the code saved with the bundled base and the benchmarks' tests."""
    paths = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
    names = [str(path.relative_to(ROOT)) for path in paths if not path.name.startswith("test_")]
    return [name for name in names if not name.startswith("ftkit/assets/")]


def test_no_source_trusts_what_others_made():
    found = [fault for name in sources() for fault in faults((ROOT / name).read_text(encoding="utf-8"), name)]
    found = [
        fault
        for fault in found
        if not any(fault.startswith(f"{name}:") and what in fault for name, what in RESTRICTED.items())
    ]
    assert not found, "\n".join(found)


def test_no_document_shows_a_loading_call_that_leaves_trust_unspelled():
    paths = [
        path for name in DOCUMENTS for path in ([ROOT / name] if (ROOT / name).is_file() else (ROOT / name).rglob("*"))
    ]
    for path in paths:
        if path.suffix in (".md", ".sh", ".yaml"):
            assert not list(snippet_faults(path.read_text(encoding="utf-8"))), path


PLANTED = {
    "import pickle": "import of pickle",
    "from pickle import loads": "import of pickle",
    "import dill": "import of dill",
    "import joblib": "import of joblib",
    "torch.load(path)": "torch.load without weights_only=True",
    "torch.load(path, weights_only=flag)": "torch.load without weights_only=True",
    "torch.load(path, weights_only=False)": "torch.load without weights_only=True",
    "accelerator.load_state(path, weights_only=False)": "weights_only that is not True",
    "numpy.load(path, allow_pickle=True)": "a pickle",
    "pandas.read_pickle(path)": "a pickle",
    "AutoConfig.from_pretrained(name)": "AutoConfig.from_pretrained without trust_remote_code",
    "AutoTokenizer.from_pretrained(name, **where)": "AutoTokenizer.from_pretrained without trust_remote_code",
    "auto.from_config(config)": "auto.from_config without trust_remote_code",
    "AutoProcessor.from_pretrained(name)": "AutoProcessor.from_pretrained without trust_remote_code",
    "datasets.load_dataset(name)": "datasets.load_dataset without trust_remote_code",
    "pipeline('text-classification', model=name)": "pipeline without trust_remote_code",
    "SentenceTransformer(name)": "SentenceTransformer without trust_remote_code",
    "AutoModel.from_pretrained(name, trust_remote_code=True)": "trust_remote_code=True",
    "settings = {'trust_remote_code': True}": "trust_remote_code=True",
    "CARD = 'model = AutoModel.from_pretrained(model_id)'": "a snippet with from_pretrained without trust_remote_code",
    "CARD = '''x\nclassify = pipeline(\"text-classification\", model=m)'''": "a snippet with pipeline without trust_remote_code",
    "subprocess.run(command, shell=True)": "a shell",
    "os.system(command)": "a shell",
    "os.popen(command)": "a shell",
    "eval(text)": "eval()",
    "exec(text)": "exec()",
    "compile(text, 'x', 'exec')": "compile()",
    "input('may it run? ')": "input()",
    "yaml.load(text)": "yaml.load",
    "yaml.load(text, Loader=yaml.Loader)": "yaml.load",
    "yaml.unsafe_load(text)": "yaml.unsafe_load",
    "yaml.full_load_all(text)": "yaml.full_load_all",
    "assert path.is_file(), path": "an assert, which -O drops",
    "try:\n    f()\nexcept Exception:\n    pass": "an error of any kind swallowed",
    "try:\n    f()\nexcept:\n    x = 1": "an error of any kind swallowed",
    "try:\n    f()\nexcept (ValueError, BaseException) as error:\n    print('no')": "an error of any kind swallowed",
}  # fmt: skip


@pytest.mark.parametrize("source", PLANTED)
def test_the_lint_finds_what_is_banned(source):
    assert any(fault.endswith(f": {PLANTED[source]}") for fault in faults(source))


@pytest.mark.parametrize(
    "source",
    [
        "torch.load(path, weights_only=True)",
        "AutoModel.from_pretrained(name, trust_remote_code=False)",
        "AutoModel.from_pretrained(name, trust_remote_code=settings.trust_remote_code)",
        "PeftModel.from_pretrained(model, name)",
        "CONFIG_MAPPING[name].from_pretrained(folder)",
        "yaml.safe_load(text)",
        "subprocess.run([sys.executable, '-c', script])",
        "model.eval()",
        "re.compile('a+')",
        "try:\n    f()\nexcept Exception as error:\n    raise UserError(str(error)) from error",
        "try:\n    f()\nexcept ValueError:\n    pass",
        "try:\n    f()\nexcept BaseException as error:\n    found.put(error)",
    ],
)
def test_the_lint_lets_the_rest_pass(source):
    assert not faults(source)
