"""Reads the WordNet database files (data.*, index.sense) into plain dictionaries; their format is in wndb(5WN)."""

from pathlib import Path
from typing import NamedTuple

PARTS_OF_SPEECH = {"n": "noun", "v": "verb", "a": "adjective", "r": "adverb"}
SENSE_TYPES = {"1": "n", "2": "v", "3": "a", "4": "r", "5": "a"}  # 5 is an adjective satellite


class Synset(NamedTuple):
    lemmas: list[str]  # as written, "_" for a space
    pointers: list[tuple[str, str, str, int, int]]  # symbol, part of speech, offset, source word, target word (1-based)
    gloss: str
    lexical_file: int

    @property
    def definition(self) -> str:
        return self.gloss.split('; "')[0].split("; ")[0].strip()

    @property
    def examples(self) -> list[str]:
        return self.gloss.split('"')[1::2]


class Wordnet:
    """synsets: (part of speech, offset) -> Synset. first_sense: (word, part of speech) -> (offset, tag count).

    A tag count says how often people marked this sense in running text: a measure of how common it is.
    """

    def __init__(self, folder: Path):
        self.synsets = {}
        for letter, name in zip("nvar", ("noun", "verb", "adj", "adv"), strict=True):
            for line in (folder / f"data.{name}").read_text(encoding="utf-8").splitlines():
                if not line.startswith(" "):  # the licence
                    offset, synset = self._parse(line)
                    self.synsets[letter, offset] = synset
        self.first_sense, self.parts_of_speech, self.total_tags = {}, {}, {}
        for line in (folder / "index.sense").read_text(encoding="utf-8").splitlines():
            key, offset, number, tags = line.split()
            word, _, rest = key.partition("%")
            letter = SENSE_TYPES[rest[0]]
            self.parts_of_speech.setdefault(word, set()).add(letter)
            self.total_tags[word, letter] = self.total_tags.get((word, letter), 0) + int(tags)
            if number == "1":
                self.first_sense[word, letter] = (offset, int(tags))

    @staticmethod
    def _parse(line: str) -> tuple[str, Synset]:
        data, _, gloss = line.partition(" | ")
        fields = data.split()
        num_words = int(fields[3], 16)
        lemmas = [word.partition("(")[0] for word in fields[4 : 4 + 2 * num_words : 2]]
        start = 5 + 2 * num_words
        pointers = []
        for i in range(start, start + 4 * int(fields[start - 1]), 4):
            symbol, offset, letter, words = fields[i : i + 4]
            pointers.append((symbol, "a" if letter == "s" else letter, offset, int(words[:2], 16), int(words[2:], 16)))
        return fields[0], Synset(lemmas, pointers, gloss.strip(), int(fields[1]))

    def sense(self, word: str, letter: str) -> Synset:
        return self.synsets[letter, self.first_sense[word, letter][0]]

    def lexical_targets(self, word: str, letter: str, symbol: str) -> list[str]:
        """Words that the first sense of `word` points at by itself, not through its synset, as the file has them."""
        synset = self.sense(word, letter)
        position = [lemma.lower() for lemma in synset.lemmas].index(word) + 1
        return [
            self.synsets[target_letter, offset].lemmas[target - 1]
            for found, target_letter, offset, source, target in synset.pointers
            if found == symbol and source == position
        ]

    def nearest_class(self, word: str, classes: dict[str, str]) -> str | None:
        """Answer of the nearest noun class above the first sense of `word`, breadth first; None if there is none."""
        wanted = {self.first_sense[name, "n"][0]: answer for name, answer in classes.items()}
        level, seen = [self.first_sense[word, "n"][0]], set()
        while level:
            above = []
            for offset in level:
                for symbol, _, parent, _, _ in self.synsets["n", offset].pointers:
                    if symbol in ("@", "@i") and parent not in seen:
                        seen.add(parent)
                        above.append(parent)
            found = [wanted[offset] for offset in above if offset in wanted]
            if found:
                return found[0]
            level = above
        return None
