"""An adapter merged, and how far the merged folder is from the adapter on its base, on held-out rows.

record = merge_and_measure(MergeSettings("runs/first", "merged", dtype="bfloat16"))     # also OUT/merge.json
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftkit.config.files import write_json
from ftkit.inference.certificate import LARGEST_MEAN_KL
from ftkit.inference.certified import certify, held_out_rows, load_side
from ftkit.model.adapters.files import adapter_labels, base_fingerprint, resolve_base
from ftkit.model.adapters.merging import merge_adapter
from ftkit.model.classifier import text_probabilities
from ftkit.model.trained_classifier import load_trained_classifier


@dataclass(frozen=True)
class MergeSettings:
    """What is merged and measured.

    model_name_or_path: the base, if moved. original_weights: merge into the base's own weights, not into the
    dequantised ones of a QLoRA training. dataset_name, file: rows to measure on; of a file all of them.
    """

    adapter: str
    output_dir: str
    model_name_or_path: str | None = None
    dtype: str = "bfloat16"
    original_weights: bool = False
    dataset_name: str | None = None
    file: str | None = None
    num_rows: int = 64
    trust_remote_code: bool = False


def merge_and_measure(settings: MergeSettings) -> dict[str, Any]:
    """Merge, load the folder again, compare it, write OUT/merge.json; return what is in that.

    Raises UserError as `merge_adapter` does, and for rows that were named and can't be read.
    """
    folder = resolve_base(settings.adapter, settings.model_name_or_path)
    is_classifier = bool(adapter_labels(settings.adapter, folder))
    source, rows = held_out_rows(settings.adapter, settings.file or settings.dataset_name, is_classifier)
    out = merge_adapter(
        settings.adapter,
        settings.output_dir,
        base=settings.model_name_or_path,
        dtype=settings.dtype,
        as_trained=not settings.original_weights,
        trust_remote_code=settings.trust_remote_code,
    )
    made_of = {
        "adapter": str(settings.adapter),
        "base": os.path.abspath(folder),  # a relative one looks like a Hub id elsewhere
        "base_sha256": base_fingerprint(folder),
        "dtype": settings.dtype,
        "merged_into": "the base's own weights" if settings.original_weights else "the weights it was trained on",
        "rows": source,
    }
    measure = measure_classifier if is_classifier else measure_language_model
    record = made_of | measure(settings, folder, out, rows[: settings.num_rows])
    write_json(out / "merge.json", record)
    return record


def measure_language_model(settings: MergeSettings, folder: str, out: Path, rows: list[dict]) -> dict[str, Any]:
    """What the reference is, in words, and the Divergence from it of the merged folder, loaded again."""
    how: dict[str, Any] = {"is_checked": True, "trust_remote_code": settings.trust_remote_code}
    merged, trained = load_side(out, **how), load_side(settings.adapter, folder, **how)
    limit = LARGEST_MEAN_KL[settings.dtype]
    return {"reference": trained.what} | certify(trained.model, merged.model, rows, merged.tokenizer, limit)


def measure_classifier(settings: MergeSettings, folder: str, out: Path, rows: list[dict]) -> dict[str, Any]:
    """Largest difference of a probability, and the share of equal labels, of the adapter and the merged folder."""
    texts, found = [row["text"] for row in rows], []
    for name, base in ((settings.adapter, folder), (str(out), None)):
        model, tokenizer, _ = load_trained_classifier(name, base=base, trust_remote_code=settings.trust_remote_code)
        found.append(text_probabilities(model, tokenizer, texts))
    adapter, merged = found
    return {
        "num_rows": len(texts),
        "max_probability_difference": float((adapter - merged).abs().max()),
        "label_agreement": float((adapter.argmax(dim=-1) == merged.argmax(dim=-1)).float().mean()),
    }
