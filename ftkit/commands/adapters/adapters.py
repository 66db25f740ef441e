"""Finds adapters, shows what is in one, and makes others or whole models of them, with the change measured.

ftkit adapters list runs
ftkit adapters info runs/first
ftkit adapters merge runs/first --output_dir merged --dtype bfloat16
ftkit adapters merge --models runs/a,runs/b --method slerp --output_dir mixed
ftkit adapters combine runs/first runs/second --method svd --output_dir both
ftkit adapters extract runs/full base --rank 16 --output_dir extracted
ftkit adapters diff runs/first runs/second
ftkit adapters prune runs/first --rank 4 --output_dir smaller
"""

import importlib
import re
import sys
from pathlib import Path

from ftkit.config.errors import UserError
from ftkit.config.json_object import read_object
from ftkit.config.parser import CommandParser, action_of
from ftkit.config.paste import command

ACTIONS = ("list", "info", "merge", "combine", "extract", "diff", "prune")
CONFIG_FILE, WEIGHTS_FILE = "adapter_config.json", "adapter_model.safetensors"
CHECKPOINT = re.compile(r"checkpoint-\d+")
KINDS_SHOWN = 12
MIB = 2**20


def main(argv: list[str]) -> None:
    """Hand over to an action."""
    action, rest = action_of(argv, "adapters", ACTIONS, __doc__)
    if action in ("list", "info"):
        {"list": list_adapters, "info": show_adapter}[action](rest)
        return
    is_mix = action == "merge" and any(word.partition("=")[0] == "--models" for word in rest)
    name = "mix" if is_mix else action
    getattr(importlib.import_module(f"ftkit.commands.adapters.{name}"), name)(rest)


def list_adapters(argv: list[str]) -> None:
    """Print one line for each adapter below some folders."""
    parser = CommandParser(prog="ftkit adapters list", examples=__doc__, description="Find adapters below folders.")
    parser.add_argument("folders", nargs="*", default=["runs"], help="where to look")
    parser.add_argument("--checkpoints", action="store_true", help="show the checkpoints of finished runs, too")
    args = parser.parse_args(argv)
    missing = [folder for folder in args.folders if not Path(folder).is_dir()]
    if missing:
        raise UserError(f"{missing[0]}: no such folder; name one that holds runs: ftkit adapters list FOLDER")
    found = sorted({path for folder in args.folders for path in find_adapters(Path(folder), args.checkpoints)})
    if not found:
        print(f"no adapter below {', '.join(args.folders)}; ftkit sft --use_peft trains one", file=sys.stderr)
        return
    print_table([("adapter", "method", "rank", "size", "base"), *map(summary_row, found)])
    print(f"{len(found)} found; next: {command('chat', '--adapter', found[0])}", file=sys.stderr)


def find_adapters(folder: Path, checkpoints: bool) -> list[Path]:
    """Folders at and below `folder` that hold an adapter; checkpoints only where asked for, or where the run is not
    finished."""
    found = [path.parent for path in folder.rglob(CONFIG_FILE)]
    return [
        path
        for path in found
        if checkpoints or not (CHECKPOINT.fullmatch(path.name) and (path.parent / CONFIG_FILE).is_file())
    ]


def summary_row(adapter: Path) -> tuple[str, ...]:
    """One line of the list, without reading any weights; what can't be read is said in it."""
    try:
        config = read_object(adapter / CONFIG_FILE, "save it again")
        method, base = method_of(config), str(config.get("base_model_name_or_path"))
    except (ValueError, AttributeError, KeyError, OSError):
        return str(adapter), "unreadable", "-", "-", f"broken {CONFIG_FILE}"
    weights = adapter / WEIGHTS_FILE
    size = f"{weights.stat().st_size / MIB:.1f} MiB" if weights.is_file() else "no weights"
    rank = config.get("r") or config.get("num_virtual_tokens")
    record = adapter / "base.json"
    if not record.is_file():
        record = adapter.parent / "base.json"
    if record.is_file():
        try:
            base = str(read_object(record, "restore it").get("name", base))
        except (ValueError, AttributeError, OSError):
            base = f"broken {record.name}"
    return str(adapter), method, str(rank or "-"), size, base


def method_of(config: dict) -> str:
    """The method's name as people say it."""
    if config["peft_type"] != "LORA":
        return config["peft_type"].lower().replace("_", " ")
    return " ".join(["rsLoRA" if config.get("use_rslora") else "LoRA", *(["DoRA"] if config.get("use_dora") else [])])


def print_table(rows: list[tuple[str, ...]]) -> None:
    """Print columns, each as wide as its widest cell."""
    from ftkit.evaluation.verdict.text import column_lines

    print("\n".join(column_lines(rows)))


def show_adapter(argv: list[str]) -> None:
    """Print what an adapter is, what it belongs to and how much it changes."""
    parser = CommandParser(prog="ftkit adapters info", examples=__doc__, description="Show what is in an adapter.")
    parser.add_argument("adapter", help="output folder of a run with --use_peft, or a checkpoint in it")
    parser.add_argument("--model_name_or_path", help="its base, if moved")
    args = parser.parse_args(argv)
    from ftkit.config.quiet import quiet_libraries
    from ftkit.inference.golden import golden_line
    from ftkit.model.adapters.description import FAILS, describe
    from ftkit.model.adapters.files import read_adapter_config

    quiet_libraries()
    method = method_of(read_adapter_config(args.adapter))
    lines, kinds = describe(args.adapter, args.model_name_or_path, method=method)
    if not lines["checks"].startswith(FAILS):
        try:
            lines["golden"] = golden_line(args.adapter, args.model_name_or_path)
        except UserError as error:
            lines["golden"] = f"{FAILS}{error}"
    for name, text in lines.items():
        print(f"{name:<15}{text}")
    for failed in (text for text in lines.values() if text.startswith(FAILS)):
        raise UserError(failed.removeprefix(FAILS))
    if kinds:
        print("\nFrobenius norm of the update, each module kind:")
        print_table([("kind", "modules", "mean", "largest", "relative to the weight"), *kinds[:KINDS_SHOWN]])
