"""What log-likelihoods say: perplexity, bits per byte, and which of several choices a model finds likeliest.

BitsPerByte().compute(log_likelihoods=[-70.0], num_bytes=[100])
"""

import math
from collections.abc import Sequence

import datasets
import evaluate

from ftkit.evaluation.metrics.definition import check_items, metric_info
from ftkit.evaluation.metrics.text_match import mean

NUMBER, COUNT = datasets.Value("float64"), datasets.Value("int64")
LIST = datasets.Sequence(NUMBER)


class Perplexity(evaluate.Measurement):
    """exp of the mean negative log-likelihood (nats) a token, over all tokens of all texts."""

    def _info(self):
        features = {"log_likelihoods": NUMBER, "num_tokens": COUNT}
        return metric_info(evaluate.MeasurementInfo, "Perplexity a token, of all texts together.", features)

    def _compute(self, log_likelihoods, num_tokens):
        return {"perplexity": math.exp(-ratio(log_likelihoods, num_tokens))}


class BitsPerByte(evaluate.Measurement):
    """Bits that the model needs for a UTF-8 byte of the texts, whatever its tokens are."""

    def _info(self):
        features = {"log_likelihoods": NUMBER, "num_bytes": COUNT}
        return metric_info(evaluate.MeasurementInfo, "Bits a UTF-8 byte, of all texts together.", features)

    def _compute(self, log_likelihoods, num_bytes):
        return {"bits_per_byte": -ratio(log_likelihoods, num_bytes) / math.log(2)}


class MultipleChoice(evaluate.Metric):
    """Share of items whose likeliest choice is the right one: acc by the sum over its tokens, acc_norm by the sum
    divided by its length in characters. log_likelihoods, num_characters: one a choice. references: places, from 0."""

    def _info(self):
        features = {"log_likelihoods": LIST, "num_characters": LIST, "references": COUNT}
        return metric_info(evaluate.MetricInfo, "acc and acc_norm of multiple choice, as lm-eval has them.", features)

    def _compute(self, log_likelihoods, num_characters, references):
        check_items(log_likelihoods, num_characters, references)
        rows = list(zip(log_likelihoods, num_characters, strict=True))
        return {
            "acc": mean(likeliest(sums) == answer for sums, answer in zip(log_likelihoods, references, strict=True)),
            "acc_norm": mean(likeliest(*row) == answer for row, answer in zip(rows, references, strict=True)),
        }


def ratio(log_likelihoods: Sequence[float], units: Sequence[int]) -> float:
    """Log-likelihood a unit. Raises ValueError for no items, and for no units at all."""
    check_items(log_likelihoods, units)
    if sum(units) <= 0:
        raise ValueError("the texts are empty; give some that are not")
    return math.fsum(log_likelihoods) / sum(units)


def likeliest(log_likelihoods: Sequence[float], num_characters: Sequence[float] | None = None) -> int:
    """Place of the likeliest choice, the first of equals; by log-likelihood a character where lengths are given."""
    lengths = num_characters if num_characters is not None else [1] * len(log_likelihoods)
    if min(lengths) <= 0:
        raise ValueError("a choice is empty; it has no log-likelihood a character")
    values = [value / length for value, length in zip(log_likelihoods, lengths, strict=True)]
    return values.index(max(values))
