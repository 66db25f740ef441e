"""What an index asks of the place where its passages lie: a file of SQLite, or a PostgreSQL server.

Passages have numbers, which only grow; those of one file are replaced together, in one transaction.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from ftkit.data.index.passages import Passage
from ftkit.inference.retrieval.ranking import Scored

BATCH = 256  # passages that are embedded and written at once

Embed = Callable[[Sequence[Passage]], np.ndarray]  # (passages, D) float32 of length 1


class Store(ABC):
    """Passages by file, with their words and, where there is an encoder, their vectors."""

    @abstractmethod
    def digests(self) -> dict[str, str]:
        """The digest of each file that is held, by its name."""

    @abstractmethod
    def replace(self, name: str, digest: str, passages: Iterable[Passage], embed: Embed | None) -> int:
        """Hold the passages of a file in place of what was held of it; return how many. All of them or none."""

    @abstractmethod
    def remove(self, names: Iterable[str]) -> None:
        """Hold nothing of some files any longer."""

    @abstractmethod
    def clear(self) -> None:
        """Hold nothing."""

    @abstractmethod
    def by_words(self, question: str, top_k: int) -> list[Scored]:
        """The passages that hold words of a question, the best first."""

    @abstractmethod
    def by_vector(self, vector: np.ndarray, top_k: int) -> list[Scored]:
        """The passages nearest to a vector of length 1, by cosine, the nearest first."""

    @abstractmethod
    def get(self, numbers: Sequence[int]) -> list[Passage]:
        """Passages by number, in this order."""

    @abstractmethod
    def passages(self) -> Iterator[Passage]:
        """All passages, in the order in which they were added."""

    @abstractmethod
    def count(self) -> int:
        """How many passages are held."""

    @abstractmethod
    def close(self) -> None:
        """End the use of it."""
