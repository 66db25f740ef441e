"""`ftkit adapters merge` of a classifier's adapter: how far probabilities moved by the merge."""

import sys

from ftkit.config.errors import UserError

DEFAULT_LIMIT = 512  # tokens of a text, of a model that names no limit


def merge_classifier(args) -> None:
    """Merge, reload, compare on held-out rows of the run or of --dataset_name, print, and write OUT/merge.json."""
    from ftkit.commands.adapters.merge import merge
    from ftkit.config.files import write_json
    from ftkit.model.adapters.files import resolve_base

    texts = held_out_texts(args)
    out, made_of = merge(args, resolve_base(args.adapter, args.model_name_or_path))
    difference, agreement = compare(args, out, texts)
    measured = {"num_rows": len(texts), "max_probability_difference": difference, "label_agreement": agreement}
    write_json(out / "merge.json", made_of | measured)
    print(
        f"merged {args.adapter} in {args.dtype}; on {len(texts)} texts probabilities differ by {difference:.2e} at "
        f"most, {agreement:.2%} of the labels are the same"
    )
    print(f"next: ftkit classify --predict FILE --model_name_or_path {out}", file=sys.stderr)


def held_out_texts(args) -> list[str]:
    """The first texts of --dataset_name or --file, else of the run's data, held-out ones where there are any."""
    from ftkit.data.reading.loading import load_rows
    from ftkit.data.rows.kinds import UNLABELLED
    from ftkit.model.adapters.files import run_settings

    name = args.dataset_name or args.file or run_settings(args.adapter).get("dataset_name")
    if not name:
        raise UserError(f"{args.adapter}: its run names no rows; give some to compare on: --file FILE")
    rows = load_rows(name, kind=UNLABELLED)
    return [row["text"] for row in (rows.test or rows.train)[: args.num_rows]]


def compare(args, out, texts: list[str]) -> tuple[float, float]:
    """Largest difference of a probability, and the share of equal labels, between the adapter and the merged folder."""
    from ftkit.model.classifier import class_probabilities
    from ftkit.model.context import context_size
    from ftkit.model.trained_classifier import load_trained_classifier

    found = []
    for name, base in ((args.adapter, args.model_name_or_path), (out, None)):
        model, tokenizer, _ = load_trained_classifier(name, base=base, trust_remote_code=args.trust_remote_code)
        limit = min(tokenizer.model_max_length, context_size(model.config) or DEFAULT_LIMIT)
        sequences = tokenizer(texts, truncation=True, max_length=limit)["input_ids"]
        found.append(class_probabilities(model, sequences, tokenizer))
    adapter, merged = found
    same = adapter.argmax(dim=-1) == merged.argmax(dim=-1)
    return float((adapter - merged).abs().max()), float(same.float().mean())
