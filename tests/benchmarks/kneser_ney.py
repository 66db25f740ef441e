"""A modified Kneser-Ney n-gram model over token ids in numpy: the yardstick of language models before networks.

Chen and Goodman 1999 ("An empirical study of smoothing techniques", section 3), interpolated, three discounts an order.
"""

from dataclasses import dataclass

import numpy as np

# N n-grams or places


@dataclass
class Order:
    """One order: keys of its n-grams, sorted, with counts; sums and interpolation weights of their contexts."""

    keys: np.ndarray
    counts: np.ndarray
    contexts: np.ndarray
    totals: np.ndarray
    backoffs: np.ndarray
    discounts: np.ndarray


class KneserNey:
    """P(token | up to order - 1 tokens before it) from documents of token ids.

    Contexts stay within a document; its first token is never predicted. discounts: three, for counts of 1, 2 and more,
    used at every order; by default each order has its own, estimated from how many n-grams came once to four times.
    textbook: leave out what a real text needs: a uniform part for tokens never seen, and n-grams that begin documents.
    """

    def __init__(self, documents: list[np.ndarray], vocab_size: int, order: int = 5, discounts=None, textbook=False):
        assert vocab_size**order < 2**63, "an n-gram must fit into 63 bits"
        self.vocab_size, self.order, self.uniform = vocab_size, order, not textbook
        full = [self.keys_of(documents, size, first=1) for size in range(1, order + 1)]
        self.orders = []
        for size in range(1, order + 1):
            if size == order:
                keys, counts = np.unique(full[size - 1], return_counts=True)
            else:  # in how many contexts an n-gram continues; those that begin a document have none and keep their count
                longer = np.unique(self.keys_of(documents, size + 1, first=1))
                begins = [] if textbook else [self.keys_of(documents, size, first=1, only_beginning=True)]
                keys, counts = np.unique(np.concatenate([longer % vocab_size**size, *begins]), return_counts=True)
            self.orders.append(self.make_order(keys, counts, discounts))

    def keys_of(self, documents, size: int, first: int, only_beginning: bool = False) -> np.ndarray:
        """One integer for each n-gram that ends at place `first` or later; or only those that begin a document."""
        found = []
        for ids in documents:
            ids = ids.astype(np.int64)
            if len(ids) < max(size, first + 1):
                continue
            if only_beginning:
                if size > first:
                    found.append([int(np.polyval(ids[:size].tolist(), self.vocab_size))])
                continue
            start = max(0, first + 1 - size)
            keys = np.zeros(len(ids) - size + 1 - start, dtype=np.int64)
            for offset in range(size):
                keys = keys * self.vocab_size + ids[start + offset : len(ids) - size + 1 + offset]
            found.append(keys)
        return np.concatenate(found).astype(np.int64) if found else np.empty(0, dtype=np.int64)

    def make_order(self, keys: np.ndarray, counts: np.ndarray, discounts) -> Order:
        """Counts with their contexts' sums and the weight that the shorter context gets."""
        if discounts is None:
            ones, twos, threes, fours = (max(1, int((counts == number).sum())) for number in (1, 2, 3, 4))
            share = ones / (ones + 2 * twos)
            discounts = (1 - 2 * share * twos / ones, 2 - 3 * share * threes / twos, 3 - 4 * share * fours / threes)
        discounts = np.clip(np.asarray(discounts, dtype=np.float64), 0, [1, 2, 3])
        contexts, place = np.unique(keys // self.vocab_size, return_inverse=True)
        totals = np.bincount(place, counts)
        freed = np.bincount(place, discounts[np.minimum(counts, 3) - 1])
        return Order(keys, counts, contexts, totals, freed / totals, discounts)

    def log_probs(self, document: np.ndarray) -> np.ndarray:
        """Natural log-probability of each token of a document but the first: (len(document) - 1,)."""
        ids = document.astype(np.int64)
        probability = np.full(len(ids) - 1, 1.0 / self.vocab_size if self.uniform else 0.0)
        for size, order in enumerate(self.orders, start=1):
            places = np.arange(max(1, size - 1), len(ids))  # tokens that have this much in front of them
            keys = np.zeros(len(places), dtype=np.int64)
            for offset in range(size - 1, -1, -1):
                keys = keys * self.vocab_size + ids[places - offset]
            count = look_up(order.keys, order.counts, keys, 0)
            total = look_up(order.contexts, order.totals, keys // self.vocab_size, 0.0)
            weight = look_up(order.contexts, order.backoffs, keys // self.vocab_size, 1.0)
            discount = np.where(count > 0, order.discounts[np.clip(count, 1, 3) - 1], 0.0)
            own = np.divide(count - discount, total, out=np.zeros(len(places)), where=total > 0)
            lower = probability[places - 1]
            weight = weight if size > 1 or self.uniform else 0.0
            own = own if size > 1 or self.uniform else np.divide(count, total, out=own, where=total > 0)
            probability[places - 1] = own + weight * lower
        return np.log(probability)


def look_up(keys: np.ndarray, values: np.ndarray, wanted: np.ndarray, default):
    """The value of each wanted key; `default` where there is none."""
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, values[place], default)
