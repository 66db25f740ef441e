"""Parts shared by the task families of the bundled instructions: a family, a phrasing, and drawing without chance."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

QUICK_ROWS, OTHER_ROWS = (200, 25), (100, 20)  # train and test rows of a family


def rank(*parts) -> int:
    """A number that depends on the parts only: orders and draws without a random generator, the same on any Python."""
    return int.from_bytes(hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()[:8], "big")


def ranked(items, *salt) -> list:
    return sorted(items, key=lambda item: rank(*salt, item))


@dataclass
class Family:
    """rows(keep) yields the rows whose words all satisfy keep(word); pairs are words that must fall in one split."""

    rows: Callable[[Callable[[str], bool]], Iterator[dict]]
    pairs: list[tuple[str, str]] = field(default_factory=list)
    num_train: int = OTHER_ROWS[0]
    num_test: int = OTHER_ROWS[1]


def phrase(phrasings: list[str], *content, **fields) -> str:
    return phrasings[rank("phrase", *content) % len(phrasings)].format(**fields)


def word_pairs(name: str, pairs: list[tuple[str, str]], phrasings: list[str], in_input=False) -> Family:
    """A family that asks for the second word of a pair, given the first; `pairs` come in order of preference."""

    def rows(keep):
        for word, answer in pairs:
            if keep(word):
                instruction = phrase(phrasings, name, word, word=word)
                yield {"instruction": instruction, "input": word if in_input else "", "output": answer}

    return Family(rows, pairs)


def alternate(*lists: list) -> list:
    """The lists' items taken in turn, until all are used."""
    return [items[i] for i in range(max(map(len, lists))) for items in lists if i < len(items)]
