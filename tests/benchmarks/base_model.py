"""Held-out bits per byte of a base model, of a modified Kneser-Ney 5-gram over the same tokens, and of xz.

    python tests/benchmarks/base_model.py --model base --corpus ~/.cache/ftkit/corpus --write

All three code every byte of the split `test`: the first token of a document costs log2(vocabulary) bits for both models;
xz has the training text as its dictionary (size of train and test less size of train). Intervals are bootstraps over
documents, paired for differences.
"""

import argparse
import json
import lzma
import math
from pathlib import Path

import measuring
import numpy as np
from kneser_ney import KneserNey

ORDER = 5
RESAMPLES = 2000
DICTIONARY_BYTES = 1 << 27  # larger than the corpus


def documents_of(corpus: Path, split: str) -> list[str]:
    lines = (corpus / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["text"] for line in lines]


def model_bits(model, documents: list[np.ndarray], context: int) -> np.ndarray:
    """Bits of each document: (N,). Windows of `context` tokens, each scored token in exactly one of them."""
    import torch

    bits = np.zeros(len(documents))
    with torch.no_grad():
        for number, ids in enumerate(documents):
            for start in range(0, len(ids) - 1, context - 1):
                window = torch.tensor(ids[start : start + context].astype(np.int64))[None]
                log_probs = model(window, use_cache=False).logits[0, :-1].float().log_softmax(-1)
                bits[number] -= log_probs.gather(-1, window[0, 1:, None]).sum().item() / math.log(2)
    return bits


def xz_size(data: bytes) -> int:
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": DICTIONARY_BYTES}]
    return len(lzma.compress(data, format=lzma.FORMAT_XZ, filters=filters))


def interval(bits: np.ndarray, sizes: np.ndarray) -> tuple[float, float, float]:
    """Bits per byte and its 95 % bootstrap interval over documents."""
    rng = np.random.default_rng(measuring.SEED)
    draws = rng.integers(0, len(bits), (RESAMPLES, len(bits)))
    low, high = np.percentile(bits[draws].sum(1) / sizes[draws].sum(1), [2.5, 97.5])
    return bits.sum() / sizes.sum(), low, high


def report(args: argparse.Namespace) -> str:
    from ftkit.data.tokens.blocks import tokenize_documents
    from ftkit.model.loading import load_model, load_tokenizer

    model, tokenizer = load_model(args.model).eval(), load_tokenizer(args.model)
    train, test = documents_of(args.corpus, "train"), documents_of(args.corpus, "test")
    sizes = np.array([len(text.encode()) for text in test])
    ids = tokenize_documents(test, tokenizer).ids
    first = math.log2(model.config.vocab_size)
    found = {"base model": first + model_bits(model, ids, model.config.max_position_embeddings)}
    grams = KneserNey(tokenize_documents(train, tokenizer).ids, model.config.vocab_size, ORDER)
    found[f"Kneser-Ney {ORDER}-gram"] = np.array([first - grams.log_probs(each).sum() / math.log(2) for each in ids])
    rows = [[name, "{:.4f} ({:.4f} to {:.4f})".format(*interval(bits, sizes))] for name, bits in found.items()]
    base, peer = found.values()
    rows.append(["base less 5-gram, paired", "{:.4f} ({:.4f} to {:.4f})".format(*interval(base - peer, sizes))])
    learned, both = "\n\n".join(train).encode(), "\n\n".join([*train, *test]).encode()
    rows.append(["xz -9e, training text as dictionary", f"{8 * (xz_size(both) - xz_size(learned)) / sizes.sum():.4f}"])
    by_source = "".join(f"\n{line}" for line in source_lines(args.corpus, found, sizes))
    head = f"{len(test)} held-out documents, {sizes.sum():,} bytes; model {args.model.split('/')[-1]}.\n\n"
    return head + measuring.table(["coder", "bits per byte (95 % interval)"], rows) + "\n" + by_source


def source_lines(corpus: Path, found: dict[str, np.ndarray], sizes: np.ndarray) -> list[str]:
    """The same by source of the text, as a table."""
    lines = (corpus / "test.jsonl").read_text(encoding="utf-8").splitlines()
    sources = np.array([json.loads(line)["source"] for line in lines])
    rows = []
    for source in dict.fromkeys(sources):
        chosen = sources == source
        rows.append([source, *(f"{bits[chosen].sum() / sizes[chosen].sum():.3f}" for bits in found.values())])
    return measuring.table(["source", *found], rows).splitlines()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="base")
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--write", action="store_true", help="put the result into RESULTS.md")
    args = parser.parse_args()
    text = f"    python tests/benchmarks/base_model.py --model base --corpus CORPUS --write\n\n{report(args)}"
    print(text)
    if args.write:
        measuring.write_section("Base", "held-out bits per byte of the bundled base model", text)


if __name__ == "__main__":
    main()
