"""Exports a model as a plain folder, a .gguf file or an Ollama model, each read back and compared before it appears.

    export_model("runs/merged", "out", "gguf", quantization="q8_0")

Plain folders keep `{% generation %}` in the chat template: transformers and vLLM know the tag, and it is what a later
fine-tuning trains by. Engines that read .gguf don't, so there it is left out (`gguf_tokenizer.portable_template`).
"""

import io
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedTokenizerBase

from ftkit import __version__
from ftkit.config.errors import UserError
from ftkit.config.files import staged_folder
from ftkit.config.json_object import read_object
from ftkit.data.templates.lock import copy_lock, make_lock, read_lock, rendering_difference, verify_lock, write_lock
from ftkit.inference.end_tokens import stored_end_tokens
from ftkit.model.adapters.files import named_base, resolve_base
from ftkit.model.adapters.merging import merge_adapter
from ftkit.model.fast.bit_linear import BitLinear
from ftkit.model.loading import load_config, load_model, load_tokenizer, local_model_folder
from ftkit.model.weights.conversion import copy_files, export_weights
from ftkit.model.weights.gguf import convert_gguf
from ftkit.model.weights.shards import INDEX_FILE, OutputTensor, SafetensorsFolder, safetensors_files, write_shards
from ftkit.model.weights.ternary import is_packed, ternary_settings, write_packed
from ftkit.publish.export.certificate import Certificate, compare, observe
from ftkit.publish.export.gguf import write_gguf
from ftkit.publish.export.gguf_adapter import ADAPTER_KINDS, write_adapter_gguf, write_merged_gguf
from ftkit.publish.export.gguf_tokenizer import TRICKY_TEXT
from ftkit.publish.export.ollama import modelfile, probe_template, stop_strings

PLAIN_FORMATS = ("gpt2", "llama", "qwen2")
FORMATS = (*PLAIN_FORMATS, "gguf", "ollama", "ternary")
DTYPES = ("auto", "float32", "bfloat16", "float16")
KINDS = {"float16": "f16", "bfloat16": "bf16"}
GGUF_FILE, ADAPTER_FILE = "model.gguf", "adapter.gguf"
CHAT_NOTE = "Ollama renders messages as they are: a control token in a user's text acts as one (see the Modelfile)"
TEXT_NOTE = "the model has no chat template, so in Ollama it continues a text instead of answering"
NOT_IN_PLAIN_CONFIG = ("auto_map", "_name_or_path", "torch_dtype")


@dataclass(frozen=True)
class Exported:
    """The result: its folder, what was measured, and export.json's content."""

    folder: Path
    certificate: Certificate
    record: dict


