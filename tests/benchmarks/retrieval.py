"""Retrieval on real documents: by words, by meaning and by both; and 10^5 passages indexed and searched.

    apt-get download python3.11-doc bible-kjv-text bible-kjv
    for package in *.deb; do dpkg -x $package debs; done
    python tests/benchmarks/retrieval.py --debs debs --encoder all-MiniLM-L6-v2 --work W

Two tasks, whose answers nobody had to label.
Python's documentation: a question is a heading, or an entry of the index that leads to a place in the text; headings and
entries are taken out of what is searched, so the passage must be found by what it says. The Bible: a question is a verse
of the New Testament that quotes the Old, and the verse that it quotes is to be found among the Psalms.

The same retrieval is measured at a larger size with a stand-in for the encoder (random vectors, by the hash of a text):
time and memory of the store alone, in a process of its own. W keeps the indexes; what is there is not embedded again.
"""

import argparse
import dataclasses
import hashlib
import os
import random
import re
import shutil
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import measuring
import numpy as np

METHODS = ("bm25", "dense", "hybrid")
METRICS = ("recall_at_1", "recall_at_10", "mrr", "ndcg_at_10")
DEPTH = 10
NUM_QUESTIONS = 300  # of each kind, drawn
PAGES = ("tutorial", "howto", "faq", "reference")
MARK, MARKS = "\u2063", re.compile("\u2063(index-\\d+)\u2063")
ANCHOR = re.compile(r'(<[a-z]+[^<>]*\sid="(index-\d+)"[^<>]*>)')
BOOKS = ("Psa",)  # the one that is quoted most
LARGE, LARGE_TOKENS, SIZE = 100_000, 34, 384
QUOTATIONS = """Mat1:23 Isa7:14|Mat2:6 Mic5:2|Mat2:15 Hos11:1|Mat2:18 Jer31:15|Mat3:3 Isa40:3|Mat4:4 Deu8:3|
Mat4:6 Psa91:11 Psa91:12|Mat4:7 Deu6:16|Mat4:10 Deu6:13|Mat8:17 Isa53:4|Mat9:13 Hos6:6|Mat12:18 Isa42:1|
Mat13:14 Isa6:9|Mat13:15 Isa6:10|Mat13:35 Psa78:2|Mat15:8 Isa29:13|Mat19:5 Ge2:24|Mat21:5 Zec9:9|
Mat21:13 Isa56:7 Jer7:11|Mat21:16 Psa8:2|Mat21:42 Psa118:22 Psa118:23|Mat22:32 Exo3:6|Mat22:37 Deu6:5|
Mat22:39 Lev19:18|Mat22:44 Psa110:1|Mat26:31 Zec13:7|Mat27:46 Psa22:1|John2:17 Psa69:9|John6:31 Psa78:24|
John10:34 Psa82:6|John12:38 Isa53:1|John12:40 Isa6:10|John13:18 Psa41:9|John15:25 Psa35:19 Psa69:4|
John19:24 Psa22:18|John19:37 Zec12:10|Acts2:17 Joel2:28|Acts2:25 Psa16:8|Acts2:34 Psa110:1|Acts7:49 Isa66:1|
Acts8:32 Isa53:7|Acts13:33 Psa2:7|Acts13:41 Hab1:5|Acts13:47 Isa49:6|Rom1:17 Hab2:4|Rom3:13 Psa5:9|
Rom3:18 Psa36:1|Rom4:7 Psa32:1|Rom8:36 Psa44:22|Rom9:15 Exo33:19|Rom9:27 Isa10:22|Rom9:29 Isa1:9|
Rom9:33 Isa28:16 Isa8:14|Rom10:5 Lev18:5|Rom10:13 Joel2:32|Rom10:15 Isa52:7|Rom10:16 Isa53:1|Rom10:20 Isa65:1|
Rom10:21 Isa65:2|Rom11:3 1Ki19:10 1Ki19:14|Rom11:26 Isa59:20|Rom12:19 Deu32:35|Rom12:20 Prv25:21 Prv25:22|
Rom14:11 Isa45:23|Rom15:3 Psa69:9|Rom15:9 Psa18:49|Rom15:11 Psa117:1|Rom15:12 Isa11:10|Rom15:21 Isa52:15|
1Cor1:19 Isa29:14|1Cor2:9 Isa64:4|1Cor3:20 Psa94:11|1Cor9:9 Deu25:4|1Cor10:7 Exo32:6|1Cor14:21 Isa28:11|
1Cor15:27 Psa8:6|1Cor15:54 Isa25:8|1Cor15:55 Hos13:14|2Cor6:2 Isa49:8|2Cor9:9 Psa112:9|Gal3:10 Deu27:26|
Gal3:13 Deu21:23|Gal4:27 Isa54:1|Eph4:8 Psa68:18|Eph5:31 Ge2:24|Heb1:7 Psa104:4|Heb1:8 Psa45:6|
Heb1:10 Psa102:25|Heb2:6 Psa8:4|Heb2:12 Psa22:22|Heb3:7 Psa95:7|Heb5:6 Psa110:4|Heb8:8 Jer31:31|Heb10:5 Psa40:6|
Heb12:5 Prv3:11|Heb12:26 Hag2:6|Heb13:6 Psa118:6|Jas4:6 Prv3:34|1Pet1:24 Isa40:6|1Pet2:6 Isa28:16|
1Pet2:22 Isa53:9|1Pet3:10 Psa34:12"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--debs", type=Path, required=True, help="folder with the unpacked packages")
    parser.add_argument("--encoder", help="folder of a sentence encoder")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--only", help="one part, to do several at once: " + ", ".join(PARTS))
    parser.add_argument("--child", type=int, help="index so many passages with the stand-in, and print what it took")
    args = parser.parse_args()
    if args.child:
        large(args)
        return
    import torch

    args.work.mkdir(parents=True, exist_ok=True)
    found = [part(name, args) for name in ([args.only] if args.only else PARTS)]
    if args.only:
        return
    machine = measuring.machine(torch.get_num_threads())
    text = "\n\n".join([COMMAND, *found[:2], large_table(found[2:]), f"{machine} Other work ran beside it."])
    measuring.write_section("Retrieval", "what an index finds, by words, by meaning and by both", text)


def part(name: str, args) -> str:
    """A part of the report; what W holds is not done again."""
    kept = args.work / f"{name}.txt"
    if not kept.is_file():
        kind, _, number = name.partition("-")
        kept.write_text(in_child(int(number), args) if number else measure(TITLES[kind], *TASKS[kind](args.debs), args))
    return kept.read_text()


COMMAND = "    python tests/benchmarks/retrieval.py --debs debs --encoder all-MiniLM-L6-v2 --work W"


# Python's documentation


def python_task(debs: Path) -> tuple[list, dict]:
    """(passages without headings, questions by kind): each question with the ids of its passages."""
    from ftkit.data.index.passages import split

    root = debs / "usr/share/doc/python3.11/html"
    count, passages, headings, places = counter(), [], defaultdict(set), {}
    for path in pages(root):
        document = page(path, path.relative_to(root).as_posix())
        own = split(document, count, 200)
        for number, one in enumerate(own):
            for anchor in MARKS.findall(one.text):
                is_last = MARKS.sub("", one.text.rpartition(MARK)[2]).strip() == "" and number + 1 < len(own)
                places[one.source, anchor] = own[number + 1].id if is_last else one.id
            headings[one.heading].add(one.id)
            passages.append(
                dataclasses.replace(one, text=MARKS.sub("", one.text).strip(), heading="", title=one.source)
            )
    passages = [one for one in passages if one.text]
    return passages, {"headings": heading_questions(headings), "index entries": entry_questions(root, places)}


def counter():
    """Counts words and signs, about the encoder's tokens; the same passages with any encoder."""
    from ftkit.data.index.passages import count_words

    return count_words


