"""Reads the unpacked packages into documents: one speech, chapter, dictionary page or help page each."""

import json
import re
import sqlite3
import struct
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "instructions"))
from wordnet import Wordnet  # noqa: E402  (the reader of the neighbouring dataset)

SYNSETS_PER_PAGE = 12
PART_NAMES = {"n": "noun", "v": "verb", "a": "adjective", "r": "adverb"}
PYTHON_FOLDERS = ("tutorial", "faq", "howto")
R_STRING = b"\x00\x04\x00\x09"  # how R's serialisation marks a character string that is UTF-8 or ASCII
FIRST_SPEECH_YEAR = 1900  # earlier ones would be a third of the corpus, in an English of their own


def speeches(folder: Path) -> Iterator[str]:
    """State of the Union addresses."""
    for path in sorted(folder.glob("package/data/*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["year"] >= FIRST_SPEECH_YEAR:
            yield f"{record['name']}, {record['year']}\n\n{record['text'].strip()}"


def moby_dick(folder: Path) -> Iterator[str]:
    """Chapters of Moby Dick."""
    for path in sorted(folder.glob("package/data/chapter_*.txt")):
        yield path.read_text(encoding="utf-8").strip()


def novels(folder: Path) -> Iterator[str]:
    """Chapters of Jane Austen's novels, whose lines are joined to paragraphs."""
    data = next(folder.rglob("data/Rdata.rdb")).read_bytes()
    while data:
        stream = zlib.decompressobj()
        lines = list(r_strings(stream.decompress(data[4:])))  # four bytes of length stand in front
        data = stream.unused_data
        text = "\n".join(lines)
        for chapter in re.split(r"\n(?=(?:CHAPTER|Chapter) [\dIVXLC]+\b|VOLUME [IVX]+\b)", text):
            yield "\n\n".join(" ".join(part.split()) for part in re.split(r"\n\s*\n", chapter)).strip()


def r_strings(data: bytes) -> Iterator[str]:
    """The character strings of a serialised R vector, in order."""
    position = data.find(R_STRING)
    while position >= 0:
        (length,) = struct.unpack(">I", data[position + 4 : position + 8])
        yield data[position + 8 : position + 8 + length].decode("utf-8")
        position = data.find(R_STRING, position + 8 + length)


def king_james(folder: Path) -> Iterator[str]:
    """Chapters of the King James Bible, without verse numbers."""
    database = sqlite3.connect(next(folder.rglob("Bible.db")))
    names = dict(database.execute("SELECT TestamentID * 100 + BookID, ShortName FROM Books"))
    chapters = {}
    query = (
        "SELECT TestamentID * 100 + BookID, ChapterID, Passage1, Passage2 FROM Bible "
        "ORDER BY TestamentID, BookID, ChapterID, VerseID"
    )
    for book, chapter, *passages in database.execute(query):
        verse = " ".join(re.sub(r"(?<!\d)\d+:\d+ ", "", passage or "").strip() for passage in passages).strip()
        chapters.setdefault((book, chapter), []).append(verse)
    for (book, chapter), verses in chapters.items():
        yield f"{names[book]} {chapter}\n\n" + " ".join(filter(None, verses))


def dictionary(folder: Path, held_out: set[str]) -> Iterator[str]:
    """Pages of WordNet: words, what they mean, example sentences. Synsets with a held-out word are left out."""
    wordnet = Wordnet(folder / "package/dict")
    entries = []
    for (part, _), synset in wordnet.synsets.items():
        words = [lemma.replace("_", " ") for lemma in synset.lemmas]
        if held_out.isdisjoint(word.lower() for word in words) and (synset.examples or is_plain(words[0])):
            entry = f"{', '.join(words[:4])} ({PART_NAMES[part]}): {synset.definition}."
            entries.append(entry + "".join(f' "{example}"' for example in synset.examples))
    for start in range(0, len(entries), SYNSETS_PER_PAGE):
        yield "\n".join(entries[start : start + SYNSETS_PER_PAGE])


def is_plain(word: str) -> bool:
    """Whether a headword is one lower-case word: names and Latin terms would fill half of the pages."""
    return re.fullmatch("[a-z]+", word) is not None


def python_help(folder: Path) -> Iterator[str]:
    """Pages of Python's documentation; reStructuredText's roles and directives are reduced to their text."""
    for name in PYTHON_FOLDERS:
        for path in sorted(folder.rglob(f"_sources/{name}/*.rst.txt")):
            text = path.read_text(encoding="utf-8")
            text = re.sub(r":[\w:+-]+:`[!~.]*([^`<]*?)(?:\s*<[^`>]*>)?`", r"\1", text)
            text = re.sub(r"^\s*\.\. [\w|-].*\n(?:\s+:[\w-]+:.*\n)*|^\.\. _.*\n", "", text, flags=re.MULTILINE)
            yield re.sub(r"\n{3,}", "\n\n", text.replace("``", "`")).strip()