def export_model(
    model: str | None,
    output_dir: str | Path,
    format_name: str,
    *,
    adapter: str | None = None,
    is_unmerged: bool = False,
    quantization: str = "f16",
    dtype: str = "auto",
) -> Exported:
    """Write `output_dir` in one of FORMATS; it appears whole by one rename, after it was read back and compared.

    model: Hub id, folder or .gguf file; with `adapter` (a run folder or PEFT adapter, merged first) its base, which
    may be None. is_unmerged: write the adapter by itself, as a LoRA .gguf, for Ollama beside its base. quantization: of
    gguf and ollama. dtype: of plain folders; auto keeps the stored one (float32 for a
    merge). OUT/export.json holds format, source and what was measured.
    Raises UserError if the model or its settings don't exist in the format, if what was read back differs by more
    than rounding explains, if the template lock does not hold, or if `output_dir` is not empty.
    """
    output_dir = Path(output_dir)
    with staged_folder(output_dir) as staging, _scratch(output_dir) as scratch:
        source = _source_folder(model, adapter, scratch, dtype, is_unmerged)
        _check_is_causal(source, format_name)
        owner = model if adapter is None and model.endswith(".gguf") else source  # a .gguf's lock lies beside it
        if adapter is None:  # a merge has looked
            verify_lock(owner, load_tokenizer(source))
        if format_name in (*PLAIN_FORMATS, "ternary"):
            write = _write_ternary if format_name == "ternary" else _write_plain
            facts = write(source, staging, format_name, dtype, scratch)
            certificate = _certify_plain(source, staging, facts["is_rounded"], facts["dtype"])
            copy_lock(owner, staging)
        else:
            file, kind = staging / GGUF_FILE, quantization
            if is_unmerged:
                base = Path(resolve_base(adapter, model))
                facts, file, kind = _write_unmerged(
                    adapter, base, source, staging, format_name, quantization, scratch, output_dir.name
                )
            else:
                facts = _write_gguf_folder(source, staging, format_name, quantization, scratch, output_dir.name)
            certificate, read_back = _certify_gguf(source, file, kind, scratch)
            if read_back["are_tokens_equal"] and (staging / GGUF_FILE).is_file():
                _lock_gguf(owner, staging, scratch)
            facts |= read_back
            if facts["is_pre_tokenizer_known"] and not facts["are_tokens_equal"]:
                raise UserError(
                    f"{source}: read back from GGUF, its tokenizer gives different tokens (GGUF knows no normalizer, "
                    "nor added tokens that take the space beside them); choose a plain format"
                )
        base = model or named_base(adapter)
        names = {"format": format_name, "source": _public_name(base), "adapter": _public_name(adapter)}
        record = {**names, **facts, **asdict(certificate), "ftkit_version": __version__}
        (staging / "export.json").write_text(json.dumps(record, indent=2) + "\n", "utf-8")
    return Exported(output_dir, certificate, record)


@contextmanager
def _scratch(output_dir: Path) -> Iterator[Path]:
    """A folder for intermediate results, on the disk of the result; it vanishes."""
    folder = output_dir.parent / f".{output_dir.name}.scratch.tmp"
    shutil.rmtree(folder, ignore_errors=True)  # of a killed process
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _source_folder(model: str | None, adapter: str | None, scratch: Path, dtype: str, is_unmerged: bool) -> Path:
    """The folder to export: the model's or the merged adapter's; unmerged, what base and adapter should equal."""
    if adapter is None:
        return Path(local_model_folder(model))
    merge_dtype = "bfloat16" if dtype == "bfloat16" else "float32"
    merged = scratch / "merged"
    return Path(merge_adapter(adapter, merged, base=model, dtype=merge_dtype, as_trained=not is_unmerged))


def _public_name(name: str | None) -> str | None:
    """A Hub id as it is; of a local path the last part: a published file should not show where it was made."""
    return Path(name).name if name and Path(name).expanduser().exists() else name


def _check_is_causal(folder: Path, format_name: str) -> None:
    settings = read_object(folder / "config.json")
    if any(name.endswith("ForSequenceClassification") for name in settings.get("architectures") or ()):
        raise UserError(f"{folder}: is a classifier; export takes causal language models")
    bits = ternary_settings(folder)
    if format_name == "ternary" and (bits is None or is_packed(folder)):
        why = "are packed already" if bits else "are not of 1.58 bits; ftkit sft --ternary trains such"
        raise UserError(f"{folder}: its weights {why}")
    if bits and format_name != "ternary":
        raise UserError(
            f"{folder}: its weights are of 1.58 bits, which {format_name} has no place for; take --format ternary"
        )
    if settings.get("quantization_config") and not bits:
        raise UserError(f"{folder}: its weights are quantised; export the unquantised model")