def pages(root: Path) -> list[Path]:
    return [path for folder in PAGES for path in sorted((root / folder).rglob("*.html"))]


def page(path: Path, name: str):
    """A page as a document, with a mark where an index entry leads to."""
    from ftkit.data.index.document import Draft
    from ftkit.data.index.html_text import add_page

    draft = Draft(name)
    add_page(draft, ANCHOR.sub(rf"\1{MARK}\2{MARK}", path.read_text(encoding="utf-8")))
    return draft.document()


def heading_questions(headings: dict[str, set[str]]) -> list[tuple[str, set[str]]]:
    """Headings of two words and more that occur once, each with the passages below it; without their numbers."""
    names = {
        heading: re.sub(r"^\d+(\.\d+)*\.\s+", "", MARKS.sub("", heading).rpartition(" > ")[2]) for heading in headings
    }
    times = Counter(name.lower() for name in names.values())
    found = [(name, headings[key]) for key, name in names.items() if times[name.lower()] == 1 and " " in name]
    return drawn(found)


def entry_questions(root: Path, places: dict) -> list[tuple[str, set[str]]]:
    """Entries of two words and more that lead to a place in the text, each with those passages."""
    parser, found = IndexParser(), defaultdict(set)
    parser.feed((root / "genindex-all.html").read_text(encoding="utf-8"))
    for text, source, anchor in parser.found:
        place = places.get((source, anchor))
        if place and " " in text and "Python Enhancement" not in text:
            found[text].add(place)
    return drawn(sorted(found.items()))


