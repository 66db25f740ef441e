"""What every metric says about itself, and the input that none of them accepts."""

from collections.abc import Sequence

import datasets
import evaluate

from ftkit.config.errors import did_you_mean

TEXTS = {"predictions": datasets.Value("string"), "references": datasets.Value("string")}
SETTINGS = {  # that metrics of texts take, by class
    "ExactMatch": ("ignore_case", "ignore_punctuation"),
    "Bleu": (
        "lowercase", "force", "tokenize", "smooth_method", "smooth_value", "max_ngram_order", "effective_order",
        "trg_lang",
    ),
    "ChrF": ("char_order", "word_order", "beta", "lowercase", "whitespace", "eps_smoothing"),
    "Rouge": ("use_stemmer",),
    "EmbeddingSimilarity": ("encoder",),
    "Retrieval": ("k",),
}  # fmt: skip


def metric_info(kind: type, description: str, features: dict | list[dict]):
    """The MetricInfo or MeasurementInfo of a metric. features: of one item, or the alternatives of it."""
    alternatives = [datasets.Features(one) for one in (features if isinstance(features, list) else [features])]
    usage = "compute(" + ", ".join(f"{name}=[...]" for name in alternatives[0]) + ")"
    return kind(
        description=description,
        citation="",
        inputs_description=usage,
        features=alternatives[0] if len(alternatives) == 1 else alternatives,
    )


class Lists:
    """Mixed into a metric: refuses a text where a list belongs, which would be scored letter by letter."""

    def add_batch(self, *, predictions=None, references=None, **columns):
        """Take a batch of items; see `evaluate.Metric.add_batch`."""
        for name, column in {"predictions": predictions, "references": references, **columns}.items():
            if isinstance(column, str):
                raise ValueError(f"{name} is one text, {column[:40]!r}; give a list, with one per item")
        super().add_batch(predictions=predictions, references=references, **columns)


class TextMetric(Lists, evaluate.Metric):
    """A metric that compares a predicted text with a reference text. `score` takes lists of both and own settings.

    Settings of another metric of texts are passed over, so that `evaluate.combine` can hand them to each.
    """

    about = ""
    columns = TEXTS

    def _info(self):
        return metric_info(evaluate.MetricInfo, self.about, self.columns)

    def _compute(self, predictions, references, **settings):
        check_items(predictions, references)
        known = {name for names in SETTINGS.values() for name in names}
        for name in settings:
            if name not in known:
                hint = did_you_mean(name, known) or f"; metrics of texts take {', '.join(sorted(known))}"
                raise ValueError(f'unknown setting "{name}"{hint}')
        own = SETTINGS.get(type(self).__name__, ())
        return self.score(predictions, references, **{name: settings[name] for name in own if name in settings})

    def score(self, predictions: list, references: list, **settings) -> dict[str, float]:
        """The scores by name; see the class."""
        raise NotImplementedError


def check_items(*columns: Sequence) -> None:
    """Raise ValueError for no items: the mean of nothing would be NaN, and pass for a number."""
    if len(columns[0]) == 0:
        raise ValueError("no items to score; give at least one")
    if any(len(column) != len(columns[0]) for column in columns):
        raise ValueError(
            f"columns of {', '.join(str(len(column)) for column in columns)} items; give one of each per item"
        )
