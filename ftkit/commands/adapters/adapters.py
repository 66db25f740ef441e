"""Finds adapters, tells what is in one, and merges one into its base with the change measured.

ftkit adapters list runs
ftkit adapters info runs/first
ftkit adapters merge runs/first --output_dir merged --dtype bfloat16
"""

import json
import re
import sys
from collections import defaultdict
from pathlib import Path

from ftkit.config.errors import UserError, did_you_mean
from ftkit.config.parser import CommandParser

ACTIONS = ("list", "info", "merge")
CONFIG_FILE, WEIGHTS_FILE = "adapter_config.json", "adapter_model.safetensors"
CHECKPOINT = re.compile(r"checkpoint-\d+")
KINDS_SHOWN = 12
MIB = 2**20


def main(argv: list[str]) -> None:
    """Hand over to list, info or merge."""
    action, rest = (argv[0], argv[1:]) if argv else ("", [])
    if action in ("-h", "--help"):
        print(f"usage: ftkit adapters {'|'.join(ACTIONS)} ...\n\n{(__doc__ or '').strip()}\n")
        print("ftkit adapters ACTION --help shows the settings of an action.")
        raise SystemExit(0)  # as argparse ends a command after its help
    if action not in ACTIONS:
        came = f'unknown action "{action}"{did_you_mean(action, ACTIONS)}' if action else "an action is missing"
        raise UserError(f"{came}; give one of: {', '.join(ACTIONS)}; see ftkit adapters --help")
    {"list": list_adapters, "info": show_adapter, "merge": merge}[action](rest)


def list_adapters(argv: list[str]) -> None:
    """Print one line for each adapter below some folders."""
    parser = CommandParser(prog="ftkit adapters list", description="Find adapters below folders.")
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
    print(f"{len(found)} found; next: ftkit chat --adapter {found[0]}", file=sys.stderr)


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
        config = json.loads((adapter / CONFIG_FILE).read_text(encoding="utf-8"))
        method, base = method_of(config), str(config.get("base_model_name_or_path"))
    except (ValueError, AttributeError, OSError):
        return str(adapter), "unreadable", "-", "-", f"broken {CONFIG_FILE}"
    weights = adapter / WEIGHTS_FILE
    size = f"{weights.stat().st_size / MIB:.1f} MiB" if weights.is_file() else "no weights"
    rank = config.get("r") or config.get("num_virtual_tokens")
    record = adapter / "base.json"
    if not record.is_file():
        record = adapter.parent / "base.json"
    if record.is_file():
        base = json.loads(record.read_text(encoding="utf-8")).get("name", base)
    return str(adapter), method, str(rank or "-"), size, base


def method_of(config: dict) -> str:
    """The method's name as people say it."""
    if config["peft_type"] != "LORA":
        return config["peft_type"].lower().replace("_", " ")
    return " ".join(["rsLoRA" if config.get("use_rslora") else "LoRA", *(["DoRA"] if config.get("use_dora") else [])])


