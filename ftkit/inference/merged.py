"""An adapter merged, and how far the merged folder is from the adapter on its base, on held-out rows.

record = merge_and_measure(MergeSettings("runs/first", "merged", dtype="bfloat16"))     # also OUT/merge.json
"""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftkit.config.errors import UserError
from ftkit.config.files import write_json
from ftkit.config.hardware import probe
from ftkit.data.reading.loading import load_rows
from ftkit.data.reading.run_rows import rows_of
from ftkit.data.rows.formats import CONVERSATIONS
from ftkit.data.rows.kinds import UNLABELLED
from ftkit.data.templates.templates import install_template
from ftkit.data.tokens.tokenization import tokenize_rows
from ftkit.inference.divergence import compare_models
from ftkit.model.adapters.files import adapter_labels, base_fingerprint, resolve_base, run_settings
from ftkit.model.adapters.loading import put_adapter
from ftkit.model.adapters.merging import load_base, merge_adapter, trained_quantization
from ftkit.model.classifier import text_probabilities
from ftkit.model.context import context_size
from ftkit.model.loading import load_model, load_tokenizer
from ftkit.model.trained_classifier import load_trained_classifier

BUNDLED_ROWS = "instructions"  # held-out rows where neither the person nor the run has any


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
    source, rows = held_out_rows(settings, is_classifier)
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


def held_out_rows(settings: MergeSettings, is_classifier: bool) -> tuple[str, list[dict]]:
    """Where the rows come from, in words, and the rows: those named, else the run's held-out ones, else bundled ones,
    of which a classifier has none.

    Raises UserError for rows that were named and can't be read.
    """
    name, kind = settings.dataset_name or settings.file, UNLABELLED if is_classifier else CONVERSATIONS
    if name:
        rows = load_rows(name, kind=kind)
        test = rows.test if rows.test and not settings.file else rows.train
        return f"{'test rows' if test is rows.test else 'rows'} of {rows.source}", test
    run = run_settings(settings.adapter)
    if run.get("dataset_name"):
        try:
            rows = rows_of(run, kind)
        except UserError as error:  # moved, or of a form that is no conversation
            print(f"the run's own rows can't be used: {error}", file=sys.stderr)
        else:
            if rows.test or is_classifier:
                return f"{'held-out ' if rows.test else ''}rows of the run, {rows.source}", rows.test or rows.train
    if is_classifier:
        raise UserError(f"{settings.adapter}: its run names no rows; give some to compare on: --file FILE")
    rows = load_rows(BUNDLED_ROWS)
    return f"test rows of the {rows.source}", rows.test or []


def measure_language_model(settings: MergeSettings, folder: str, out: Path, rows: list[dict]) -> dict[str, Any]:
    """What the reference is, in words, and the Divergence from it of the merged folder, loaded again."""
    tokenizer = load_tokenizer(out, trust_remote_code=settings.trust_remote_code)
    # In float32 arithmetic: what rounding the weights did, without the noise of computing in 16 bits.
    merged = load_model(out, trust_remote_code=settings.trust_remote_code).to(probe().device)
    template = None if "text" in rows[0] else install_template(tokenizer, "auto")
    tokenized = tokenize_rows(rows, tokenizer, template, max_length=context_size(merged.config)).rows
    base = load_base(
        folder,
        settings.adapter,
        trained_quantization(settings.adapter),
        trust_remote_code=settings.trust_remote_code,
    ).to(probe().device)
    reference = "base and adapter in float32"
    if getattr(base, "hf_quantizer", None) is not None:
        bits = 8 if getattr(base, "is_loaded_in_8bit", False) else 4
        reference = f"the {bits}-bit base and adapter, as trained ({str(base.dtype).removeprefix('torch.')})"
    model = put_adapter(base, settings.adapter, tokenizer)
    return {"reference": reference, **compare_models(model, merged, tokenized, tokenizer.pad_token_id).as_dict()}


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
