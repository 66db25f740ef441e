"""F1 on the SpamAssassin test mails: SmolLM2-135M with LoRA, other bases, and TF-IDF with logistic regression.

    python datasets/spam/build.py package    # once, see datasets/spam/README.md
    python tests/benchmarks/spam.py --output_dir spam-runs [--base ftkit/assets/base]

A model sees the first `--max_length` tokens of `--num_train` mails. To tell what a difference comes from, the baseline
is fitted on the same mails cut at the same place, on the same mails whole, and on all mails whole. Its strength of
regularisation is chosen on the validation mails. Runs that are there already are not trained again.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

STRENGTHS = (1, 10, 100, 1000, 10_000, 100_000)
NUM_RESAMPLES = 5000


def main() -> None:
    from ftkit.config.caches import cache_dir
    from ftkit.data.tokens.labelled import load_labelled_rows
    from ftkit.model.loading import find_bundled_smollm2

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=cache_dir() / "datasets/spam-assassin")
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--base", action="append", default=[], help="a further base model, fine-tuned in full")
    parser.add_argument("--num_train", type=int, default=1200)
    parser.add_argument("--max_length", type=int, default=128)
    parser.add_argument("--num_epochs", type=float, default=1)
    parser.add_argument("--no_smollm2", action="store_true")
    args = parser.parse_args()
    rows = load_labelled_rows(str(args.data))
    data = write_subset(args, rows)
    smollm2 = [] if args.no_smollm2 else [(find_bundled_smollm2(), "SmolLM2-135M-Instruct, LoRA r=16", LORA)]
    found, minutes = baselines(args, rows), {}
    for model, name, flags in smollm2 + [(base, f"{Path(base).name}, all weights", FULL) for base in args.base]:
        found[name], minutes[name] = train(args, data, str(model), args.output_dir / Path(model).stem, flags)
    truth = np.array([row["label"] for row in rows.test])
    print(table(truth, found, minutes, args))


LORA = ["--use_peft", "--lora_r", "16", "--lora_alpha", "32", "--learning_rate", "5e-4"]
FULL = ["--learning_rate", "3e-4"]


def write_subset(args, rows) -> Path:
    """The first training mails (their order is that of a hash) and all test mails, as a folder."""
    folder = args.output_dir / f"mails-{args.num_train}"
    folder.mkdir(parents=True, exist_ok=True)
    for name, part in (("train", rows.train[: args.num_train]), ("test", rows.test)):
        lines = [json.dumps({"text": row["text"], "label": rows.labels[row["label"]]}) + "\n" for row in part]
        (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder


def baselines(args, rows) -> dict[str, np.ndarray]:
    """Test probabilities of spam of TF-IDF and logistic regression on cut, whole and all mails."""
    from ftkit.model.loading import find_bundled_smollm2, load_tokenizer

    tokenizer = load_tokenizer(find_bundled_smollm2())

    def cut(part):
        ids = tokenizer([row["text"] for row in part], truncation=True, max_length=args.max_length)["input_ids"]
        return tokenizer.batch_decode(ids)

    def whole(part):
        return [row["text"] for row in part]

    few = rows.train[: args.num_train]
    name = "TF-IDF + logistic regression"
    return {
        f"{name}, {len(few)} mails cut at {args.max_length} tokens": fit(cut, few, rows),
        f"{name}, {len(few)} whole mails": fit(whole, few, rows),
        f"{name}, {len(rows.train)} whole mails": fit(whole, rows.train, rows),
    }


def fit(texts, train, rows) -> np.ndarray:
    """Words and pairs of words, sublinear; the regularisation that has the best F1 on the validation mails."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import f1_score

    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2)
    features = vectorizer.fit_transform(texts(train))
    validation, test = (vectorizer.transform(texts(part)) for part in (rows.validation, rows.test))
    labels, truth = ([row["label"] for row in part] for part in (train, rows.validation))
    models = [LogisticRegression(C=strength, max_iter=2000).fit(features, labels) for strength in STRENGTHS]
    best = max(models, key=lambda model: f1_score(truth, model.predict(validation)))
    return best.predict_proba(test)[:, 1]


def train(args, data: Path, model: str, out: Path, flags: list[str]) -> tuple[np.ndarray, float]:
    """Train with `ftkit classify` unless that was done; return test probabilities of spam, and minutes (0 if done)."""
    minutes = 0.0
    if not (out / "items/classification.jsonl").is_file():
        start = time.perf_counter()
        command = [
            sys.executable, "-m", "ftkit", "classify", "--model_name_or_path", model, "--dataset_name", str(data),
            "--output_dir", str(out), "--max_length", str(args.max_length), "--num_train_epochs", str(args.num_epochs),
            "--per_device_train_batch_size", "8", "--eval_strategy", "no", "--save_strategy", "no", "--num_samples", "0",
            "--warmup_steps", "10", *flags,
        ]  # fmt: skip
        subprocess.run(command, check=True)
        minutes = (time.perf_counter() - start) / 60
    items = [json.loads(line) for line in (out / "items/classification.jsonl").read_text().splitlines()]
    return np.array([item["extra"]["probabilities"]["spam"] for item in items]), minutes


def table(truth: np.ndarray, found: dict[str, np.ndarray], minutes: dict[str, float], args) -> str:
    """F1, precision, recall and ROC AUC with 95 % intervals, and the paired difference of F1 from the cut baseline's."""
    from ftkit.evaluation.held_out.classification import evaluate_classifier
    from ftkit.metrics.classification import confusion_matrix, matrix_measures
    from ftkit.metrics.intervals import bootstrap_statistic

    def f1(told, drawn):
        return matrix_measures(confusion_matrix(truth[drawn], told[drawn], 2), 1)["f1"]

    reference, others = next(iter(found)), np.arange(len(truth))
    lines = [
        f"{len(truth)} test mails, {truth.sum()} of them spam; at most {args.max_length} tokens a mail for the models",
        "| model | F1 of spam | precision | recall | ROC AUC | F1 less the cut baseline's, paired | minutes |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, chances in found.items():
        measures = evaluate_classifier(truth, np.stack([1 - chances, chances], axis=1), ["ham", "spam"])["measures"]
        told, before = (part > 0.5 for part in (chances, found[reference]))
        told, before = told.astype(int), before.astype(int)
        statistic = lambda drawn: {"f1": f1(told, drawn) - f1(before, drawn)}  # noqa: B023, E731
        low, high = bootstrap_statistic(statistic, len(truth), num_resamples=NUM_RESAMPLES)["f1"]
        change = (
            f"{f1(told, others) - f1(before, others):+.3f} ({low:+.3f} to {high:+.3f})" if name != reference else ""
        )
        cells = [
            f"{found_one['value']:.3f} ({found_one['low']:.3f} to {found_one['high']:.3f})"
            for found_one in (measures[key] for key in ("f1", "precision", "recall", "roc_auc"))
        ]
        lines.append(
            f"| {name} | {' | '.join(cells)} | {change} | {f'{minutes[name]:.1f}' if minutes.get(name) else ''} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
