"""Every sense of a word in WordNet, to tell whether two words might mean the same in any of them."""

from functools import cache
from pathlib import Path

from wordnet import SENSE_TYPES, Wordnet

NEAR = {
    "n": ("@", "@i"),
    "v": ("@", "$", "*"),
    "a": ("&",),
    "r": (),
}  # pointers to neighbours: kinds, causes, likenesses


class Senses(Wordnet):
    """all_senses: (word, part of speech) -> offsets of its synsets, the most common first."""

    def __init__(self, folder: Path):
        super().__init__(folder)
        self.all_senses = {}
        for line in (folder / "index.sense").read_text(encoding="utf-8").splitlines():
            key, offset, number, _ = line.split()
            word, _, rest = key.partition("%")
            self.all_senses.setdefault((word, SENSE_TYPES[rest[0]]), []).append((int(number), offset))
        self.all_senses = {key: [offset for _, offset in sorted(found)] for key, found in self.all_senses.items()}
        self.ancestors = cache(self.ancestors)
        self.neighbours = cache(self.neighbours)

    def neighbours(self, word: str, letter: str) -> frozenset[str]:
        """Synsets of the word and those right above or beside them."""
        own = self.all_senses.get((word, letter), [])
        beside = [
            target
            for offset in own
            for symbol, target_letter, target, _, _ in self.synsets[letter, offset].pointers
            if symbol in NEAR[letter] and target_letter == letter
        ]
        return frozenset([*own, *beside])

    def ancestors(self, word: str, letter: str = "n") -> frozenset[str]:
        """All synsets that the word's senses are kinds of, and the senses themselves."""
        found, level = set(), list(self.all_senses.get((word, letter), []))
        while level:
            found.update(level)
            level = [
                target
                for offset in level
                for symbol, _, target, _, _ in self.synsets[letter, offset].pointers
                if symbol in ("@", "@i") and target not in found
            ]
        return frozenset(found)

    def are_near(self, one: str, other: str, letter: str) -> bool:
        """Whether in any sense they are synonyms, a thing and its kind, kinds of one thing, or explain each other."""
        if one == other or self.neighbours(one, letter) & self.neighbours(other, letter):
            return True
        if letter in "nv":
            senses = {word: set(self.all_senses.get((word, letter), [])) for word in (one, other)}
            if senses[one] & self.ancestors(other, letter) or senses[other] & self.ancestors(one, letter):
                return True
        return self.explains(one, other, letter) or self.explains(other, one, letter)

    def explains(self, one: str, other: str, letter: str) -> bool:
        """Whether a definition or example of `other` holds the beginning of `one`."""
        stem = one[: max(4, len(one) - 3)]
        return any(stem in self.synsets[letter, offset].gloss for offset in self.all_senses.get((other, letter), []))