def print_table(rows: list[tuple[str, ...]]) -> None:
    """Print columns, each as wide as its widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def show_adapter(argv: list[str]) -> None:
    """Print what an adapter is, what it belongs to and how much it changes."""
    parser = CommandParser(prog="ftkit adapters info", description="Tell what is in an adapter.")
    parser.add_argument("adapter", help="output folder of a run with --use_peft, or a checkpoint in it")
    parser.add_argument("--model_name_or_path", help="its base, if moved")
    args = parser.parse_args(argv)
    from ftkit.config.quiet import quiet_libraries
    from ftkit.model.adapters.files import adapter_tensors, read_adapter_config, run_settings

    quiet_libraries()
    config, settings = read_adapter_config(args.adapter), run_settings(args.adapter)
    tensors = dict(adapter_tensors(args.adapter))
    base, folder = base_line(args.adapter, args.model_name_or_path)
    lines = {"adapter": args.adapter, "method": method_line(config), "base": base}
    if settings.get("load_in_4bit") or settings.get("load_in_8bit"):
        lines["trained on"] = f"the base in {4 if settings.get('load_in_4bit') else 8} bits"
    tokens = config.get("trainable_token_indices") or {}
    if tokens:
        rows = next(iter(tokens.values())) if isinstance(tokens, dict) else tokens
        lines["trained tokens"] = f"{len(rows)}: {', '.join(map(str, rows[:8]))}{', ...' if len(rows) > 8 else ''}"
    lines["template"] = template_line(args.adapter)
    num = sum(tensor.numel() for tensor in tensors.values())
    lines["parameters"] = (
        f"{num:,} in {len(tensors)} tensors, {', '.join(sorted({str(t.dtype)[6:] for t in tensors.values()}))}"
    )
    lines["checks"] = checks_line(args.adapter, folder)
    for name, text in lines.items():
        print(f"{name:<15}{text}")
    kinds = update_norms(tensors, config, folder)
    if kinds:
        print("\nFrobenius norm of the update, each module kind:")
        print_table([("kind", "modules", "mean", "largest", "relative to the weight"), *kinds[:KINDS_SHOWN]])


def method_line(config: dict) -> str:
    """Method, size, scaling and targets in words."""
    if config["peft_type"] != "LORA":
        size = config.get("num_virtual_tokens")
        return method_of(config) + (f", {size} virtual tokens" if size else "")
    rank, alpha = config["r"], config["lora_alpha"]
    scaling = alpha / (rank**0.5 if config.get("use_rslora") else rank)
    targets = config.get("target_modules")
    targets = ", ".join(sorted(targets)) if isinstance(targets, list) else str(targets)
    whole = config.get("modules_to_save")
    return f"{method_of(config)}, r {rank}, alpha {alpha} (update x {scaling:g}), on {targets}" + (
        f"; {', '.join(whole)} as a whole" if whole else ""
    )


def base_line(adapter: str, base: str | None) -> tuple[str, str | None]:
    """What the base is and whether it is the recorded one; its local folder, None where it is not here."""
    from ftkit.model.adapters.files import base_fingerprint, base_of_adapter, recorded_base, resolve_base
    from ftkit.model.adapters.loading import SHOWN_DIGITS

    record = recorded_base(adapter)
    name = record["name"] if record else base_of_adapter(adapter)
    try:
        folder = resolve_base(adapter, base)
    except UserError:
        if base:
            raise
        return f"{name} (not found here; pass --model_name_or_path)", None
    if record is None:
        return f"{name} (no hash was recorded, so it can't be verified)", folder
    given, recorded = base_fingerprint(folder)[:SHOWN_DIGITS], record["sha256"][:SHOWN_DIGITS]
    if given == recorded:
        return f"{name} (weights match, SHA-256 {given})", folder
    return f"{name} (SHA-256 {recorded}); {folder} has other weights ({given})", None


def template_line(adapter: str) -> str:
    """Where the chat template is and how it begins."""
    from ftkit.model.adapters.files import run_folder, run_settings

    found = [path for path in (Path(adapter), run_folder(adapter)) if (path / "chat_template.jinja").is_file()]
    if not found:
        return "none of its own; the base's is used"
    return f"{run_settings(adapter).get('template', 'its own')} ({found[0] / 'chat_template.jinja'})"


def checks_line(adapter: str, folder: str | None) -> str:
    """The load checks in words: what would be refused, or that nothing would."""
    from ftkit.model.adapters.loading import check_fit, check_tensors

    try:
        check_tensors(adapter)
        if folder is None:
            return "finite, and it changes something; names and shapes were not held against the base"
        check_fit(adapter, folder)
    except UserError as error:
        return f"FAILS: {error}"
    return "finite, changes something, every tensor has its place in the base"


def update_norms(tensors: dict, config: dict, folder: str | None) -> list[tuple[str, ...]]:
    """A row for each module kind: norms of scaling * B A, and of it over the base's weight where that is at hand.

    |BA|^2 = sum of (B'B) * (AA'), so the product is never formed.
    """
    from ftkit.model.weights.shards import SafetensorsFolder

    if config["peft_type"] != "LORA":
        return []
    try:
        weights = SafetensorsFolder(folder) if folder else None
    except UserError:  # a base that is stored in 4 bits has no norms to compare with
        weights = None
    scaling = config["lora_alpha"] / (config["r"] ** 0.5 if config.get("use_rslora") else config["r"])
    norms, relative = defaultdict(list), defaultdict(list)
    for name, factor in tensors.items():
        if not name.endswith(".lora_A.weight"):
            continue
        module = name.removesuffix(".lora_A.weight")
        if f"{module}.lora_B.weight" not in tensors:
            continue
        a, b = factor.double(), tensors[f"{module}.lora_B.weight"].double()
        norm = scaling * ((b.T @ b) * (a @ a.T)).sum().clamp(min=0).sqrt().item()
        kind = module.rsplit(".", 1)[-1]
        norms[kind].append(norm)
        weight = f"{module.removeprefix('base_model.model.')}.weight"
        if weights and weight in weights.specs():
            relative[kind].append(norm / weights.load(weight).double().norm().item())
    return [
        (
            kind,
            str(len(values)),
            f"{sum(values) / len(values):.4g}",
            f"{max(values):.4g}",
            f"{100 * sum(relative[kind]) / len(relative[kind]):.2f} %" if relative[kind] else "-",
        )
        for kind, values in sorted(norms.items())
    ]


def merge(argv: list[str]) -> None:
    """Merge, reload, measure, and write OUT/merge.json."""
    from ftkit.commands.adapters.merge import merge_and_measure

    merge_and_measure(argv)
