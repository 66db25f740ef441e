"""Adapters and models that are computed from others: written, loaded again, and measured against what they should be.

record = combined(["runs/a", "runs/b"], Combination("cat", (0.5, 0.5)), "runs/both", Measuring(num_rows=64))
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel

from ftkit.config.errors import UserError
from ftkit.config.files import staged_folder, write_json
from ftkit.config.hardware import probe
from ftkit.data.templates.lock import copy_lock, verify_lock
from ftkit.inference.certificate import LIMIT
from ftkit.inference.certified import Side, certify, held_out_rows, load_side
from ftkit.inference.engine import Voice, template_of
from ftkit.inference.golden import Golden, Precision, golden_prompts, log_probs_after, tops, write_golden
from ftkit.model.adapters.combining import NAME, Combination, add_updates, combine, targets
from ftkit.model.adapters.extracting import extract
from ftkit.model.adapters.files import adapter_fingerprint
from ftkit.model.adapters.pruning import pruned
from ftkit.model.adapters.writing import base_of, write_adapter
from ftkit.model.alike import check_alike
from ftkit.model.loading import load_model, load_tokenizer
from ftkit.model.weights.mixing import Mixture

RECORD = "certificate.json"


@dataclass(frozen=True)
class Measuring:
    """What a result is measured on and by. base: where adapters' base is, if moved. data: see `held_out_rows`."""

    base: str | None = None
    data: str | None = None
    num_rows: int = 64
    max_kl: float = LIMIT
    trust_remote_code: bool = False

    def rows(self, owner: str) -> tuple[str, list[dict]]:
        """Where the rows come from, in words, and the rows."""
        source, rows = held_out_rows(owner, self.data)
        return source, rows[: self.num_rows]


def combined(adapters: Sequence[str], how: Combination, output_dir: str, by: Measuring) -> dict[str, Any]:
    """Combine and measure; returns OUT/certificate.json. Raises UserError as `combine` does."""
    source, rows = by.rows(adapters[0])
    with staged_folder(output_dir) as staging:
        base, model = combine(adapters, how, staging, base=by.base, trust_remote_code=by.trust_remote_code)
        made = load_side(staging, base.folder, is_checked=True, trust_remote_code=by.trust_remote_code)
        distances = []
        for number, adapter in enumerate(adapters):
            model.set_adapter(f"parent_{number}")
            found = certify(model.to(probe().device), made.model, rows, made.tokenizer, by.max_kl)
            distances.append({"name": adapter} | found)
        what, reference = reference_of(adapters, how, model)
        record = {
            "made_of": list(adapters), **asdict(how), "base": base.name, "base_verified": base.is_verified,
            "rows": source, "reference": what, "from": distances,
        }  # fmt: skip
        record |= certify(reference, made.model, rows, made.tokenizer, by.max_kl)
        record_golden(staging, made)
        write_json(staging / RECORD, record)
    return record


def record_golden(folder: Path, made: Side) -> None:
    """Write golden.json of an adapter that was made, as a training does: what base and result say to eight prompts."""
    template = template_of(made.tokenizer, "auto", may_lack=True)
    prompts = golden_prompts(Voice("it", made.tokenizer, template), made.model)
    with made.model.disable_adapter():
        base = tops(log_probs_after(made.model, prompts))
    result = tops(log_probs_after(made.model, prompts))
    if base and result:
        precision, said = Precision.of(made.model), tuple(map(tuple, prompts))
        write_golden(folder, Golden(adapter_fingerprint(folder), precision, said, base, result), made.tokenizer)


def reference_of(adapters: Sequence[str], how: Combination, model: PeftModel) -> tuple[str, Any]:
    """What a combination should equal, in words, and a model that does; `model` is used up."""
    found = targets(adapters, how)
    if found is None:  # defined by factors alone
        model.set_adapter(NAME)
        return "what PEFT made of the factors, before it was written", model
    reference = model.unload()
    add_updates(reference, found)
    is_sum = how.method in ("linear", "cat", "svd")
    return "the weighted sum of the updates" if is_sum else f"{how.method} of the updates at full rank", reference