def _write_plain(source: Path, staging: Path, family: str, dtype: str, scratch: Path) -> dict:
    """Write the plain folder of a family, by an allow-list of files; return facts for export.json."""
    if read_object(source / "config.json").get("model_type") == "ftgpt":
        source = export_weights(source, scratch / "plain", family)
    settings = read_object(source / "config.json")
    if settings.get("model_type") != family:
        found = settings.get("model_type", "")
        hint = f"choose --format {found}" if found in PLAIN_FORMATS else "a plain folder needs no export: push it"
        raise UserError(f'{source}: model_type "{found}" is not {family}; {hint}')
    tensors = SafetensorsFolder(source)
    dtypes = {name: spec.dtype if dtype == "auto" else getattr(torch, dtype) for name, spec in tensors.specs().items()}
    planned = {
        name: OutputTensor(spec.to(dtypes[name]), partial(_cast, tensors, name, dtypes[name]))
        for name, spec in tensors.specs().items()
    }
    write_shards(planned, staging)
    stored = str(next(iter(dtypes.values()))).removeprefix("torch.")
    kept = {name: value for name, value in settings.items() if name not in NOT_IN_PLAIN_CONFIG}
    (staging / "config.json").write_text(json.dumps({**kept, "dtype": stored}, indent=2) + "\n", "utf-8")
    copy_files(source, staging)
    is_rounded = any(dtypes[name].itemsize < spec.dtype.itemsize for name, spec in tensors.specs().items())
    return {"dtype": stored, "is_rounded": is_rounded}


def _write_ternary(source: Path, staging: Path, family: str, dtype: str, scratch: Path) -> dict:
    """Write a model of 1.58 bits packed, four weights in a byte, as transformers reads it; facts for export.json."""
    names = [name for name, module in load_model(source).named_modules() if isinstance(module, BitLinear)]
    stored = write_packed(source, staging, names, dtype)
    copy_files(source, staging)
    for path in source.glob("*.py"):  # FTGPT's own, for those without ftkit
        shutil.copy2(path, staging)
    return {"dtype": stored, "is_rounded": dtype != "auto", "num_packed_layers": len(names)}


def _cast(tensors: SafetensorsFolder, name: str, dtype: torch.dtype) -> torch.Tensor:
    return tensors.load(name).to(dtype)


def _write_unmerged(
    adapter: str, base: Path, merged: Path, staging: Path, format_name: str, quantization: str, scratch: Path, name: str
) -> tuple[dict, Path, str]:
    """Write adapter.gguf, for Ollama beside model.gguf and a Modelfile.

    Returns facts for export.json, a .gguf of base plus adapter as llama.cpp adds them up, and the type that it was
    rounded to. base: its folder. merged: that of base and adapter, whose tokenizer and template go into model.gguf.
    """
    own = [read_object(folder / "config.json") for folder in (base, merged)]
    if own[0].get("vocab_size") != own[1].get("vocab_size"):
        raise UserError(f"{adapter}: has tokens that its base lacks, which a LoRA .gguf can't hold; drop --unmerged")
    is_ftgpt = own[0].get("model_type") == "ftgpt"
    plain = export_weights(base, scratch / "base") if is_ftgpt else _linked(base, scratch / "base")
    copy_files(merged, plain)
    kind = quantization if quantization in ADAPTER_KINDS else "f16"
    facts = write_adapter_gguf(adapter, plain, staging / ADAPTER_FILE, kind, is_ftgpt=is_ftgpt, name=name)
    if format_name == "ollama":
        where = staging
        facts |= _write_gguf_folder(plain, staging, format_name, quantization, scratch, name, ADAPTER_FILE)
        kind = quantization
    else:
        where = scratch
        facts |= write_gguf(plain, scratch / GGUF_FILE, "f32", where=base)
    write_merged_gguf(where / GGUF_FILE, staging / ADAPTER_FILE, plain, scratch / "sum.gguf")
    return facts, scratch / "sum.gguf", kind


def _linked(folder: Path, target: Path) -> Path:
    """A folder with links to a model's configuration and weights, for another tokenizer beside them."""
    target.mkdir()
    for path in (folder / "config.json", folder / INDEX_FILE, *safetensors_files(folder)):
        if path.is_file():
            (target / path.name).symlink_to(path.resolve())
    return target