class IndexParser(HTMLParser):
    """Reads the pages of an index. found: (entry with those above it, page, anchor) of each link."""

    def __init__(self):
        super().__init__()
        self.found, self.words, self.depth, self.target = [], {}, 0, None

    def handle_starttag(self, tag, attrs):
        if tag == "ul":
            self.depth += 1
        elif tag == "li":
            self.words[self.depth] = []
        elif tag == "a":
            self.target = (dict(attrs).get("href") or "").split("#")

    def handle_data(self, data):
        if self.depth in self.words and not re.fullmatch(r"\[\d+\]|,", data.strip()):
            self.words[self.depth].append(data)

    def handle_endtag(self, tag):
        if tag == "ul":
            self.words.pop(self.depth, None)
            self.depth -= 1
        elif tag == "a" and self.target and len(self.target) == 2:
            entry = " ".join(" ".join("".join(self.words[depth]).split()) for depth in sorted(self.words))
            self.found.append((entry.strip(), *self.target))


def drawn(questions: list) -> list:
    return random.Random(measuring.SEED).sample(questions, min(NUM_QUESTIONS, len(questions)))


# The Bible


def bible_task(debs: Path) -> tuple[list, dict]:
    from ftkit.data.index.passages import Passage

    verses = dict(verse_lines(debs))
    quoted = [(pair[0], set(pair[1:])) for pair in (one.split() for one in QUOTATIONS.replace("\n", "").split("|"))]
    quoted = [(quote, sources) for quote, sources in quoted if {book_of(name) for name in sources} <= set(BOOKS)]
    missing = {name for quote, sources in quoted for name in (quote, *sources)} - verses.keys()
    assert not missing, missing
    passages = [
        Passage(name, text, name, name, "", 0, len(text)) for name, text in verses.items() if book_of(name) in BOOKS
    ]
    return passages, {"quotations": [(verses[quote], sources) for quote, sources in quoted]}


def verse_lines(debs: Path) -> Iterator[tuple[str, str]]:
    """(name, text) of each verse, as the package's own program prints them."""
    command = [debs / "usr/bin/bible", "-f", "-p", debs / "usr/lib", "Ge1:1-Rev22:21"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL)
    for line in done.stdout.split("\n"):
        name, _, text = line.partition(" ")
        if text:
            yield name, text


def book_of(name: str) -> str:
    return re.sub(r"\d+:\d+$", "", name)


# Measured


def measure(name: str, passages: list, questions: dict, args) -> str:
    """The scores of each method, and the differences that matter."""
    from ftkit.inference.retrieval.index import Index

    started, folder = time.perf_counter(), args.work / re.sub(r"\W+", "-", name.lower())
    index = Index.build(folder, passages, args.encoder)
    seconds = time.perf_counter() - started
    measuring.say(f"{name}: {len(passages):,} passages, {seconds:.0f} s")
    lines, notes = [], []
    for kind, asked in questions.items():
        found = {method: scored(index, asked, method) for method in METHODS}
        for method in METHODS:
            lines.append([f"{kind} ({len(asked)})", method, *(interval(found[method][metric]) for metric in METRICS)])
        best = max(METHODS[:2], key=lambda method: np.mean(found[method]["ndcg_at_10"]))
        notes.append(f"{kind}: hybrid - {best} {difference(found[best]['ndcg_at_10'], found['hybrid']['ndcg_at_10'])}")
        neither = np.mean(
            [not (a or b) for a, b in zip(*(found[way]["recall_at_10"] for way in METHODS[:2]), strict=True)]
        )
        notes[-1] += f", and in {100 * neither:.0f} % neither words nor meaning find one among ten"
    sizes = sum(len(one.text) for one in passages)
    head = f"### {name}\n\n{len(passages):,} passages, {sizes / 1e6:.1f} M letters."
    head += " Means with 95 % intervals over questions."
    table = measuring.table(["questions", "method", "recall@1", "recall@10", "MRR@10", "nDCG@10"], lines)
    return f"{head}\n\n{table}\n\nnDCG@10, {'; '.join(notes)}."


def scored(index, asked: list, method: str) -> dict[str, list[float]]:
    from ftkit.evaluation.bench.retrieval import score

    found = {metric: [] for metric in METRICS}
    for question, relevant in asked:
        ids = [one.passage.id for one in index.search(question, DEPTH, method)]
        for metric in METRICS:
            found[metric].append(score(metric, ids, relevant))
    return found


