"""What was made of adapters and models, held on rows against what it should equal.

source, rows = held_out_rows("runs/a", None)
record = certify(reference, load_side("runs/combined").model, rows, tokenizer, largest_kl=0.01)
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftkit.config.errors import UserError
from ftkit.config.hardware import probe
from ftkit.data.reading.loading import load_rows
from ftkit.data.reading.run_rows import rows_of
from ftkit.data.rows.formats import CONVERSATIONS
from ftkit.data.rows.kinds import UNLABELLED
from ftkit.data.templates.lock import verify_lock
from ftkit.data.templates.templates import install_template
from ftkit.data.tokens.tokenization import tokenize_rows
from ftkit.inference.certificate import LEAST_AGREEMENT
from ftkit.inference.divergence import compare_models
from ftkit.model.adapters.files import CONFIG_FILE, resolve_base, run_settings, tokenizer_folder
from ftkit.model.adapters.loading import put_adapter
from ftkit.model.adapters.merging import load_base, trained_quantization
from ftkit.model.context import context_size
from ftkit.model.loading import load_model, load_tokenizer, local_model_folder

BUNDLED_ROWS = "instructions"  # held-out rows where neither the person nor the run has any


@dataclass(frozen=True)
class Side:
    """A model or an adapter on its base, in evaluation mode, with its tokenizer; what: in words."""

    model: Any
    tokenizer: Any
    what: str


def held_out_rows(owner: str, data: str | None, is_classifier: bool = False) -> tuple[str, list[dict]]:
    """Where the rows come from, in words, and the rows: those of `data`, else the held-out ones of the run that made
    `owner`, else bundled ones, of which a classifier has none.

    data: a file, of which all rows count, or a dataset, of which its test rows do where it has any.
    Raises UserError for rows that were named and can't be read.
    """
    kind = UNLABELLED if is_classifier else CONVERSATIONS
    if data:
        rows = load_rows(data, kind=kind)
        test = rows.test if rows.test and not Path(data).is_file() else rows.train
        return f"{'test rows' if test is rows.test else 'rows'} of {rows.source}", test
    run = run_settings(owner)
    if run.get("dataset_name"):
        try:
            rows = rows_of(run, kind)
        except UserError as error:  # moved, or of a form that is no conversation
            print(f"the run's own rows can't be used: {error}", file=sys.stderr)
        else:
            if rows.test or is_classifier:
                return f"{'held-out ' if rows.test else ''}rows of the run, {rows.source}", rows.test or rows.train
    if is_classifier:
        raise UserError(f"{owner}: its run names no rows; give some to compare on: --file FILE")
    rows = load_rows(BUNDLED_ROWS)
    return f"test rows of the {rows.source}", rows.test or []


def is_adapter(name: str | Path) -> bool:
    """Whether a name is that of an adapter's folder."""
    return (Path(name) / CONFIG_FILE).is_file()


def load_side(
    name: str | Path, base: str | None = None, *, is_checked: bool = False, trust_remote_code: bool = False
) -> Side:
    """A model, or an adapter on its base as it was trained, ready to be measured in float32.

    is_checked: whether lock and base are known to be its own.

    In float32 arithmetic: what rounding the weights did, without the noise of computing in 16 bits.
    Raises UserError where it does not load or renders other tokens than in training.
    """
    trust: dict[str, Any] = {"trust_remote_code": trust_remote_code}
    if not is_adapter(name):
        folder = local_model_folder(name)
        tokenizer = load_tokenizer(folder, **trust)
        if not is_checked:
            verify_lock(folder, tokenizer)
        return Side(load_model(folder, **trust).to(probe().device), tokenizer, f"{name} in float32")
    folder = resolve_base(name, base)
    tokenizer = load_tokenizer(tokenizer_folder(name, folder), **trust)
    if not is_checked:
        verify_lock(name, tokenizer)
    model = load_base(folder, name, trained_quantization(name), **trust).to(probe().device)
    what = "base and adapter in float32"
    if getattr(model, "hf_quantizer", None) is not None:
        bits = 8 if getattr(model, "is_loaded_in_8bit", False) else 4
        what = f"the {bits}-bit base and adapter, as trained ({str(model.dtype).removeprefix('torch.')})"
    return Side(put_adapter(model, name, tokenizer, base_folder=None if is_checked else folder), tokenizer, what)


def certify(reference, candidate, rows: list[dict], tokenizer, largest_kl: float) -> dict[str, Any]:
    """The Divergence of a candidate from a reference on rows, by name, with the limit and whether it is within it."""
    template = None if "text" in rows[0] else install_template(tokenizer, "auto")
    tokenized = tokenize_rows(rows, tokenizer, template, max_length=context_size(candidate.config)).rows
    found = compare_models(reference, candidate, tokenized, tokenizer.pad_token_id, num_tokens=len(tokenizer))
    is_same = found.mean_kl <= largest_kl and found.top1_agreement >= LEAST_AGREEMENT  # false for NaN
    return found.as_dict() | {"largest_kl": largest_kl, "is_same": is_same}
