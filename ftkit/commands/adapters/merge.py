"""`ftkit adapters merge`: merges an adapter and measures, on held-out rows, how far the merged folder moved from it.

ftkit adapters merge runs/first --output_dir merged --dtype bfloat16
"""

import sys
from pathlib import Path

from ftkit.config.errors import UserError, did_you_mean
from ftkit.config.parser import CommandParser

BUNDLED_ROWS = "instructions"  # held-out rows where neither the person nor the run has any
KL_RESOLUTION = 1e-6  # nats; sums over a vocabulary in float32 are rounded to about this
LEAST_AGREEMENT = 0.9  # of likeliest tokens; arithmetic in bfloat16 alone left 94 % the same on SmolLM2-135M


def merge_and_measure(argv: list[str]) -> None:
    """Merge, reload, measure, print, and write OUT/merge.json."""
    args = parse(argv)
    from ftkit.config.files import write_json
    from ftkit.config.hardware import use_all_cores
    from ftkit.config.quiet import quiet_libraries
    from ftkit.model.adapters.files import adapter_labels, resolve_base

    quiet_libraries()
    use_all_cores()
    folder = resolve_base(args.adapter, args.model_name_or_path)
    is_classifier = bool(adapter_labels(args.adapter, folder))
    source, rows = held_out_rows(args, is_classifier)
    out, made_of = merge(args, folder)
    compare, lines = (measure_classifier, classifier_lines) if is_classifier else (measure, report_lines)
    record = {**made_of, "rows": source, **compare(args, folder, out, rows[: args.num_rows])}
    write_json(out / "merge.json", record)
    print("\n".join(lines(record)))
    use = "classify --predict FILE" if is_classifier else "chat"
    print(f"next: ftkit {use} --model_name_or_path {out}", file=sys.stderr)


def merge(args, folder: str) -> tuple[Path, dict]:
    """The merged folder, and for merge.json what it was made of. folder: of the base."""
    from ftkit.model.adapters.files import base_fingerprint
    from ftkit.model.adapters.merging import merge_adapter

    out = merge_adapter(
        args.adapter,
        args.output_dir,
        base=args.model_name_or_path,
        dtype=args.dtype,
        as_trained=not args.original_weights,
        trust_remote_code=args.trust_remote_code,
    )
    return out, {
        "adapter": str(args.adapter),
        "base": folder,
        "base_sha256": base_fingerprint(folder),
        "dtype": args.dtype,
        "merged_into": "the base's own weights" if args.original_weights else "the weights it was trained on",
    }


def parse(argv: list[str]):
    """The settings of the command line, checked as far as they can be without the model."""
    parser = CommandParser(prog="ftkit adapters merge", description="Merge an adapter into its base, and measure it.")
    parser.add_argument("adapter", help="output folder of a run with --use_peft, or a checkpoint in it")
    parser.add_argument("--output_dir", help="folder for the merged model")
    parser.add_argument("--model_name_or_path", help="its base, if moved")
    parser.add_argument("--dtype", default="bfloat16", help="of the merged weights: bfloat16, float32 or float16")
    parser.add_argument(
        "--original_weights",
        action="store_true",
        help="merge a QLoRA adapter into the base's own weights, not into the dequantised ones it was trained on",
    )
    parser.add_argument(
        "--dataset_name", help="rows to measure on; default: held-out rows of the run, else bundled ones"
    )
    parser.add_argument("--file", help="the same, from a file: every row counts")
    parser.add_argument("--num_rows", type=int, default=64, help="rows to measure on, the first ones")
    parser.add_argument("--trust_remote_code", action="store_true", help="run Python code that comes with the base")
    args = parser.parse_args(argv)
    allowed = ("bfloat16", "float32", "float16")
    if args.dtype not in allowed:
        hint = did_you_mean(args.dtype, allowed) or "; merging into 4 or 8 bits loses what was trained"
        raise UserError(f"--dtype {args.dtype}; allowed are {', '.join(allowed)}{hint}")
    if not args.output_dir:
        raise UserError("--output_dir is missing; give the folder for the merged model")
    if Path(args.output_dir).is_file() or (Path(args.output_dir).is_dir() and any(Path(args.output_dir).iterdir())):
        raise UserError(f"{args.output_dir}: exists and is not empty; name a new folder or remove it first")
    if args.num_rows < 1:
        raise UserError(f"--num_rows is {args.num_rows}; give 1 or more")
    if args.dataset_name and args.file:
        raise UserError("--dataset_name and --file both name rows; drop one")
    return args