def interval(values: list[float]) -> str:
    from ftkit.metrics.intervals import bootstrap_interval

    low, high = bootstrap_interval(values)
    return f"{np.mean(values):.3f} ({low:.3f} to {high:.3f})"


def difference(before: list[float], after: list[float]) -> str:
    from ftkit.metrics.paired_tests import mean_difference

    found = mean_difference(before, after)
    return f"{found.difference:+.3f} ({found.low:+.3f} to {found.high:+.3f})"


# A hundred thousand


def in_child(number: int, args) -> str:
    command = [sys.executable, __file__, "--debs", args.debs, "--work", args.work, "--child", str(number)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"HF_HUB_OFFLINE": "1"})
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    return done.stdout.strip().split("\n")[-1]


def large_table(lines: list[str]) -> str:
    header = ["passages", "read and indexed, s", "peak while indexing, MiB", "file, MB", "a search by words, ms",
              "by meaning, ms", "both, ms", "peak while searching, MiB"]  # fmt: skip
    head = (
        "### 10^5 passages\n\nPython's whole documentation and the Bible in passages of at most "
        f"{LARGE_TOKENS} words and signs, with {SIZE} numbers each from a stand-in for the encoder, which takes far longer. "
        "Peaks are what a fresh process adds; searches are the median of 100 headings and entries (5th to 95th percentile)."
    )
    return f"{head}\n\n{measuring.table(header, [line.split(' | ') for line in lines])}"


class StandIn:
    """Random vectors of length 1, the same for the same text."""

    fingerprint, max_tokens = "stand-in", 512

    def question(self, text: str) -> np.ndarray:
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")
        found = np.random.default_rng(seed).standard_normal(SIZE, dtype=np.float32)
        return found / np.linalg.norm(found)

    def passages(self, texts) -> np.ndarray:
        return np.stack([self.question(text) for text in texts])


def many(debs: Path, number: int) -> Iterator:
    """The first so many small passages of both, file by file."""
    from ftkit.data.index.passages import Passage, split

    root, seen = debs / "usr/share/doc/python3.11/html", 0
    chapters = defaultdict(list)
    for name, text in verse_lines(debs):
        chapters[name.partition(":")[0]].append(Passage(name, text, name.partition(":")[0], "", "", 0, len(text)))
    groups = (split(page(path, path.relative_to(root).as_posix()), counter(), LARGE_TOKENS) for path in sorted(root.rglob("*.html")) if not path.name.startswith("genindex"))  # fmt: skip
    for group in (*chapters.values(),) if number < LARGE else (*chapters.values(), *groups):
        for one in group:
            if seen == number:
                return
            seen += 1
            yield one
    assert seen == number, f"only {seen:,} passages"


def large(args) -> None:
    """Index and search, and print what it took."""
    from ftkit.inference.retrieval import encoding
    from ftkit.inference.retrieval.index import Index

    encoding.Encoder.load = classmethod(lambda cls, name: StandIn())
    folder = args.work / f"large-{args.child}"
    shutil.rmtree(folder, ignore_errors=True)
    list(many(args.debs, 10))
    before, started = measuring.reset_peak(), time.perf_counter()
    Index.build(folder, many(args.debs, args.child), "stand-in").close()
    seconds = time.perf_counter() - started
    peak = measuring.resident_mib("VmHWM") - before
    asked = [question for kind in python_task(args.debs)[1].values() for question, _ in kind][:100]
    index, before = Index.open(folder), measuring.reset_peak()
    spans = []
    for method in METHODS:
        own = []
        for question in asked:
            started = time.perf_counter()
            index.search(question, DEPTH, method)
            own.append(1000 * (time.perf_counter() - started))
        low, middle, high = np.percentile(own, [5, 50, 95])
        spans.append(f"{middle:.0f} ({low:.0f} to {high:.0f})")
    searching = measuring.resident_mib("VmHWM") - before
    size = (folder / "index.sqlite").stat().st_size / 1e6
    found = [
        f"{args.child:,}",
        f"{seconds:.0f}",
        f"{peak:.0f}",
        f"{size:.0f}",
        *spans,
        f"{searching:.0f}",
    ]
    print(" | ".join(found))


TITLES = {"python": "Python's documentation", "bible": "Quotations in the Bible"}
TASKS = {"python": python_task, "bible": bible_task}
PARTS = (*TASKS, f"large-{LARGE // 10}", f"large-{LARGE}")

if __name__ == "__main__":
    main()
