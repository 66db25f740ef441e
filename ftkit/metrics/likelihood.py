"""What log-likelihoods say: perplexity, bits per byte, and which of several choices a model finds likeliest.

BitsPerByte().compute(log_likelihoods=[-70.0], num_bytes=[100])
"""

import math
from collections.abc import Sequence

import datasets
import evaluate

from ftkit.config.errors import UserError
from ftkit.metrics.definition import check_items, metric_info
from ftkit.metrics.text_match import mean

NUMBER, COUNT = datasets.Value("float64"), datasets.Value("int64")
MAX_NATS = 700.0  # a token, from where exp is soon more than a float holds
LIST = datasets.Sequence(NUMBER)


class Perplexity(evaluate.Measurement):
    """exp of the mean negative log-likelihood (nats, 700 at most) a token, over all tokens of all texts."""

    def _info(self):
        features = {"log_likelihoods": NUMBER, "num_tokens": COUNT}
        return metric_info(evaluate.MeasurementInfo, "Perplexity per token, of all texts together.", features)

    def _compute(self, log_likelihoods, num_tokens, num_bytes=None):
        """num_bytes: not used; `evaluate.combine` hands each metric what the other needs."""
        return {"perplexity": math.exp(min(-ratio(log_likelihoods, num_tokens), MAX_NATS))}


class BitsPerByte(evaluate.Measurement):
    """Bits that the model needs for a UTF-8 byte of the texts, whatever its tokens are."""

    def _info(self):
        features = {"log_likelihoods": NUMBER, "num_bytes": COUNT}
        return metric_info(evaluate.MeasurementInfo, "Bits per UTF-8 byte, of all texts together.", features)

    def _compute(self, log_likelihoods, num_bytes, num_tokens=None):
        """num_tokens: not used; see `Perplexity`."""
        return {"bits_per_byte": -ratio(log_likelihoods, num_bytes) / math.log(2)}


class MultipleChoice(evaluate.Metric):
    """Share of items whose likeliest choice is the right one: acc by the sum over its tokens, acc_norm by the sum
    divided by its length in characters. log_likelihoods, num_characters: one a choice. references: places, from 0."""

    def _info(self):
        features = {"log_likelihoods": LIST, "num_characters": LIST, "references": COUNT}
        return metric_info(evaluate.MetricInfo, "acc and acc_norm of multiple choice, as lm-eval has them.", features)

    def _compute(self, log_likelihoods, num_characters, references):
        check_items(log_likelihoods, num_characters, references)
        for place, (row, answer) in enumerate(zip(log_likelihoods, references, strict=True)):
            if not 0 <= answer < len(row):
                raise ValueError(f"item {place}: reference {answer} of {len(row)} choices; count them from 0")
        rows = list(zip(log_likelihoods, num_characters, strict=True))
        return {
            "acc": mean(likeliest(sums) == answer for sums, answer in zip(log_likelihoods, references, strict=True)),
            "acc_norm": mean(likeliest(*row) == answer for row, answer in zip(rows, references, strict=True)),
        }


def ratio(log_likelihoods: Sequence[float], units: Sequence[int]) -> float:
    """Log-likelihood per unit. Raises ValueError for no items, no units at all, and what is no number."""
    check_items(log_likelihoods, units)
    check_numbers(log_likelihoods)
    if sum(units) <= 0:
        raise ValueError("the texts are empty; give some that are not")
    return math.fsum(log_likelihoods) / sum(units)


def check_numbers(log_likelihoods: Sequence[float]) -> None:
    """Raise UserError for NaN, which no comparison sets apart from the likeliest."""
    if any(map(math.isnan, log_likelihoods)):
        raise UserError(
            f"log-likelihoods {list(log_likelihoods)[:8]} hold NaN; the weights or the precision are broken"
        )


def likeliest(log_likelihoods: Sequence[float], num_characters: Sequence[float] | None = None) -> int:
    """Place of the likeliest choice, the first of equals; by log-likelihood per character where lengths are given.

    Raises ValueError for no choices, an empty one, and NaN.
    """
    if not len(log_likelihoods):
        raise ValueError("an item without choices; give at least two")
    check_numbers(log_likelihoods)
    lengths = num_characters if num_characters is not None else [1] * len(log_likelihoods)
    if min(lengths) <= 0:
        raise ValueError("a choice is empty; it has no log-likelihood per character")
    values = [value / length for value, length in zip(log_likelihoods, lengths, strict=True)]
    return values.index(max(values))