def held_out_rows(args, is_classifier: bool) -> tuple[str, list[dict]]:
    """Where the rows come from, in words, and the rows: those named, else the run's held-out ones, else bundled ones,
    of which a classifier has none.

    Raises UserError for rows that were named and can't be read.
    """
    from ftkit.data.reading.loading import load_rows
    from ftkit.data.reading.run_rows import rows_of
    from ftkit.data.rows.formats import CONVERSATIONS
    from ftkit.data.rows.kinds import UNLABELLED
    from ftkit.model.adapters.files import run_settings

    name, kind = args.dataset_name or args.file, UNLABELLED if is_classifier else CONVERSATIONS
    if name:
        rows = load_rows(name, kind=kind)
        test = rows.test if rows.test and not args.file else rows.train
        return f"{'test rows' if test is rows.test else 'rows'} of {rows.source}", test
    settings = run_settings(args.adapter)
    if settings.get("dataset_name"):
        try:
            rows = rows_of(settings, kind)
        except UserError as error:  # moved, or of a form that is no conversation
            print(f"the run's own rows can't be used: {error}", file=sys.stderr)
        else:
            if rows.test or is_classifier:
                return f"{'held-out ' if rows.test else ''}rows of the run, {rows.source}", rows.test or rows.train
    if is_classifier:
        raise UserError(f"{args.adapter}: its run names no rows; give some to compare on: --file FILE")
    rows = load_rows(BUNDLED_ROWS)
    return f"test rows of the {rows.source}", rows.test


def measure(args, folder: str, out: Path, rows: list[dict]) -> dict:
    """What the reference is, in words, and the Divergence from it of the merged folder, loaded again."""
    from ftkit.config.hardware import probe
    from ftkit.data.templates.templates import install_template
    from ftkit.data.tokens.tokenization import tokenize_rows
    from ftkit.inference.divergence import compare_models
    from ftkit.model.adapters.loading import put_adapter
    from ftkit.model.adapters.merging import load_base, trained_quantization
    from ftkit.model.loading import load_model, load_tokenizer

    tokenizer = load_tokenizer(out)
    # In float32 arithmetic: what rounding the weights did, without the noise of computing in 16 bits.
    merged = load_model(out, trust_remote_code=args.trust_remote_code).to(probe().device)
    context = getattr(merged.config.get_text_config(), "max_position_embeddings", None)
    template = None if "text" in rows[0] else install_template(tokenizer, "auto")
    tokenized = tokenize_rows(rows, tokenizer, template, max_length=context).rows
    quantization = trained_quantization(args.adapter)
    base = load_base(folder, args.adapter, quantization, trust_remote_code=args.trust_remote_code).to(probe().device)
    is_quantised = getattr(base, "hf_quantizer", None) is not None
    reference = "base and adapter in float32"
    if is_quantised:
        bits = 8 if getattr(base, "is_loaded_in_8bit", False) else 4
        reference = f"the {bits}-bit base and adapter, as trained ({str(base.dtype).removeprefix('torch.')})"
    model = put_adapter(base, args.adapter, tokenizer)
    return {"reference": reference, **compare_models(model, merged, tokenized, tokenizer.pad_token_id).as_dict()}


def measure_classifier(args, folder: str, out: Path, rows: list[dict]) -> dict:
    """Largest difference of a probability, and the share of equal labels, of the adapter and the merged folder."""
    from ftkit.model.classifier import text_probabilities
    from ftkit.model.trained_classifier import load_trained_classifier

    texts, found = [row["text"] for row in rows], []
    for name, base in ((args.adapter, folder), (out, None)):
        model, tokenizer, _ = load_trained_classifier(name, base=base, trust_remote_code=args.trust_remote_code)
        found.append(text_probabilities(model, tokenizer, texts))
    adapter, merged = found
    return {
        "num_rows": len(texts),
        "max_probability_difference": float((adapter - merged).abs().max()),
        "label_agreement": float((adapter.argmax(dim=-1) == merged.argmax(dim=-1)).float().mean()),
    }


def report_lines(record: dict) -> list[str]:
    """The record as a person reads it."""
    relative = record["max_logit_difference"] / (record["max_abs_logit"] or 1.0)
    lines = [
        f"merged {record['adapter']} in {record['dtype']}, measured against {record['reference']}",
        f"on {record['num_rows']} {record['rows']} ({record['num_tokens']} answer tokens):",
        f"  KL            {kl_text(record['mean_kl'])} nats a token on average, {kl_text(record['max_kl'])} at most",
        f"  likeliest     {100 * record['top1_agreement']:.2f} % of tokens the same",
        f"  logits        differ by {record['max_logit_difference']:.2e} at most, {relative:.2e} of the largest",
    ]
    if record["top1_agreement"] < LEAST_AGREEMENT:
        lines.append("  the merged model is NOT the trained one; use the adapter unmerged, or --dtype float32")
    return lines


def classifier_lines(record: dict) -> list[str]:
    """The record of a classifier as a person reads it."""
    return [
        f"merged {record['adapter']} in {record['dtype']}, measured on {record['num_rows']} {record['rows']}:",
        f"  probabilities  differ by {record['max_probability_difference']:.2e} at most",
        f"  labels         {record['label_agreement']:.2%} are the same",
    ]


def kl_text(value: float) -> str:
    """A divergence in figures, down to what float32 resolves."""
    return f"{value:.2e}" if value >= KL_RESOLUTION else f"below {KL_RESOLUTION:.0e}"
