"""What is in an adapter, what it belongs to and how much it changes, in words and figures.

lines, kinds = describe("runs/first", method="LoRA")
"""

from collections import defaultdict
from pathlib import Path

from ftkit.config.errors import UserError
from ftkit.model.adapters.files import (
    adapter_tensors,
    base_fingerprint,
    base_of_adapter,
    read_adapter_config,
    recorded_base,
    resolve_base,
    run_folder,
    run_settings,
)
from ftkit.model.adapters.loading import SHOWN_DIGITS, check_fit, check_tensors, try_patterns
from ftkit.model.adapters.updates import scaling_of, updates
from ftkit.model.weights.shards import SafetensorsFolder

Row = tuple[str, ...]
TOKENS_SHOWN = 8
FAILS = "FAILS: "  # how the line of checks begins where loading would be refused


def describe(adapter: str, base: str | None = None, *, method: str) -> tuple[dict[str, str], list[Row]]:
    """Lines by name, and a row of figures for each kind of module (`update_norms`).

    base: where it is, if moved. method: the method's name as people say it. What is wrong with the adapter is said in a
    line; UserError where it can't be read, or `base` is no model.
    """
    config, settings = read_adapter_config(adapter), run_settings(adapter)
    tensors = dict(adapter_tensors(adapter))
    try_patterns(adapter, tensors)
    found, folder = base_line(adapter, base)
    lines = {"adapter": adapter, "method": method_line(config, method), "base": found}
    if settings.get("load_in_4bit") or settings.get("load_in_8bit"):
        lines["trained on"] = f"the base in {4 if settings.get('load_in_4bit') else 8} bits"
    if tokens := config.get("trainable_token_indices"):
        rows = next(iter(tokens.values())) if isinstance(tokens, dict) else tokens
        more = ", ..." if len(rows) > TOKENS_SHOWN else ""
        lines["trained tokens"] = f"{len(rows)}: {', '.join(map(str, rows[:TOKENS_SHOWN]))}{more}"
    lines["template"] = template_line(adapter)
    num, dtypes = sum(tensor.numel() for tensor in tensors.values()), {str(t.dtype)[6:] for t in tensors.values()}
    lines["parameters"] = f"{num:,} in {len(tensors)} tensors, {', '.join(sorted(dtypes))}"
    lines["checks"] = checks_line(adapter, folder)
    return lines, update_norms(tensors, config, folder)


def method_line(config: dict, method: str) -> str:
    """Method, size, scaling and targets in words."""
    if config["peft_type"] != "LORA":
        size = config.get("num_virtual_tokens")
        return method + (f", {size} virtual tokens" if size else "")
    rank, alpha = config["r"], config["lora_alpha"]
    scaling = scaling_of(config, "", rank)
    varied = " in most modules" if config.get("rank_pattern") or config.get("alpha_pattern") else ""
    targets = config.get("target_modules")
    targets = ", ".join(sorted(targets)) if isinstance(targets, list) else str(targets)
    whole = config.get("modules_to_save")
    return f"{method}, r {rank}, alpha {alpha} (update x {scaling:g}){varied}, on {targets}" + (
        f"; {', '.join(whole)} as a whole" if whole else ""
    )


def base_line(adapter: str, base: str | None) -> tuple[str, str | None]:
    """What the base is and whether it is the recorded one; its local folder, None where it is not here."""
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
    found = [path for path in (Path(adapter), run_folder(adapter)) if (path / "chat_template.jinja").is_file()]
    if not found:
        return "none of its own; the base's is used"
    return f"{run_settings(adapter).get('template', 'its own')} ({found[0] / 'chat_template.jinja'})"


def checks_line(adapter: str, folder: str | None) -> str:
    """The load checks in words: what would be refused, or that nothing would."""
    try:
        check_tensors(adapter)
        if folder is None:
            return "finite, and it changes something; names and shapes were not held against the base"
        check_fit(adapter, folder)
    except UserError as error:
        return f"{FAILS}{error}"
    return "finite, changes something, every tensor has its place in the base"


def update_norms(tensors: dict, config: dict, folder: str | None) -> list[Row]:
    """A row for each module kind: norms of scaling * B A, and of it over the base's weight where that is at hand."""
    if config["peft_type"] != "LORA":
        return []
    try:
        weights = SafetensorsFolder(folder) if folder else None
    except UserError:  # a base that is stored in 4 bits has no norms to compare with
        weights = None
    norms, relative = defaultdict(list), defaultdict(list)
    for module, update in updates(tensors, config).items():
        norm, kind = update.norm(), module.rsplit(".", 1)[-1]
        norms[kind].append(norm)
        if weights and f"{module}.weight" in weights.specs():
            relative[kind].append(norm / weights.load(f"{module}.weight").double().norm().item())
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
