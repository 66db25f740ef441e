"""What others may send: templates, configurations, tokenizers, adapters and files that were made to do harm.

Each case spoils a copy of a good folder; `run_hostile` then runs a command on it in a forked process of a warm one.
"""

import json
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

CPU_SECONDS, WALL_SECONDS = 10, 240  # of a command; the second is for a machine that is shared
BYTES = 6 * 2**30


@dataclass(frozen=True)
class Case:
    """spoil: changes a folder that holds model/ and adapter/, and may name code that writes canary there.

    command: words of a command line; MODEL, ADAPTER and OUT stand for folders.
    """

    name: str
    spoil: Callable[[Path], None]
    command: str


@dataclass(frozen=True)
class Ended:
    """How a command ended. code: None where it was killed."""

    code: int | None
    cpu_seconds: float
    output: str
    ran_code: bool


def run_hostile(case: Case, folder: Path) -> Ended:
    """Spoil the good folders in `folder` and run the case's command on them, with yes on its stdin."""
    case.spoil(folder)
    places = {"MODEL": "model", "ADAPTER": "adapter", "OUT": "out", "ROWS": "rows.jsonl", "TASK": "task.yaml"}
    argv = [str(folder / places[word]) if word in places else word for word in case.command.split()]
    output = folder / "output.txt"
    started = time.monotonic()
    child = os.fork()
    if not child:
        _run(argv, folder, output)
    code = None
    while time.monotonic() - started < WALL_SECONDS:
        ended, status, usage = os.wait4(child, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            break
        time.sleep(0.02)
    else:
        os.kill(child, signal.SIGKILL)
        _, _, usage = os.wait4(child, 0)
    text = output.read_text(encoding="utf-8", errors="replace") if output.exists() else ""
    return Ended(code, usage.ru_utime + usage.ru_stime, text, (folder / "canary").exists())


def _run(argv: list[str], folder: Path, output: Path) -> None:
    """In the child: the command, with its output in a file and an endless yes on stdin."""
    code = 1
    try:
        reader, writer = os.pipe()
        os.write(writer, b"y\n" * 1000)
        os.dup2(reader, 0)
        file = os.open(output, os.O_CREAT | os.O_WRONLY)
        os.dup2(file, 1)
        os.dup2(file, 2)
        sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w", buffering=1)
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS + 2, CPU_SECONDS + 2))
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + BYTES, used + BYTES))
        os.chdir(folder)
        os.environ["FTKIT_CACHE"] = str(folder / "cache")
        from ftkit.cli import dispatch
        from ftkit.config.parser import run

        code = run(dispatch, argv)
        sys.stdout.flush()
    except SystemExit as error:
        code = error.code
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code or 0)


def template(text: str) -> Callable[[Path], None]:
    """The model's chat template."""
    return lambda folder: (folder / "model" / "chat_template.jinja").write_text(text)


def changed(file: str, **values) -> Callable[[Path], None]:
    """Other values in a JSON file."""

    def spoil(folder: Path) -> None:
        path = folder / file
        path.write_text(json.dumps((json.loads(path.read_text()) if path.exists() else {}) | values))

    return spoil


def config(**values) -> Callable[[Path], None]:
    return changed("model/config.json", **values)


def adapter(**values) -> Callable[[Path], None]:
    return changed("adapter/adapter_config.json", **values)


def written(file: str, content: str | bytes) -> Callable[[Path], None]:
    """A file with this content."""
    data = content.encode() if isinstance(content, str) else content

    def spoil(folder: Path) -> None:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(data)

    return spoil


def tokenizer(**values) -> Callable[[Path], None]:
    return changed("model/tokenizer.json", **values)


def replaced(pattern: str, content: str) -> dict:
    return {"type": "Replace", "pattern": {"Regex": pattern}, "content": content}


def split(pattern: str) -> dict:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def code(file: str, **auto_map) -> Callable[[Path], None]:
    """Python code beside a model or adapter that writes the canary, named by a configuration."""

    def spoil(folder: Path) -> None:
        changed(file, auto_map=auto_map)(folder)
        source = f"open({str(folder / 'canary')!r}, 'w').close()\nclass Own: pass\n"
        ((folder / file).parent / "own.py").write_text(source)

    return spoil


def both(*spoilers: Callable[[Path], None]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        for one in spoilers:
            one(folder)

    return spoil


def task(**values) -> Callable[[Path], None]:
    """A benchmark's task file, as others may send it."""
    import yaml

    base = {
        "version": 1, "kind": "generation", "about": "own", "metrics": ["exact_match"], "split": "train",
        "prompt": "{{ instruction }}", "target": "{{ output }}",
    }  # fmt: skip
    return lambda folder: (folder / "task.yaml").write_text(
        yaml.safe_dump(base | {"data": str(folder / "rows.jsonl")} | values)
    )


OWN_TOKENIZER = {"AutoTokenizer": ["own.Own", "own.Own"]}
OWN_MODEL = {"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.Own"}
GENERATE = "generate --model_name_or_path MODEL --prompt Hi --max_new_tokens 2 --dtype float32"
SHOW = "data show ROWS --model MODEL"
CHECK = "data check ROWS --model MODEL"
PLAN = "sft --model_name_or_path MODEL --dataset_name ROWS --output_dir OUT --plan"
PUSH = "push MODEL owner/name --dry_run"
EXPORT = "export MODEL --format llama --output_dir OUT"
BENCH = "bench --model_name_or_path MODEL --tasks TASK --output_dir OUT --limit 2 --dtype float32"
INFO = "adapters info ADAPTER"
MERGE = "adapters merge ADAPTER --output_dir OUT --dtype float32"
ADAPTED = "generate --adapter ADAPTER --prompt Hi --max_new_tokens 2 --dtype float32"
GO_ON = "sft --adapter ADAPTER --dataset_name ROWS --output_dir OUT --plan"
SHELL = "os.system('touch canary')"
PLAIN_TURN = "{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}"