def _write_gguf_folder(
    source: Path,
    staging: Path,
    format_name: str,
    quantization: str,
    scratch: Path,
    name: str,
    adapter_file: str | None = None,
) -> dict:
    """Write model.gguf, for Ollama a Modelfile too; return facts for export.json."""
    tokenizer = load_tokenizer(source)
    pieces = None
    if format_name == "ollama" and tokenizer.chat_template:  # refused before the long part
        pieces = probe_template(tokenizer)
    is_ftgpt = read_object(source / "config.json").get("model_type") == "ftgpt"
    plain = export_weights(source, scratch / "plain") if is_ftgpt else source
    facts = write_gguf(plain, staging / GGUF_FILE, quantization, name=name, where=source)
    if format_name == "ollama":
        begin = "" if facts["add_bos"] or not pieces else pieces.bos
        stops = stop_strings(tokenizer, pieces, stored_end_tokens(source))
        (staging / "Modelfile").write_text(modelfile(pieces, stops, begin=begin, adapter_file=adapter_file), "utf-8")
        facts = {"note": CHAT_NOTE if pieces else TEXT_NOTE, **facts}
    return {"quantization": quantization, **facts}


def _certify_plain(source: Path, folder: Path, is_rounded: bool, dtype: str) -> Certificate:
    """Compare source and plain folder, one model in memory at a time, both computing in float32."""
    tokenizer, exported = load_tokenizer(source), load_tokenizer(folder)
    if not has_same_tokens(tokenizer, exported):
        raise UserError(f"{source}: its tokenizer reads text differently after saving; save it with save_pretrained")
    before = observe(load_model(source), tokenizer)
    after = observe(load_model(folder), exported)
    return compare(before, after, KINDS.get(dtype, "f32") if is_rounded else "f32")


def _certify_gguf(source: Path, path: Path, quantization: str, scratch: Path) -> tuple[Certificate, dict]:
    """Compare source and file, one model in memory at a time; say who read the file and whether tokens agree.

    transformers' loader reads it where it can: it shares nothing with our writer.
    """
    back = convert_gguf(path, scratch / "back")
    tokenizer, exported = load_tokenizer(source), load_tokenizer(back)
    before = observe(load_model(source), tokenizer)
    if transformers_reads(load_config(back)):
        reader = "transformers"
        with redirect_stderr(io.StringIO()):  # its progress bar has no switch
            model = AutoModelForCausalLM.from_pretrained(
                path.parent, gguf_file=path.name, dtype=torch.float32, trust_remote_code=False
            )
    else:
        reader, model = "ftkit", load_model(back, dtype="auto")
    facts = {"read_back_by": reader, "are_tokens_equal": has_same_tokens(tokenizer, exported)}
    return compare(before, observe(model, tokenizer), quantization), facts


def _lock_gguf(owner: str | Path, folder: Path, scratch: Path) -> None:
    """Lock an exported .gguf, which holds the template without its markers, if what it was made from is locked.

    Raises UserError that names the first token of a golden conversation that is another one in the file.
    """
    lock = read_lock(owner)
    if lock is None:
        return
    tokenizer = load_tokenizer(scratch / "back")
    if difference := rendering_difference(lock, tokenizer):
        raise UserError(f"{owner}: read back from GGUF, {difference}; choose a plain format")
    write_lock(folder, make_lock(tokenizer, lock["template"]["name"]))


def transformers_reads(config: PreTrainedConfig) -> bool:
    """Whether transformers' GGUF loader gets this model right: it ignores some settings in silence."""
    if config.model_type == "gpt2":
        return config.n_positions == 1024 and config.n_inner in (None, 4 * config.n_embd)
    is_scaled = config.rope_parameters.get("rope_type", "default") != "default"
    return not is_scaled and not getattr(config, "attention_bias", False)


def has_same_tokens(tokenizer: PreTrainedTokenizerBase, other: PreTrainedTokenizerBase) -> bool:
    """Whether two tokenizers read a text full of difficulties, and every added token, as the same ids."""
    text = TRICKY_TEXT + "".join(tokenizer.get_added_vocab())
    ids = [each(text, add_special_tokens=False)["input_ids"] for each in (tokenizer, other)]
    return ids[0] == ids[1]