def extracted(tuned: str, base: str, rank: int, output_dir: str, by: Measuring, *, save_whole: bool = False) -> dict:
    """Extract and measure against the tuned model; returns OUT/certificate.json. Raises UserError as `extract` does."""
    source, rows = by.rows(tuned)
    trust: dict[str, Any] = {"trust_remote_code": by.trust_remote_code}
    with staged_folder(output_dir) as staging:
        found = extract(tuned, base, rank, staging, save_whole=save_whole, **trust)
        made = load_side(staging, found.base.folder, is_checked=True, **trust)
        reference = load_side(tuned, **trust)
        record = {
            "made_of": [tuned, base], "rank": rank, "explained": found.explained(), "not_held": found.rest,
            "saved_whole": found.whole, "modules": found.modules, "rows": source, "reference": reference.what,
        }  # fmt: skip
        record |= certify(reference.model, made.model, rows, made.tokenizer, by.max_kl)
        record_golden(staging, made)
        write_json(staging / RECORD, record)
    return record


def pruned_adapter(adapter: str, rank: int, output_dir: str, by: Measuring) -> dict[str, Any]:
    """Prune and measure against the adapter as it was; returns OUT/certificate.json. Raises UserError as `pruned`."""
    source, rows = by.rows(adapter)
    base = base_of([adapter], by.base, trust_remote_code=by.trust_remote_code)
    config, tensors, figures = pruned(adapter, rank)
    with staged_folder(output_dir) as staging:
        write_adapter(staging, config, tensors, text_from=adapter, base=base)
        how = {"is_checked": True, "trust_remote_code": by.trust_remote_code}
        sides = [load_side(name, base.folder, **how) for name in (adapter, staging)]
        record = {
            "made_of": [adapter], "rank": rank, "modules": figures, "base": base.name,
            "base_verified": base.is_verified, "rows": source, "reference": sides[0].what,
        }  # fmt: skip
        record |= certify(sides[0].model, sides[1].model, rows, sides[1].tokenizer, by.max_kl)
        record_golden(staging, sides[1])
        write_json(staging / RECORD, record)
    return record


def mixed(
    models: Mapping[str, str], method: str, weights: tuple[float, ...], density: float, output_dir: str, by: Measuring
) -> dict[str, Any]:
    """Mix whole models and measure against the formula in float32; returns OUT/certificate.json.

    Raises UserError as `Mixture` does, and for models of different vocabularies or templates.
    """
    first = next(iter(models.values()))
    source, rows = by.rows(first)
    mixture = Mixture(models, method, weights, base=by.base, density=density)
    tokenizers = {name: load_tokenizer(folder) for name, folder in mixture.folders.items()}
    for name, folder in mixture.folders.items():
        verify_lock(folder, tokenizers[name])
    check_alike(tokenizers)
    trust: dict[str, Any] = {"is_checked": True, "trust_remote_code": by.trust_remote_code}
    with staged_folder(output_dir) as staging:
        mixture.write(staging)
        copy_lock(next(iter(mixture.folders.values())), staging)
        made = load_side(staging, **trust)
        reference = fill(load_model(first, trust_remote_code=by.trust_remote_code), mixture)
        record = {
            "made_of": list(models.values()), "method": method, "weights": list(weights), "density": density,
            "ties_base": by.base, "rows": source, "reference": f"{method} of the weights, in float32",
        }  # fmt: skip
        record |= certify(reference.to(probe().device), made.model, rows, made.tokenizer, by.max_kl)
        del reference
        record["from"] = [
            {"name": name} | certify(load_side(path, **trust).model, made.model, rows, made.tokenizer, by.max_kl)
            for name, path in models.items()
        ]
        write_json(staging / RECORD, record)
    return record


@torch.no_grad()
def fill(model, mixture: Mixture):
    """Give a model the mixed weights, not rounded; return it."""
    own = dict(model.named_parameters(remove_duplicate=False)) | dict(model.named_buffers(remove_duplicate=False))
    for name in next(iter(mixture.sources.values())).specs():
        if name not in own:
            raise UserError(f"{name}: is stored under another name than the model has; these models can't be mixed")
        own[name].copy_(mixture.value(name))
    return model
